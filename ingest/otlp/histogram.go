package otlp

import (
	"encoding/binary"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"

	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
)

// histogramPoint decodes a HistogramDataPoint.
func (r *Request) histogramPoint(i, end int) error {
	const what = "histogram data point"
	p := &r.pt
	r.ex.begin(len(r.drops))
	b := r.body[:end]
	for i < end {
		switch tag := b[i]; tag {
		case tagStart, tagTime, 4<<3 | wire.Fixed64, 5<<3 | wire.Fixed64, 6<<3 | wire.Fixed64, 7<<3 | wire.Fixed64,
			11<<3 | wire.Fixed64, 12<<3 | wire.Fixed64:
			v, ok := fixed(b, i)
			if !ok {
				return r.syntax(i, "%s: field %d is cut short", what, tag>>3)
			}
			switch tag {
			case tagStart:
				p.start = v
			case tagTime:
				p.time = v
			case 4<<3 | wire.Fixed64:
				p.count = v
			case 5<<3 | wire.Fixed64:
				p.value, p.hasValue = math.Float64frombits(v), true
			case 6<<3 | wire.Fixed64:
				p.counts = append(p.counts, b[i+1:i+9]...)
			case 7<<3 | wire.Fixed64:
				p.bounds = append(p.bounds, b[i+1:i+9]...)
			}
			i += 9
		case 6<<3 | wire.Bytes, 7<<3 | wire.Bytes, 8<<3 | wire.Bytes, 9<<3 | wire.Bytes:
			s, e := content(b, i)
			if s < 0 {
				return r.syntax(i, "%s: field %d is cut short", what, tag>>3)
			}
			if tag <= 7<<3|wire.Bytes && (e-s)%8 != 0 {
				return r.syntax(i, "%s: field %d has %d bytes, want a multiple of 8", what, tag>>3, e-s)
			}
			switch tag {
			case 6<<3 | wire.Bytes:
				p.counts = joinBytes(p.counts, b[s:e:e])
			case 7<<3 | wire.Bytes:
				p.bounds = joinBytes(p.bounds, b[s:e:e])
			case 8<<3 | wire.Bytes:
				if err := r.exemplar(i, s, e); err != nil {
					return err
				}
			default:
				p.attribute(b, i, e)
			}
			i = e
		case 10<<3 | wire.Varint:
			v, next := wire.Uvarint(b, i+1)
			if next < 0 {
				return r.syntax(i, "%s: field 10 is cut short", what)
			}
			p.flags, i = v, next
		default:
			var err error
			if i, err = r.otherField(b, i, what, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12); err != nil {
				return err
			}
		}
	}
	if r.set.cfg.ConvertHistogramsToNHCB {
		return r.endCustom()
	}
	return r.endClassic()
}

// joinBytes returns a followed by b, or b itself. Neither is written to.
func joinBytes(a, b []byte) []byte {
	if len(a) == 0 {
		return b
	}
	return append(a[:len(a):len(a)], b...)
}

// endClassic adds the histogram at hand as _sum, if it has one, _count and
// _bucket series.
func (r *Request) endClassic() error {
	p := &r.pt
	t, start := millis(p.time), millis(p.start)
	if t > r.maxTime {
		r.refuseFuture(t)
		return nil
	}
	n := min(len(p.bounds), len(p.counts))
	p.bounds = p.bounds[:n]
	attrs, at := r.attributes()
	rows, err := r.rowsOf(with(with(r.mt.ctx, attrs), p.bounds), shapeClassic, attrs, at)
	if rows == nil || err != nil {
		return err
	}
	if err := r.room(len(rows)); err != nil {
		return err
	}
	first := len(r.Metrics.Hash)
	base := rows[0].hash
	if p.hasValue {
		r.addSample(t, start, p.val(p.value))
		r.endRow(rows[1])
	}
	r.addSample(t, start, p.val(float64(p.count)))
	r.endRow(rows[2])
	buckets := rows[3:]
	cumulative := uint64(0)
	for i := 0; i < n; i += 8 {
		cumulative += binary.LittleEndian.Uint64(p.counts[i:])
		if err := r.bucketExemplars(math.Float64frombits(binary.LittleEndian.Uint64(p.bounds[i:]))); err != nil {
			return err
		}
		r.addSample(t, start, p.val(float64(cumulative)))
		r.endRow(buckets[i/8])
	}
	if err := r.bucketExemplars(math.NaN()); err != nil {
		return err
	}
	r.addSample(t, start, p.val(float64(p.count)))
	r.endRow(buckets[n/8])
	return r.endPoint(first, base)
}

