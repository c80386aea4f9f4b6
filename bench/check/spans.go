package check

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/vedette-io/vedette/bench/client"
)

const (
	spansPerTrace = 5
	traceService  = "check"
	writeKey      = "check.write"
	samplesOfAll  = 50 // traces asked for when the whole run is looked at
)

// writtenTrace is one write of a trace.
type writtenTrace struct {
	id    [16]byte
	start int64     // unix nanoseconds
	acked time.Time // zero: no acknowledgement
	seen  bool      // it was there once
}

// traceLedger is what was written of traces.
type traceLedger struct {
	rng     *rand.Rand
	traces  []writtenTrace
	counted int64 // spans at the last count
}

// traceGap is a fault of one trace, without what is known where it is noted.
func (t *writtenTrace) gap(count int, format string, args ...any) []Gap {
	return []Gap{{Series: fmt.Sprintf("trace %x", t.id), Sample: time.Unix(0, t.start), Acked: t.acked, Count: count, Why: fmt.Sprintf(format, args...)}}
}

// add notes a new trace and returns its number.
func (l *traceLedger) add(now int64) int {
	t := writtenTrace{start: now}
	binary.BigEndian.PutUint64(t.id[:8], l.rng.Uint64())
	binary.BigEndian.PutUint64(t.id[8:], uint64(len(l.traces)+1))
	l.traces = append(l.traces, t)
	return len(l.traces) - 1
}

// mark is the attribute that only the spans of a write have.
func mark(n int) string { return fmt.Sprintf("write-%d", n) }

// traceBody is the request that carries trace n.
func (l *traceLedger) traceBody(n int) ([]byte, error) {
	t := &l.traces[n]
	traces := ptrace.NewTraces()
	rs := traces.ResourceSpans().AppendEmpty()
	rs.Resource().Attributes().PutStr("service.name", traceService)
	spans := rs.ScopeSpans().AppendEmpty().Spans()
	for i := range spansPerTrace {
		s := spans.AppendEmpty()
		s.SetTraceID(t.id)
		id := func(i int) (id pcommon.SpanID) {
			binary.BigEndian.PutUint64(id[:], binary.BigEndian.Uint64(t.id[:8])|1)
			id[7] = byte(i + 1)
			return id
		}
		s.SetSpanID(id(i))
		if i > 0 {
			s.SetParentSpanID(id(0))
		}
		s.SetName(fmt.Sprintf("part %d", i))
		s.SetStartTimestamp(pcommon.Timestamp(t.start + int64(i)))
		s.SetEndTimestamp(pcommon.Timestamp(t.start + int64(i) + int64(time.Millisecond)))
		s.Attributes().PutStr(writeKey, mark(n))
	}
	body, err := ptraceotlp.NewExportRequestFromTraces(traces).MarshalProto()
	if err != nil {
		return nil, fmt.Errorf("encode trace: %w", err)
	}
	return body, nil
}

// compareTrace judges how many spans of a trace an answer has.
func (l *traceLedger) compareTrace(n, got int) []Gap {
	t := &l.traces[n]
	switch {
	case got == spansPerTrace:
		t.seen = true
		return nil
	case got == 0 && t.acked.IsZero() && !t.seen:
		return nil
	case got < spansPerTrace:
		return t.gap(spansPerTrace-got, "has %d spans, want %d", got, spansPerTrace)
	}
	return t.gap(got-spansPerTrace, "has %d spans, sent were %d", got, spansPerTrace)
}

// compareFound judges a search for the mark of trace n.
func (l *traceLedger) compareFound(n int, found []client.Found) []Gap {
	t := &l.traces[n]
	switch {
	case len(found) == 0 && t.acked.IsZero() && !t.seen:
		return nil
	case len(found) != 1 || found[0].ID != t.id || found[0].Matched != spansPerTrace:
		return t.gap(1, "found %+v by its attribute, want this one with %d spans", found, spansPerTrace)
	}
	t.seen = true
	return nil
}

