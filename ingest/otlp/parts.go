package otlp

import (
	"encoding/binary"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/remotewrite"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/labels"
)

// frame is what building a part's payload needs.
type frame struct {
	points  []uint32 // of the share at hand
	pointOf []uint32 // of every row
	out     []byte   // message under construction
	plain   bool
}

func (f *frame) capBytes() int {
	return 4*(cap(f.points)+cap(f.pointOf)) + cap(f.out)
}

// Parts implements wire.Decoder. A request that goes to one partition, fits, and
// of which nothing was refused stays as it is. Otherwise the messages of the
// points are copied into new envelopes. A point goes as a whole to the partition
// of its base series, the one without le and quantile; that of a number is its
// series, so that remote write and OTLP agree. Metadata is repeated by the
// metrics, so that any part may bring it.
func (r *Request) Parts(payload []byte, o wire.PartOptions) ([]wire.Part, error) {
	m := &r.Metrics
	m.Tenant = ""
	f := &r.frame
	f.plain = o.Plain
	format := buffer.FormatOTLPSnappy
	if o.Plain {
		format = buffer.FormatOTLP
	}
	if err := r.budget.Charge(3*len(r.body) + 72*len(m.Hash) + 16*len(m.Times)); err != nil {
		return nil, err
	}
	if o.Partitions == 1 && !r.Rejects.Any() {
		whole := payload
		switch {
		case format == r.format:
		case o.Plain:
			whole = r.body
		default:
			f.out = wire.Pack(f.out, r.body, false)
			whole = f.out
		}
		if o.MaxBytes == 0 || len(whole) <= o.MaxBytes {
			return r.parter.Whole(m, format, whole), nil
		}
	}
	f.pointOf = f.pointOf[:0]
	for k := range r.points {
		end := len(m.Hash)
		if k+1 < len(r.points) {
			end = int(r.points[k+1].row)
		}
		for len(f.pointOf) < end {
			f.pointOf = append(f.pointOf, uint32(k))
		}
	}
	r.parter.Begins = func(row uint32) bool { return r.points[f.pointOf[row]].row == row }
	return r.parter.Divide(m, format, o, true, func(row int) int {
		return remotewrite.PartitionOf(labels.Hash{Lo: r.points[f.pointOf[row]].route}, o.Partitions)
	}, r.encode)
}

// encode is a wire.Encoder.
func (r *Request) encode(payload []byte, rows []uint32, _ bool) []byte {
	f := &r.frame
	f.points = f.points[:0]
	for _, row := range rows {
		if k := f.pointOf[row]; len(f.points) == 0 || f.points[len(f.points)-1] != k {
			f.points = append(f.points, k)
		}
	}
	f.out = f.out[:0]
	for i := 0; i < len(f.points); {
		i = r.encodeResource(i)
	}
	return wire.Pack(payload, f.out, f.plain)
}

// resourceOf returns the resource of a point.
func (r *Request) resourceOf(p *point) uint32 {
	if p.metric == noMetric {
		return p.off
	}
	return r.scopes[r.metrics[p.metric].scope].parent
}

// encodeResource appends the envelope of a resource with the points of the share
// from the i-th on that belong to it, and returns the index of the next one. An
// envelope is begun with a length of full width that is set when it ends.
func (r *Request) encodeResource(i int) (next int) {
	f := &r.frame
	k := r.resourceOf(&r.points[f.points[i]])
	res := &r.resources[k]
	outer := f.open(fieldResourceMetrics)
	r.copyFields(res.off, res.end, func(num int32) bool {
		return num != fieldScopeMetrics && num != fieldOldScopeMetrics && num != fieldTargetInfo
	})
	told := false
	for i < len(f.points) {
		p := &r.points[f.points[i]]
		if r.resourceOf(p) != k {
			break
		}
		if p.metric == noMetric {
			r.encodeTarget(p)
			told = true
			i++
			continue
		}
		i = r.encodeScope(i)
	}
	if !told {
		f.out = binary.AppendUvarint(f.out, fieldTargetInfo<<3|wire.Bytes)
		f.out = append(f.out, 0)
	}
	f.out = wire.CloseMessage(f.out, outer)
	return i
}

