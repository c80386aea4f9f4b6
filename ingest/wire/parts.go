package wire

import (
	"fmt"
	"slices"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/internal/signal"
)

// Part is a share of a request that goes to one partition: a batch, and the
// payload that decodes to the same samples without limits.
type Part struct {
	Partition int
	Format    buffer.Format
	Metrics   *signal.Metrics // nil for a format of spans or log records
	Spans     *signal.Spans   // nil for any other than spans
	Logs      *signal.Logs    // nil for any other than log records
	Payload   []byte
	MinTime   int64 // unix milliseconds of the oldest sample, span or log record; 0 if there is none
	MaxTime   int64
}

// Parter divides batches. The zero value is ready.
type Parter struct {
	// Begins reports whether a share may begin with a row where others precede
	// it. It is for formats in which several rows come out of one message; nil
	// says yes to all.
	Begins func(row uint32) bool

	shares Shares
	own    []signal.Metrics // beside shares.List
	parts  []Part
	home   []int32  // share of every row
	row    []uint32 // its index there
}

// An Encoder appends to dst the payload of some rows of the batch at hand; first
// says that the share is the first of its request, which carries what belongs to
// no row.
type Encoder func(dst []byte, rows []uint32, first bool) []byte

// Whole returns all of m as the only part.
func (p *Parter) Whole(m *signal.Metrics, format buffer.Format, payload []byte) []Part {
	if len(m.Hash) == 0 && len(m.Metadata) == 0 {
		return nil
	}
	p.parts = append(p.parts[:0], Part{Format: format, Metrics: m, Payload: payload})
	p.parts[0].MinTime, p.parts[0].MaxTime = TimeRange(m)
	return p.parts
}

// Divide routes every row of m to a partition and encodes the shares; one whose
// payload is larger than o.MaxBytes is halved until it fits. Metadata goes with
// the first part; if the payload keeps it inside its rows (inRows), there is no
// part without rows.
func (p *Parter) Divide(m *signal.Metrics, format buffer.Format, o PartOptions, inRows bool, route func(row int) int, encode Encoder) ([]Part, error) {
	p.Reset()
	p.shares.Begin(o.Partitions)
	list := p.shares.List
	for i := range m.Hash {
		k := 0
		if o.Partitions > 1 {
			k = route(i)
		}
		list[k].Rows = append(list[k].Rows, uint32(i))
	}
	first := true
	for i := 0; i < len(p.shares.List); i++ {
		s := &p.shares.List[i]
		if len(s.Rows) == 0 && (!first || inRows || len(m.Metadata) == 0) {
			continue
		}
		s.Payload = encode(s.Payload[:0], s.Rows, first)
		if o.MaxBytes > 0 && len(s.Payload) > o.MaxBytes {
			mid := p.middle(s.Rows)
			if mid == 0 {
				return nil, &SizeError{What: "payload of one series for the buffer", Got: len(s.Payload), Limit: o.MaxBytes}
			}
			p.shares.Halve(i, mid)
			i--
			continue
		}
		first = false
	}
	p.scatter(m)
	return p.finish(format), nil
}

// middle returns where to divide rows, about in the middle; 0 says nowhere.
func (p *Parter) middle(rows []uint32) int {
	mid := len(rows) / 2
	if p.Begins == nil {
		return mid
	}
	for k := mid; k < len(rows); k++ {
		if k > 0 && p.Begins(rows[k]) {
			return k
		}
	}
	for mid--; mid > 0 && !p.Begins(rows[mid]); mid-- {
	}
	return max(mid, 0)
}

