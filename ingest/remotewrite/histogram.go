package remotewrite

import (
	"encoding/binary"
	"math"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/signal"
)

// histogramScratch gathers the repeated fields of the histogram at hand before
// slices of the right size are made of them.
type histogramScratch struct {
	negSpans, posSpans   []histogram.Span
	negDeltas, posDeltas []int64
	negCounts, posCounts []float64
	custom               []float64
}

func (s *histogramScratch) reset() {
	s.negSpans, s.posSpans = s.negSpans[:0], s.posSpans[:0]
	s.negDeltas, s.posDeltas = s.negDeltas[:0], s.posDeltas[:0]
	s.negCounts, s.posCounts = s.negCounts[:0], s.posCounts[:0]
	s.custom = s.custom[:0]
}

func (s *histogramScratch) capBytes() int {
	return 8 * (cap(s.negSpans) + cap(s.posSpans) + cap(s.negDeltas) + cap(s.posDeltas) +
		cap(s.negCounts) + cap(s.posCounts) + cap(s.custom))
}

// histogramValues are the scalar fields of the histogram at hand.
type histogramValues struct {
	isFloat, zeroIsFloat  bool
	countInt, zeroInt     uint64
	countFloat, zeroFloat float64
	sum, zeroThreshold    float64
	schema                int32
	hint                  int32
	time, start           int64
}

// histogram decodes the Histogram message at [i, end) of the series at hand,
// whose field begins at tag. Field numbers are the same in both versions.
func (r *Request) histogram(tag, i, end int) error {
	r.row.samplesSeen = true
	r.hist.reset()
	var v histogramValues
	b := r.body[:end]
	for i < end {
		num, wt, next := wire.Field(b, i)
		if next < 0 {
			return r.syntax(i, "histogram: no valid field tag")
		}
		next, err := r.histogramField(&v, num, wt, i, next, end)
		if err != nil {
			return err
		}
		i = next
	}
	if v.time > r.maxTime {
		return r.refuseFuture(tag, end, v.time, &r.Rejects.Histograms)
	}
	if err := r.budget.Charge(256 + 8*(len(r.hist.negSpans)+len(r.hist.posSpans)+len(r.hist.negDeltas)+len(r.hist.posDeltas)+
		len(r.hist.negCounts)+len(r.hist.posCounts)+len(r.hist.custom))); err != nil {
		return err
	}
	s := signal.HistogramSample{Series: uint32(len(r.Metrics.Hash)), Time: v.time, Start: v.start}
	if err := r.hist.build(&s, &v); err != nil {
		return r.refuseField(tag, end, wire.ReasonInvalidHistogram, "histogram: "+err.Error(), &r.Rejects.Histograms)
	}
	m := &r.Metrics
	var err error
	if m.Histograms, err = wire.Grow(&r.budget, m.Histograms, 48); err != nil {
		return err
	}
	m.Histograms = append(m.Histograms, s)
	return nil
}

// histogramWire returns the wire type of a known field; repeated numbers may
// come packed as well, and then wire.Bytes is right too.
func histogramWire(num int32) (wt int, repeated, known bool) {
	switch num {
	case 1, 4, 6, 14, 15, 17:
		return wire.Varint, false, true
	case 2, 3, 5, 7:
		return wire.Fixed64, false, true
	case 8, 11:
		return wire.Bytes, false, true
	case 9, 12:
		return wire.Varint, true, true
	case 10, 13, 16:
		return wire.Fixed64, true, true
	}
	return 0, false, false
}

// histogramField decodes the field whose tag begins at tag and content at val,
// and returns the index behind it.
func (r *Request) histogramField(v *histogramValues, num int32, wt, tag, val, end int) (int, error) {
	b := r.body[:end]
	want, repeated, known := histogramWire(num)
	if num == 17 && wt != want && r.format == buffer.FormatRemoteWriteV1 {
		known = false
	}
	if known && wt != want && (!repeated || wt != wire.Bytes) {
		return 0, r.syntax(tag, "histogram: field %d has wire type %d, want %d", num, wt, want)
	}
	next := wire.Skip(b, val, wt)
	if next < 0 {
		return 0, r.syntax(tag, "histogram: field %d is cut short", num)
	}
	if !known {
		return next, nil
	}
	s, e := val, next
	if wt == wire.Bytes {
		s, e = wire.Span(b, val)
	}
	switch {
	case repeated:
		return next, r.histogramNumbers(num, want, s, e)
	case want == wire.Bytes:
		return next, r.bucketSpan(num, s, e)
	case want == wire.Fixed64:
		v.setFixed(num, math.Float64frombits(binary.LittleEndian.Uint64(b[val:])))
	default:
		u, _ := wire.Uvarint(b, val)
		v.setVarint(num, u)
	}
	return next, nil
}

