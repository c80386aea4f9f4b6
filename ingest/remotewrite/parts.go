package remotewrite

import (
	"encoding/binary"

	"github.com/klauspost/compress/s2"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
)

// Part is the share of a request that goes to one partition: a batch, and the
// payload that decodes to the same samples without limits.
type Part struct {
	Partition int
	Metrics   *signal.Metrics
	Payload   []byte
	MinTime   int64 // unix milliseconds of the oldest sample; 0 if there is none
	MaxTime   int64

	own      signal.Metrics
	series   []uint32
	compress []byte
}

func (p *Part) reset() {
	p.own.Buf = nil
	p.own.Reset()
	p.Metrics, p.Payload = nil, nil
	p.series = p.series[:0]
}

func (p *Part) capBytes() int {
	return 28*cap(p.own.Hash) + 24*cap(p.own.Times) + 48*cap(p.own.Histograms) + 32*cap(p.own.Exemplars) +
		64*cap(p.own.Metadata) + 4*cap(p.series) + cap(p.compress)
}

// Parts splits what Decode has accepted by partition, of which there are n.
// compressed is what was decoded; it becomes the payload as it is if it goes to
// one partition and nothing of it was refused. The parts without content are
// left out. They are valid until Reset.
func (r *Request) Parts(compressed []byte, n int) ([]Part, error) {
	for len(r.parts) < n {
		r.parts = append(r.parts, Part{})
	}
	r.Metrics.Tenant = ""
	if n == 1 {
		return r.whole(compressed)
	}
	if err := r.charge(2*len(r.body) + 64*len(r.Metrics.Hash) + 16*len(r.Metrics.Times)); err != nil {
		return nil, err
	}
	return r.split(n), nil
}

// whole makes the only part.
func (r *Request) whole(compressed []byte) ([]Part, error) {
	p := &r.parts[0]
	p.Partition = 0
	p.Metrics = &r.Metrics
	p.Payload = compressed
	if r.Rejects.Any() {
		if err := r.charge(2 * len(r.body)); err != nil {
			return nil, err
		}
		p.series = p.series[:0]
		for i := range r.Metrics.Hash {
			p.series = append(p.series, uint32(i))
		}
		r.encode(p, true)
	}
	if isEmpty(p.Metrics) {
		return nil, nil
	}
	p.MinTime, p.MaxTime = TimeRange(p.Metrics)
	return r.parts[:1], nil
}

// split distributes the series by hash and copies their messages.
func (r *Request) split(n int) []Part {
	parts := r.parts[:n]
	for i := range parts {
		parts[i].Partition = i
		parts[i].series = parts[i].series[:0]
	}
	for i, h := range r.Metrics.Hash {
		p := &parts[PartitionOf(h, n)]
		p.series = append(p.series, uint32(i))
	}
	r.splitColumns(parts)
	// 1.0 metadata belongs to no series and goes with the first part. 2.0's is
	// repeated by the series, so that any part may bring it.
	kept := 0
	metadata := r.Metrics.Metadata
	for i := range parts {
		p := &parts[i]
		if len(p.series) == 0 && (len(metadata) == 0 || r.format == buffer.FormatRemoteWriteV2) {
			continue
		}
		p.Metrics = &p.own
		p.own.Buf = r.Metrics.Buf
		p.own.Metadata = append(p.own.Metadata[:0], metadata...)
		r.encode(p, len(metadata) > 0)
		metadata = nil
		p.MinTime, p.MaxTime = TimeRange(p.Metrics)
		parts[kept], parts[i] = parts[i], parts[kept]
		if parts[kept].Metrics != nil {
			parts[kept].Metrics = &parts[kept].own
		}
		kept++
	}
	return parts[:kept]
}

// splitColumns copies every series' columns to its part.
func (r *Request) splitColumns(parts []Part) {
	m := &r.Metrics
	row := make([]uint32, len(m.Hash)) // index of series i in its part
	for k := range parts {
		d := &parts[k].own
		for j, i := range parts[k].series {
			row[i] = uint32(j)
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
		d := &parts[PartitionOf(m.Hash[h.Series], len(parts))].own
		h.Series = row[h.Series]
		d.Histograms = append(d.Histograms, h)
	}
	for _, e := range m.Exemplars {
		d := &parts[PartitionOf(m.Hash[e.Series], len(parts))].own
		e.Series = row[e.Series]
		d.Exemplars = append(d.Exemplars, e)
	}
}

// PartitionOf returns the partition of n to which a series belongs.
func PartitionOf(h labels.Hash, n int) int { return int(h.Lo % uint64(n)) }

func isEmpty(m *signal.Metrics) bool { return len(m.Hash) == 0 && len(m.Metadata) == 0 }

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

// encode fills p.Payload with a request of the part's series: their messages
// copied without the refused fields, the symbols all, the 1.0 metadata if
// wanted.
func (r *Request) encode(p *Part, metadata bool) {
	dst := r.scratch[:0]
	tag := byte(0x0a) // field 1
	if r.format == buffer.FormatRemoteWriteV2 {
		tag = 0x2a // field 5
		for _, s := range r.symbols {
			dst = append(dst, 0x22) // field 4
			dst = binary.AppendUvarint(dst, uint64(s.text.Len))
			dst = append(dst, r.at(s.text)...)
		}
	}
	drop := 0
	for _, i := range p.series {
		msg := r.spans[i]
		end := msg.Off + msg.Len
		for drop < len(r.drops) && r.drops[drop].Off < msg.Off {
			drop++
		}
		first, size := drop, msg.Len
		for ; drop < len(r.drops) && r.drops[drop].Off < end; drop++ {
			size -= r.drops[drop].Len
		}
		dst = append(dst, tag)
		dst = binary.AppendUvarint(dst, uint64(size))
		pos := msg.Off
		for _, d := range r.drops[first:drop] {
			dst = append(dst, r.body[pos:d.Off]...)
			pos = d.Off + d.Len
		}
		dst = append(dst, r.body[pos:end]...)
	}
	if metadata {
		for _, m := range r.metas {
			dst = append(dst, 0x1a) // field 3
			dst = binary.AppendUvarint(dst, uint64(m.Len))
			dst = append(dst, r.at(m)...)
		}
	}
	r.scratch = dst
	p.compress = s2.EncodeSnappy(p.compress[:cap(p.compress)], dst)
	p.Payload = p.compress
}