// scatter copies every row's columns to its share.
func (p *Parter) scatter(m *signal.Metrics) {
	p.home, p.row = resize(p.home, len(m.Hash)), resize(p.row, len(m.Hash))
	metadata := m.Metadata
	p.own = slices.Grow(p.own, len(p.shares.List))[:len(p.shares.List)]
	for k, s := range p.shares.List {
		if len(s.Payload) == 0 {
			continue
		}
		d := &p.own[k]
		d.Buf = m.Buf
		d.Metadata = append(d.Metadata, metadata...)
		metadata = nil
		for j, i := range s.Rows {
			p.home[i], p.row[i] = int32(k), uint32(j)
			begin := uint32(0)
			if i > 0 {
				begin = m.SampleEnd[i-1]
			}
			end := m.SampleEnd[i]
			d.Hash = append(d.Hash, m.Hash[i])
			d.Labels = append(d.Labels, m.Labels[i])
			d.Times = append(d.Times, m.Times[begin:end]...)
			d.Values = append(d.Values, m.Values[begin:end]...)
			if len(m.Starts) > 0 {
				d.Starts = append(d.Starts, m.Starts[begin:end]...)
			}
			d.SampleEnd = append(d.SampleEnd, uint32(len(d.Times)))
		}
	}
	for _, h := range m.Histograms {
		d := &p.own[p.home[h.Series]]
		h.Series = p.row[h.Series]
		d.Histograms = append(d.Histograms, h)
	}
	for _, e := range m.Exemplars {
		d := &p.own[p.home[e.Series]]
		e.Series = p.row[e.Series]
		d.Exemplars = append(d.Exemplars, e)
	}
	for _, i := range m.Deltas {
		d := &p.own[p.home[i]]
		d.Deltas = append(d.Deltas, p.row[i])
	}
}

func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// finish lists the shares that have something.
func (p *Parter) finish(format buffer.Format) []Part {
	p.parts = p.parts[:0]
	for i, s := range p.shares.List {
		if len(s.Payload) == 0 {
			continue
		}
		part := Part{Partition: s.Partition, Format: format, Metrics: &p.own[i], Payload: s.Payload}
		part.MinTime, part.MaxTime = TimeRange(&p.own[i])
		p.parts = append(p.parts, part)
	}
	return p.parts
}

// Reset forgets the batch that was divided last.
func (p *Parter) Reset() {
	clear(p.parts)
	p.parts = p.parts[:0]
	for i := range p.own {
		p.own[i].Buf = nil // it is the batch's
		p.own[i].Reset()
	}
	p.own = p.own[:0]
	p.shares.Reset()
}

// CapBytes is the memory that p keeps.
func (p *Parter) CapBytes() int {
	n := 4*cap(p.home) + 4*cap(p.row) + p.shares.CapBytes()
	for i := range p.own[:cap(p.own)] {
		d := &p.own[:cap(p.own)][i]
		n += 28*cap(d.Hash) + 24*cap(d.Times) + 48*cap(d.Histograms) + 32*cap(d.Exemplars) + 64*cap(d.Metadata)
	}
	return n
}

// TimeRange returns the oldest and newest timestamp of the samples in m, or
// zeros if it has none.
func TimeRange(m *signal.Metrics) (oldest, newest int64) {
	if len(m.Times) > 0 {
		oldest, newest = m.Times[0], m.Times[0]
	} else if len(m.Histograms) > 0 {
		oldest, newest = m.Histograms[0].Time, m.Histograms[0].Time
	}
	for _, t := range m.Times {
		oldest, newest = min(oldest, t), max(newest, t)
	}
	for i := range m.Histograms {
		oldest, newest = min(oldest, m.Histograms[i].Time), max(newest, m.Histograms[i].Time)
	}
	return oldest, newest
}

// MessageName names a format's protobuf message in errors.
func MessageName(f buffer.Format) string {
	switch f {
	case buffer.FormatRemoteWriteV1:
		return "prometheus.WriteRequest"
	case buffer.FormatRemoteWriteV2:
		return "io.prometheus.write.v2.Request"
	case buffer.FormatOTLP, buffer.FormatOTLPSnappy:
		return "opentelemetry.proto.collector.metrics.v1.ExportMetricsServiceRequest"
	case buffer.FormatOTLPTraces, buffer.FormatOTLPTracesSnappy:
		return "opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest"
	case buffer.FormatOTLPLogs, buffer.FormatOTLPLogsSnappy:
		return "opentelemetry.proto.collector.logs.v1.ExportLogsServiceRequest"
	}
	return fmt.Sprintf("payload of format %d", f)
}
