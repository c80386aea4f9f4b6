package otlp

import (
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/vedette-io/vedette/ingest/wire"
)

// zeroThreshold is what Prometheus gives to every histogram from OTLP, whatever
// the sender's is.
const zeroThreshold = 1e-128

// denseBuckets are buckets without gaps; the first one has the index offset.
type denseBuckets struct {
	offset int32
	counts []uint64
}

// exponentialPoint decodes an ExponentialHistogramDataPoint.
func (r *Request) exponentialPoint(i, end int) error {
	const what = "exponential histogram data point"
	p := &r.pt
	r.ex.begin(len(r.drops))
	dense := &r.build.dense
	for k := range dense {
		dense[k].offset, dense[k].counts = 0, dense[k].counts[:0]
	}
	scale := int32(0)
	zeros := uint64(0)
	b := r.body[:end]
	for i < end {
		switch tag := b[i]; tag {
		case tagStart, tagTime, 4<<3 | wire.Fixed64, 5<<3 | wire.Fixed64, 7<<3 | wire.Fixed64,
			12<<3 | wire.Fixed64, 13<<3 | wire.Fixed64, 14<<3 | wire.Fixed64:
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
			case 7<<3 | wire.Fixed64:
				zeros = v
			}
			i += 9
		case 1<<3 | wire.Bytes, 8<<3 | wire.Bytes, 9<<3 | wire.Bytes, 11<<3 | wire.Bytes:
			s, e := content(b, i)
			if s < 0 {
				return r.syntax(i, "%s: field %d is cut short", what, tag>>3)
			}
			var err error
			switch tag {
			case 1<<3 | wire.Bytes:
				p.attribute(b, i, e)
			case 8<<3 | wire.Bytes:
				err = r.buckets(&dense[0], s, e)
			case 9<<3 | wire.Bytes:
				err = r.buckets(&dense[1], s, e)
			default:
				err = r.exemplar(i, s, e)
			}
			if err != nil {
				return err
			}
			i = e
		case 6<<3 | wire.Varint, 10<<3 | wire.Varint:
			v, next := wire.Uvarint(b, i+1)
			if next < 0 {
				return r.syntax(i, "%s: field %d is cut short", what, tag>>3)
			}
			if tag == 6<<3|wire.Varint {
				scale = wire.Unzigzag32(uint32(v))
			} else {
				p.flags = v
			}
			i = next
		default:
			var err error
			if i, err = r.otherField(b, i, what, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14); err != nil {
				return err
			}
		}
	}
	return r.endExponential(scale, zeros)
}

// buckets decodes a Buckets message.
func (r *Request) buckets(d *denseBuckets, i, end int) error {
	const what = "buckets"
	b := r.body[:end]
	for i < end {
		num, wt, s, e, err := r.field(b, i, what)
		if err != nil {
			return err
		}
		switch {
		case num > 2:
		case wt == wire.Varint && num == 1:
			v, _ := wire.Uvarint(b, s)
			d.offset = wire.Unzigzag32(uint32(v))
		case wt == wire.Varint || wt == wire.Bytes && num == 2:
			if err := r.bucketCounts(d, s, e); err != nil {
				return err
			}
		default:
			return r.syntax(i, "%s: field %d has wire type %d", what, num, wt)
		}
		i = e
	}
	return nil
}

// bucketCounts appends the varints in [i, end).
func (r *Request) bucketCounts(d *denseBuckets, i, end int) error {
	b := r.body[:end]
	for i < end {
		v, next := wire.Uvarint(b, i)
		if next < 0 {
			return r.syntax(i, "buckets: a count is cut short")
		}
		if len(d.counts) == cap(d.counts) {
			var err error
			if d.counts, err = wire.Grow(&r.budget, d.counts, 8); err != nil {
				return err
			}
		}
		d.counts = append(d.counts, v)
		i = next
	}
	return nil
}