// compareCount judges how many spans a query counts of all.
func (l *traceLedger) compareCount(got int64) []Gap {
	least, most := int64(0), int64(len(l.traces)*spansPerTrace)
	for i := range l.traces {
		if t := &l.traces[i]; !t.acked.IsZero() || t.seen {
			least += spansPerTrace
		}
	}
	least = max(least, l.counted)
	last := &l.traces[len(l.traces)-1]
	if got < least || got > most {
		return last.gap(int(max(least-got, got-most)), "counted %d spans, want %d to %d", got, least, most)
	}
	l.counted = got
	return nil
}

// writeTrace sends a trace and notes whether it was acknowledged.
func (x *run) writeTrace(ctx context.Context, c *http.Client) error {
	n := x.traces.add(time.Now().UnixNano())
	body, err := x.traces.traceBody(n)
	if err != nil {
		return err
	}
	rejected, err := client.Traces(x.p.URL).Post(ctx, c, body, true)
	var refused *client.StatusError
	switch {
	case err == nil && rejected > 0:
		return fmt.Errorf("write trace: %d spans are refused", rejected)
	case err == nil:
		x.traces.traces[n].acked = time.Now()
		x.report.Traces++
		return nil
	case errors.As(err, &refused):
		return fmt.Errorf("write trace: %w", err)
	}
	return ctx.Err()
}

// lookAtTraces asks for the newest trace and one of the older ones, by id and by
// attribute, and counts all spans; of the whole run it asks for more of them.
func (x *run) lookAtTraces(ctx context.Context, whole bool) error {
	l := x.traces
	if l == nil || len(l.traces) == 0 {
		return nil
	}
	newest := len(l.traces) - 1
	ask := []int{newest, l.rng.IntN(len(l.traces))}
	if whole {
		for i := range samplesOfAll {
			ask = append(ask, (2*i+1)*len(l.traces)/(2*samplesOfAll))
		}
		for n := range l.traces {
			if l.traces[n].acked.IsZero() {
				ask = append(ask, n)
			}
		}
	}
	for i, n := range ask {
		start := time.Now()
		got, err := client.Trace(ctx, x.client, x.p.URL, l.traces[n].id)
		if err != nil {
			return fmt.Errorf("look at a trace: %w", err)
		}
		x.note("trace by id", start, l.compareTrace(n, got.SpanCount()))
		if i > 1 && i%10 != 0 {
			continue
		}
		start = time.Now()
		query := fmt.Sprintf("{ span.%s = %q }", writeKey, mark(n))
		from, to := l.window()
		found, err := client.SearchTraces(ctx, x.client, x.p.URL, query, from, to, 20)
		if err != nil {
			return fmt.Errorf("look for a trace: %w", err)
		}
		x.note(query, start, l.compareFound(n, found))
	}
	return x.countTraces(ctx, whole)
}

// window is the time that all traces start in.
func (l *traceLedger) window() (from, to int64) {
	return l.traces[0].start - int64(time.Second), l.traces[len(l.traces)-1].start + int64(time.Second)
}

// countTraces counts all spans with one value, or with one of every ten seconds.
func (x *run) countTraces(ctx context.Context, whole bool) error {
	const query = `{ resource.service.name = "` + traceService + `" } | count_over_time()`
	from, to := x.traces.window()
	step := time.Duration(to - from)
	if whole {
		step = 10 * time.Second
		from -= int64(step) // the first value is of the step before
	}
	start := time.Now()
	series, err := client.TraceMetrics(ctx, x.client, x.p.URL, query, from, to, step)
	if err != nil {
		return fmt.Errorf("count spans: %w", err)
	}
	got := int64(0)
	for _, s := range series {
		got += int64(s.Sum())
	}
	x.note(query, start, x.traces.compareCount(got))
	return nil
}