func (v *histogramValues) setVarint(num int32, u uint64) {
	switch num {
	case 1:
		v.countInt, v.isFloat = u, false
	case 4:
		v.schema = wire.Unzigzag32(uint32(u))
	case 6:
		v.zeroInt, v.zeroIsFloat = u, false
	case 14:
		v.hint = int32(u)
	case 15:
		v.time = int64(u)
	case 17:
		v.start = int64(u)
	}
}

func (v *histogramValues) setFixed(num int32, f float64) {
	switch num {
	case 2:
		v.countFloat, v.isFloat = f, true
	case 3:
		v.sum = f
	case 5:
		v.zeroThreshold = f
	case 7:
		v.zeroFloat, v.zeroIsFloat = f, true
	}
}

// histogramNumbers appends the values at [i, end) of a repeated field.
func (r *Request) histogramNumbers(num int32, wt, i, end int) error {
	if wt == wire.Varint {
		dst := &r.hist.negDeltas
		if num == 12 {
			dst = &r.hist.posDeltas
		}
		b := r.body[:end]
		for i < end {
			u, next := wire.Uvarint(b, i)
			if next < 0 {
				return r.syntax(i, "histogram: a bucket of field %d is cut short", num)
			}
			var err error
			if *dst, err = wire.Grow(&r.budget, *dst, 8); err != nil {
				return err
			}
			*dst = append(*dst, wire.Unzigzag64(u))
			i = next
		}
		return nil
	}
	dst := &r.hist.negCounts
	switch num {
	case 13:
		dst = &r.hist.posCounts
	case 16:
		dst = &r.hist.custom
	}
	for ; i < end; i += 8 {
		if i+8 > end {
			return r.syntax(i, "histogram: a bucket of field %d is cut short", num)
		}
		var err error
		if *dst, err = wire.Grow(&r.budget, *dst, 8); err != nil {
			return err
		}
		*dst = append(*dst, math.Float64frombits(binary.LittleEndian.Uint64(r.body[i:])))
	}
	return nil
}

// bucketSpan decodes the BucketSpan message at [i, end).
func (r *Request) bucketSpan(num int32, i, end int) error {
	b := r.body[:end]
	var s histogram.Span
	for i < end {
		n, wt, next := wire.Field(b, i)
		if next < 0 || n <= 2 && wt != wire.Varint {
			return r.syntax(i, "histogram: bucket span: no valid field tag")
		}
		val := next
		if next = wire.Skip(b, next, wt); next < 0 {
			return r.syntax(i, "histogram: bucket span: field %d is cut short", n)
		}
		if n <= 2 {
			u, _ := wire.Uvarint(b, val)
			if n == 1 {
				s.Offset = wire.Unzigzag32(uint32(u))
			} else {
				s.Length = uint32(u)
			}
		}
		i = next
	}
	dst := &r.hist.negSpans
	if num == 11 {
		dst = &r.hist.posSpans
	}
	var err error
	if *dst, err = wire.Grow(&r.budget, *dst, 8); err != nil {
		return err
	}
	*dst = append(*dst, s)
	return nil
}

// build makes a histogram of what was gathered and validates it. Resolutions
// finer than Prometheus stores are reduced, as it does.
func (s *histogramScratch) build(out *signal.HistogramSample, v *histogramValues) error {
	reduce := histogram.IsExponentialSchemaReserved(v.schema) && v.schema > histogram.ExponentialSchemaMax
	if v.isFloat {
		fh := &histogram.FloatHistogram{
			CounterResetHint: histogram.CounterResetHint(v.hint), Schema: v.schema, ZeroThreshold: v.zeroThreshold,
			Count: v.countFloat, Sum: v.sum,
			PositiveSpans: clone(s.posSpans), PositiveBuckets: clone(s.posCounts),
			NegativeSpans: clone(s.negSpans), NegativeBuckets: clone(s.negCounts),
			CustomValues: clone(s.custom),
		}
		if v.zeroIsFloat {
			fh.ZeroCount = v.zeroFloat
		}
		if reduce {
			if err := fh.ReduceResolution(histogram.ExponentialSchemaMax); err != nil {
				return err
			}
		}
		out.Float = fh
		return fh.Validate()
	}
	h := &histogram.Histogram{
		CounterResetHint: histogram.CounterResetHint(v.hint), Schema: v.schema, ZeroThreshold: v.zeroThreshold,
		Count: v.countInt, Sum: v.sum,
		PositiveSpans: clone(s.posSpans), PositiveBuckets: clone(s.posDeltas),
		NegativeSpans: clone(s.negSpans), NegativeBuckets: clone(s.negDeltas),
		CustomValues: clone(s.custom),
	}
	if !v.zeroIsFloat {
		h.ZeroCount = v.zeroInt
	}
	if reduce {
		if err := h.ReduceResolution(histogram.ExponentialSchemaMax); err != nil {
			return err
		}
	}
	out.Int = h
	return h.Validate()
}

// clone copies s; nothing becomes nil.
func clone[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return append(make([]T, 0, len(s)), s...)
}