// endExponential adds the exponential histogram at hand as a native one.
// Resolutions finer than Prometheus stores are reduced.
func (r *Request) endExponential(scale int32, zeros uint64) error {
	if scale < histogram.ExponentialSchemaMin {
		r.refusePoint(wire.ReasonInvalidHistogram, fmt.Sprintf("histogram: scale %d, want >= %d", scale, histogram.ExponentialSchemaMin))
		return nil
	}
	down := int32(0)
	if scale > histogram.ExponentialSchemaMax {
		down, scale = scale-histogram.ExponentialSchemaMax, histogram.ExponentialSchemaMax
	}
	dense := &r.build.dense
	if err := r.budget.Charge(256 + 16*(len(dense[0].counts)+len(dense[1].counts))); err != nil {
		return err
	}
	h := &histogram.Histogram{Schema: scale, ZeroThreshold: zeroThreshold, ZeroCount: zeros}
	var okPos, okNeg bool
	// OTLP's bucket 0 lies above 1, Prometheus's below and up to 1.
	h.PositiveSpans, h.PositiveBuckets, okPos = dense[0].sparse(uint(down), 1)
	h.NegativeSpans, h.NegativeBuckets, okNeg = dense[1].sparse(uint(down), 1)
	if !okPos || !okNeg {
		r.refusePoint(wire.ReasonInvalidHistogram, "histogram: a bucket's index is out of range")
		return nil
	}
	return r.endNative(h)
}

// maxGap is how many empty buckets are written rather than a new span.
const maxGap = 2

// sparse returns the buckets as spans and deltas; 2^down neighbours become one,
// and the indexes move by shift. Empty buckets at the ends are left out. It
// reports whether the indexes fit.
func (d *denseBuckets) sparse(down uint, shift int64) (spans []histogram.Span, deltas []int64, ok bool) {
	first := int64(d.offset)
	if down > 0 {
		first = d.merge(down)
	}
	counts := d.counts
	for len(counts) > 0 && counts[0] == 0 {
		counts = counts[1:]
		first++
	}
	for len(counts) > 0 && counts[len(counts)-1] == 0 {
		counts = counts[:len(counts)-1]
	}
	if len(counts) == 0 {
		return nil, nil, true
	}
	first += shift
	if first < math.MinInt32 || first+int64(len(counts)) > math.MaxInt32 {
		return nil, nil, false
	}
	kept, gaps := sizes(counts)
	spans = make([]histogram.Span, 1, gaps+1)
	deltas = make([]int64, 0, kept)
	spans[0].Offset = int32(first)
	last := int64(0) // count of the last bucket
	for i := 0; i < len(counts); {
		if counts[i] == 0 {
			zeros := 1
			for counts[i+zeros] == 0 {
				zeros++
			}
			if zeros > maxGap {
				spans = append(spans, histogram.Span{Offset: int32(zeros)})
				i += zeros
			}
		}
		c := int64(counts[i])
		deltas = append(deltas, c-last)
		spans[len(spans)-1].Length++
		last = c
		i++
	}
	return spans, deltas, true
}

// sizes returns how many buckets are written of counts, which has no zeros at
// its ends, and how many gaps between spans.
func sizes(counts []uint64) (kept, gaps int) {
	zeros := 0
	for _, c := range counts {
		if c == 0 {
			zeros++
			continue
		}
		if zeros > maxGap {
			gaps++
		} else {
			kept += zeros
		}
		zeros = 0
		kept++
	}
	return kept, gaps
}

// merge makes one bucket of 2^down neighbours and returns the index of the first.
func (d *denseBuckets) merge(down uint) int64 {
	first := int64(d.offset) >> down
	n := 0
	for i, c := range d.counts {
		k := int((int64(d.offset)+int64(i))>>down - first)
		if k < n {
			d.counts[k] += c
			continue
		}
		d.counts[k] = c
		n++
	}
	d.counts = d.counts[:n]
	return first
}
