// Package ingesttest holds a sink for tests: it keeps what it gets in plain
// form and can be told to fail, to stall, and how far it is durable.
package ingesttest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/vedette-io/vedette/ingest/remotewrite"
	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
)

// Sink records batches. Its zero value is ready for use.
type Sink struct {
	// Append, if set, is asked about every batch before it is recorded: its
	// result is returned, its error refuses the batch.
	Append func(b *signal.Metrics, partition int32, offset int64) (signal.AppendResult, error)

	mu      sync.Mutex
	lines   []string
	spans   []string
	logs    []string
	meta    []signal.Metadata
	offsets map[int32][]int64
	durable map[int32]int64
}

// AppendMetrics implements ingest.Sink.
func (s *Sink) AppendMetrics(_ context.Context, b *signal.Metrics, _, _ string, partition int32, offset int64) (signal.AppendResult, error) {
	result := signal.AppendResult{Appended: b.Samples(), Histograms: len(b.Histograms), Exemplars: len(b.Exemplars)}
	if s.Append != nil {
		var err error
		if result, err = s.Append(b, partition, offset); err != nil {
			return signal.AppendResult{}, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.offsets == nil {
		s.offsets = map[int32][]int64{}
	}
	s.offsets[partition] = append(s.offsets[partition], offset)
	s.lines = append(s.lines, Lines(b)...)
	s.meta = append(s.meta, b.Metadata...)
	return result, nil
}

// AppendSpans implements ingest.SpanSink.
func (s *Sink) AppendSpans(_ context.Context, b *signal.Spans, _, _ string, partition int32, offset int64) (signal.AppendResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.offsets == nil {
		s.offsets = map[int32][]int64{}
	}
	s.offsets[partition] = append(s.offsets[partition], offset)
	s.spans = append(s.spans, SpanLines(b)...)
	return signal.AppendResult{Appended: b.Len()}, nil
}

// AppendLogs implements ingest.LogSink.
func (s *Sink) AppendLogs(_ context.Context, b *signal.Logs, _, _ string, partition int32, offset int64) (signal.AppendResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.offsets == nil {
		s.offsets = map[int32][]int64{}
	}
	s.offsets[partition] = append(s.offsets[partition], offset)
	for i := range b.Services {
		v := &b.Services[i]
		s.logs = append(s.logs, fmt.Sprintf("%s %s %d %v", b.Tenant, b.NameOf(v), v.Records(), v.BySeverity))
	}
	return signal.AppendResult{Appended: b.Len()}, nil
}

// Logs returns what has come of log records, sorted: for every resource of a batch
//
//	tenant service records [records by severity]
func (s *Sink) Logs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := slices.Clone(s.logs)
	slices.Sort(lines)
	return lines
}

// Spans returns what has come, as SpanLines prints it, sorted.
func (s *Sink) Spans() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := slices.Clone(s.spans)
	slices.Sort(lines)
	return lines
}

// Durable implements ingest.Sink.
func (s *Sink) Durable(_, _ string, partition int32) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.durable[partition]
}

// Covered implements ingest.Sink: the same as Durable.
func (s *Sink) Covered(source, topic string, partition int32) int64 {
	return s.Durable(source, topic, partition)
}

// SetDurable sets what Durable and Covered answer for a partition.
func (s *Sink) SetDurable(partition int32, next int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.durable == nil {
		s.durable = map[int32]int64{}
	}
	s.durable[partition] = next
}

// Flush implements ingest.Sink: it makes everything durable that has come so far.
func (s *Sink) Flush(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.durable == nil {
		s.durable = map[int32]int64{}
	}
	for p, offsets := range s.offsets {
		s.durable[p] = max(s.durable[p], offsets[len(offsets)-1]+1)
	}
	return nil
}

// Lines returns what has come, as Lines prints it, sorted.
func (s *Sink) Lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := slices.Clone(s.lines)
	slices.Sort(lines)
	return lines
}

// Metadata returns the metadata that has come.
func (s *Sink) Metadata() []signal.Metadata {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.meta)
}

// Offsets returns the offsets of a partition in the order in which they came.
func (s *Sink) Offsets(partition int32) []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.offsets[partition])
}

// SpanLines prints every span of a batch on a line of its own:
//
//	tenant trace-id span-id parent-id "name" kind status start end attributes=n events=n links=n
func SpanLines(b *signal.Spans) []string {
	out := make([]string, 0, b.Len())
	for i := range b.Len() {
		out = append(out, fmt.Sprintf("%s %x %x %x %q %d %d %d %d attributes=%d events=%d links=%d", b.Tenant, b.TraceIDs[i], b.SpanIDs[i], b.Parents[i],
			b.Bytes(b.Names[i]), b.Kinds[i], b.Statuses[i], b.Starts[i], b.Ends[i],
			len(b.SpanAttrs(i)), b.EventEnd[i]-b.EventBegin[i], b.LinkEnd[i]-b.LinkBegin[i]))
	}
	return out
}

// Lines prints every sample of a batch on a line of its own:
//
//	tenant {labels} time value [start=…]
func Lines(b *signal.Metrics) []string {
	var out []string
	name := func(i uint32) string {
		lset := b.Bytes(b.Labels[i])
		if b.Hash[i] != labels.HashCanonical(lset) {
			return "BAD HASH"
		}
		return b.Tenant + " " + string(remotewrite.AppendText(nil, lset, 1<<20))
	}
	begin := uint32(0)
	for i, end := range b.SampleEnd {
		for ; begin < end; begin++ {
			line := fmt.Sprintf("%s %d %v", name(uint32(i)), b.Times[begin], b.Values[begin])
			if math.IsNaN(b.Values[begin]) {
				line = fmt.Sprintf("%s %d NaN:%x", name(uint32(i)), b.Times[begin], math.Float64bits(b.Values[begin]))
			}
			if len(b.Starts) > 0 && b.Starts[begin] != 0 {
				line += fmt.Sprintf(" start=%d", b.Starts[begin])
			}
			out = append(out, line)
		}
	}
	for i := range b.Histograms {
		h := &b.Histograms[i]
		text := ""
		if h.Int != nil {
			text = h.Int.String()
		} else {
			text = h.Float.String()
		}
		line := fmt.Sprintf("%s %d %s", name(h.Series), h.Time, text)
		if h.Start != 0 {
			line += fmt.Sprintf(" start=%d", h.Start)
		}
		out = append(out, line)
	}
	for _, e := range b.Exemplars {
		out = append(out, fmt.Sprintf("%s # %s %v %d", name(e.Series), remotewrite.AppendText(nil, b.Bytes(e.Labels), 1<<20), e.Value, e.Time))
	}
	return out
}