// bucketExemplars gives the pending exemplars up to a bound, in the order in which
// they came, to the row at hand; a bound that is not a number takes all.
func (r *Request) bucketExemplars(bound float64) error {
	n := 0
	for _, e := range r.ex.list[r.ex.attached:] {
		if e.Value > bound {
			break
		}
		n++
	}
	if n == 0 {
		return nil
	}
	return r.attachExemplars(len(r.Metrics.Hash), n)
}

// endCustom adds the histogram at hand as a native one with custom buckets.
func (r *Request) endCustom() error {
	p, d := &r.pt, &r.build.dense[0]
	d.counts, d.offset = d.counts[:0], 0
	var err error
	if d.counts, err = grow(&r.budget, d.counts, len(p.counts)/8, 8); err != nil {
		return err
	}
	for i := 0; i < len(p.counts); i += 8 {
		d.counts = append(d.counts, binary.LittleEndian.Uint64(p.counts[i:]))
	}
	if err := r.budget.Charge(256 + len(p.bounds) + 16*len(d.counts)); err != nil {
		return err
	}
	h := &histogram.Histogram{Schema: histogram.CustomBucketsSchema}
	h.PositiveSpans, h.PositiveBuckets, _ = d.sparse(0, 0)
	if len(p.bounds) > 0 {
		h.CustomValues = make([]float64, 0, len(p.bounds)/8)
		for i := 0; i < len(p.bounds); i += 8 {
			h.CustomValues = append(h.CustomValues, math.Float64frombits(binary.LittleEndian.Uint64(p.bounds[i:])))
		}
	}
	return r.endNative(h)
}

// endNative adds the native histogram made of the point at hand, once its sum,
// count and hint are set.
func (r *Request) endNative(h *histogram.Histogram) error {
	p := &r.pt
	t := millis(p.time)
	if t > r.maxTime {
		r.refuseFuture(t)
		return nil
	}
	if r.mt.delta && r.set.cfg.Delta == DeltaNative {
		h.CounterResetHint = histogram.GaugeType // as Prometheus marks what is no counter
	}
	h.Count, h.Sum = p.count, p.value
	if p.stale() {
		h.Count, h.Sum = value.StaleNaN, math.Float64frombits(value.StaleNaN)
	}
	if err := h.Validate(); err != nil {
		r.refusePoint(wire.ReasonInvalidHistogram, "histogram: "+err.Error())
		return nil
	}
	attrs, at := r.attributes()
	rows, err := r.rowsOf(with(r.mt.ctx, attrs), shapeSingle, attrs, at)
	if rows == nil || err != nil {
		return err
	}
	if err := r.room(1); err != nil {
		return err
	}
	m := &r.Metrics
	if m.Histograms, err = wire.Grow(&r.budget, m.Histograms, 48); err != nil {
		return err
	}
	row := len(m.Hash)
	m.Histograms = append(m.Histograms, signal.HistogramSample{Series: uint32(row), Time: t, Start: millis(p.start), Int: h})
	r.endRow(rows[0])
	if len(r.ex.list) > 0 {
		if err := r.attachExemplars(row, len(r.ex.list)); err != nil {
			return err
		}
	}
	return r.endPoint(row, rows[0].hash)
}

// endPoint notes the point whose rows, from the given one on, have been added.
func (r *Request) endPoint(firstRow int, base labels.Hash) error {
	p := &r.pt
	r.points = append(r.points, point{
		off: uint32(p.tag), end: uint32(p.end), row: uint32(firstRow), metric: uint32(len(r.metrics) - 1), route: base.Lo,
	})
	r.res.saw(p.time)
	if p.start != 0 {
		p.anyStart = true
	}
	if !r.mt.delta || r.set.cfg.Delta != DeltaCumulative {
		return nil
	}
	m := &r.Metrics
	n := len(m.Hash) - firstRow
	var err error
	if m.Deltas, err = grow(&r.budget, m.Deltas, n, 4); err != nil {
		return err
	}
	for i := range n {
		m.Deltas = append(m.Deltas, uint32(firstRow+i))
	}
	return nil
}