// encodeScope appends the envelope of a scope with the points from the i-th on.
func (r *Request) encodeScope(i int) (next int) {
	f := &r.frame
	k := r.metrics[r.points[f.points[i]].metric].scope
	s := &r.scopes[k]
	outer := f.open(fieldScopeMetrics)
	r.copyFields(s.off, s.end, func(num int32) bool { return num != fieldMetric })
	for i < len(f.points) {
		p := &r.points[f.points[i]]
		if p.metric == noMetric || r.metrics[p.metric].scope != k {
			break
		}
		i = r.encodeMetric(i)
	}
	f.out = wire.CloseMessage(f.out, outer)
	return i
}

// encodeMetric appends the envelope of a metric with the points from the i-th on.
func (r *Request) encodeMetric(i int) (next int) {
	f := &r.frame
	k := r.points[f.points[i]].metric
	mt := &r.metrics[k]
	outer := f.open(fieldMetric)
	r.copyFields(mt.off, mt.end, func(num int32) bool {
		return num != 5 && num != 7 && num != 9 && num != 10 && num != 11
	})
	inner := f.open(mt.field)
	r.copyFields(mt.dataOff, mt.dataEnd, func(num int32) bool { return num != fieldDataPoints })
	for ; i < len(f.points) && r.points[f.points[i]].metric == k; i++ {
		r.encodePoint(&r.points[f.points[i]])
	}
	f.out = wire.CloseMessage(f.out, inner)
	f.out = wire.CloseMessage(f.out, outer)
	return i
}

// encodePoint appends the field of a point without its refused exemplars.
func (r *Request) encodePoint(p *point) {
	f := &r.frame
	lo, hi := r.dropsIn(p)
	if lo == hi {
		f.out = append(f.out, r.body[p.off:p.end]...)
		return
	}
	_, _, next := wire.Field(r.body, int(p.off))
	s, _ := wire.Span(r.body, next)
	outer := f.open(fieldDataPoints)
	pos := uint32(s)
	for _, d := range r.drops[lo:hi] {
		f.out = append(f.out, r.body[pos:d.Off]...)
		pos = d.Off + d.Len
	}
	f.out = append(f.out, r.body[pos:p.end]...)
	f.out = wire.CloseMessage(f.out, outer)
}

// dropsIn returns the range of r.drops that lies in a point.
func (r *Request) dropsIn(p *point) (lo, hi int) {
	if len(r.drops) == 0 {
		return 0, 0
	}
	n := len(r.drops)
	for lo, hi = 0, n; lo < hi; {
		if mid := (lo + hi) / 2; r.drops[mid].Off < p.off {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	for hi = lo; hi < n && r.drops[hi].Off < p.end; {
		hi++
	}
	return lo, hi
}

// encodeTarget appends the times of a row of target_info.
func (r *Request) encodeTarget(p *point) {
	f, m := &r.frame, &r.Metrics
	begin := uint32(0)
	if p.row > 0 {
		begin = m.SampleEnd[p.row-1]
	}
	outer := f.open(fieldTargetInfo)
	for _, t := range m.Times[begin:m.SampleEnd[p.row]] {
		f.out = binary.AppendUvarint(f.out, uint64(t))
	}
	f.out = wire.CloseMessage(f.out, outer)
}

// copyFields appends those fields of the message at [off, end) of the body, which
// is known to be well-formed, whose numbers keep wants.
func (r *Request) copyFields(off, end uint32, keep func(num int32) bool) {
	f := &r.frame
	b := r.body[:end]
	for i := int(off); i < int(end); {
		num, wt, next := wire.Field(b, i)
		next = wire.Skip(b, next, wt)
		if keep(num) {
			f.out = append(f.out, b[i:next]...)
		}
		i = next
	}
}

// open begins a message in the given field and returns where its content begins.
func (f *frame) open(field int32) (content int) {
	f.out, content = wire.OpenMessage(f.out, uint64(field))
	return content
}
