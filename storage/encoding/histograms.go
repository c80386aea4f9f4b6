package encoding

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/prometheus/model/histogram"
)

// Histogram is a native histogram sample; exactly one field is set.
type Histogram struct {
	Int   *histogram.Histogram
	Float *histogram.FloatHistogram
}

// A chunk of histograms is stored as
//
//	sums column, hints column, then for each run of samples of one layout:
//	count uvarint, layout, excess column, zero counts column, bucket columns
//
// A column is framed: codec u8, length uvarint, payload. In a long run every
// bucket has a column of its own over the samples, which is where consecutive
// histograms are alike; a short run has a single column.
const (
	histFlatSamples = 8    // up to so many samples make a short run
	histFlatBuckets = 4096 // unless they have more buckets than this
	histZstdMin     = 128  // smaller chunks are not worth a frame
	histMaxBytes    = 64 << 20

	histCustomValues = 1 << 20 // regular custom values that any chunk may have
)

// layout is what equal histograms share. Its slices belong to a histogram.
type layout struct {
	float              bool
	schema             int32
	zeroThreshold      float64
	positive, negative []histogram.Span
	nPositive          int // buckets
	nNegative          int
	custom             []float64
}

func (l *layout) buckets() int { return l.nPositive + l.nNegative }

func (l *layout) flat(count int) bool {
	return count <= histFlatSamples && l.buckets() <= histFlatBuckets
}

func (l *layout) equal(o *layout) bool {
	return l.float == o.float && l.schema == o.schema &&
		math.Float64bits(l.zeroThreshold) == math.Float64bits(o.zeroThreshold) &&
		l.nPositive == o.nPositive && l.nNegative == o.nNegative &&
		slices.Equal(l.positive, o.positive) && slices.Equal(l.negative, o.negative) &&
		slices.EqualFunc(l.custom, o.custom, func(a, b float64) bool {
			return math.Float64bits(a) == math.Float64bits(b)
		})
}

// histScratch holds the buffers of the histogram codec.
type histScratch struct {
	floats  []float64
	ints    []int64
	buf     []byte
	encoder *zstd.Encoder
	decoder *zstd.Decoder
}

// AppendHistograms appends the encoding of hs and returns it with its codec.
// Everything a histogram holds comes back as it was, but that an empty slice
// comes back nil. It takes at most MaxValues samples.
func AppendHistograms(dst []byte, hs []Histogram, s *Scratch) ([]byte, Codec) {
	if len(hs) > MaxValues {
		panic("BUG: encode histograms: more than MaxValues")
	}
	start := len(dst)
	dst = appendHistogramColumns(dst, hs, s)
	size := len(dst) - start
	if size < histZstdMin || size > histMaxBytes {
		return dst, CodecHistograms
	}
	if s.hist.encoder == nil {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault),
			zstd.WithEncoderCRC(false), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic("BUG: zstd encoder options: " + err.Error())
		}
		s.hist.encoder = e
	}
	s.hist.buf = s.hist.encoder.EncodeAll(dst[start:], s.hist.buf[:0])
	if len(s.hist.buf) >= size-size/10 {
		return dst, CodecHistograms
	}
	return append(dst[:start], s.hist.buf...), CodecHistZstd
}

func appendHistogramColumns(dst []byte, hs []Histogram, s *Scratch) []byte {
	n := len(hs)
	sums := grown(s.hist.floats, n)
	hints := grown(s.hist.ints, n)
	s.hist.floats, s.hist.ints = sums, hints
	for i, h := range hs {
		if h.Float != nil {
			sums[i], hints[i] = h.Float.Sum, int64(h.Float.CounterResetHint)
		} else {
			sums[i], hints[i] = h.Int.Sum, int64(h.Int.CounterResetHint)
		}
	}
	dst = appendFloatFrame(dst, sums, s)
	dst = appendIntFrame(dst, hints, s)
	for len(hs) > 0 {
		l := layoutOf(hs[0])
		count := 1
		for count < len(hs) {
			if next := layoutOf(hs[count]); !next.equal(&l) {
				break
			}
			count++
		}
		dst = binary.AppendUvarint(dst, uint64(count))
		dst = appendLayout(dst, &l, s)
		if l.float {
			dst = appendFloatRun(dst, hs[:count], &l, s)
		} else {
			dst = appendIntRun(dst, hs[:count], &l, s)
		}
		hs = hs[count:]
	}
	return dst
}

func layoutOf(h Histogram) layout {
	if f := h.Float; f != nil {
		return layout{true, f.Schema, f.ZeroThreshold, f.PositiveSpans, f.NegativeSpans,
			len(f.PositiveBuckets), len(f.NegativeBuckets), f.CustomValues}
	}
	i := h.Int
	if i == nil {
		panic("BUG: encode histogram: neither integer nor float")
	}
	return layout{false, i.Schema, i.ZeroThreshold, i.PositiveSpans, i.NegativeSpans,
		len(i.PositiveBuckets), len(i.NegativeBuckets), i.CustomValues}
}

// A layout is
//
//	flags u8 (1: float, 2: has custom values), schema varint, zero threshold column of one,
//	twice (positive, negative): spans uvarint, [offset varint, length uvarint]…, buckets uvarint,
//	[custom values: count uvarint, column]
const (
	layoutFloat  = 1
	layoutCustom = 2
)

func appendLayout(dst []byte, l *layout, s *Scratch) []byte {
	flags := byte(0)
	if l.float {
		flags |= layoutFloat
	}
	if len(l.custom) > 0 {
		flags |= layoutCustom
	}
	dst = append(dst, flags)
	dst = appendVarint(dst, int64(l.schema))
	dst = appendFloatFrame(dst, []float64{l.zeroThreshold}, s)
	dst = appendSpans(dst, l.positive, l.nPositive)
	dst = appendSpans(dst, l.negative, l.nNegative)
	if len(l.custom) > 0 {
		dst = binary.AppendUvarint(dst, uint64(len(l.custom)))
		dst = appendFloatFrame(dst, l.custom, s)
	}
	return dst
}

func appendSpans(dst []byte, spans []histogram.Span, buckets int) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(spans)))
	for _, sp := range spans {
		dst = appendVarint(dst, int64(sp.Offset))
		dst = binary.AppendUvarint(dst, uint64(sp.Length))
	}
	return binary.AppendUvarint(dst, uint64(buckets))
}

// appendIntRun appends the counts of a run of integer histograms. The excess of
// a sample is its count less all its buckets: zero, normally.
func appendIntRun(dst []byte, hs []Histogram, l *layout, s *Scratch) []byte {
	count, width := len(hs), 2+l.buckets()
	vals := grown(s.hist.ints, count*width)
	s.hist.ints = vals
	for j, h := range hs {
		vals[count+j] = int64(h.Int.ZeroCount)
		total := vals[count+j]
		column := 2
		for _, buckets := range [2][]int64{h.Int.PositiveBuckets, h.Int.NegativeBuckets} {
			abs := int64(0)
			for _, delta := range buckets {
				abs += delta
				total += abs
				vals[column*count+j] = abs
				column++
			}
		}
		vals[j] = int64(h.Int.Count) - total
	}
	if l.flat(count) {
		return appendIntFrame(dst, vals, s)
	}
	for column := range width {
		dst = appendIntFrame(dst, vals[column*count:][:count], s)
	}
	return dst
}

// appendFloatRun is appendIntRun for float histograms, whose first column is
// the count itself.
func appendFloatRun(dst []byte, hs []Histogram, l *layout, s *Scratch) []byte {
	count, width := len(hs), 2+l.buckets()
	vals := grown(s.hist.floats, count*width)
	s.hist.floats = vals
	for j, h := range hs {
		vals[j], vals[count+j] = h.Float.Count, h.Float.ZeroCount
		column := 2
		for _, buckets := range [2][]float64{h.Float.PositiveBuckets, h.Float.NegativeBuckets} {
			for _, v := range buckets {
				vals[column*count+j] = v
				column++
			}
		}
	}
	if l.flat(count) {
		return appendFloatFrame(dst, vals, s)
	}
	for column := range width {
		dst = appendFloatFrame(dst, vals[column*count:][:count], s)
	}
	return dst
}

// DecodeHistograms appends the n histograms of payload src to dst. src must be
// the payload exactly. It allocates at most in proportion to n times the length of
// the payload. The histograms are the caller's, but for CustomValues, which
// samples share and nobody may change. On error dst is returned as it came.
func DecodeHistograms(dst []Histogram, src []byte, c Codec, n int, s *Scratch) ([]Histogram, error) {
	if n < 0 || n > MaxValues {
		return dst, corrupt("histograms", c, "%d samples, want 0..%d", n, MaxValues)
	}
	switch c {
	case CodecHistograms:
	case CodecHistZstd:
		if s.hist.decoder == nil {
			d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(histMaxBytes))
			if err != nil {
				panic("BUG: zstd decoder options: " + err.Error())
			}
			s.hist.decoder = d
		}
		plain, err := s.hist.decoder.DecodeAll(src, s.hist.buf[:0])
		if err != nil {
			return dst, corrupt("histograms", c, "zstd: %v", err)
		}
		s.hist.buf, src = plain, plain
	default:
		return dst, corrupt("histograms", c, "not a codec of histograms")
	}
	r := histReader{src, c, s, histCustomValues + 8*len(src)}
	out, err := r.chunk(dst, n)
	if err != nil {
		return dst, err
	}
	return out, nil
}

// histReader reads a chunk from front to back.
type histReader struct {
	src    []byte
	codec  Codec
	s      *Scratch
	custom int // how many custom values may still come
}

func (r *histReader) fail(what string) error { return corrupt("histograms", r.codec, "%s", what) }

func (r *histReader) chunk(dst []Histogram, n int) ([]Histogram, error) {
	sums, err := r.floats(make([]float64, n))
	if err != nil {
		return nil, err
	}
	hints, err := r.ints(make([]int64, n))
	if err != nil {
		return nil, err
	}
	start := len(dst)
	for len(dst) < start+n {
		count, ok := r.uvarint()
		if !ok || count == 0 || count > uint64(start+n-len(dst)) {
			return nil, r.fail("bad length of run")
		}
		l, err := r.layout()
		if err != nil {
			return nil, err
		}
		at := len(dst)
		if l.float {
			dst, err = r.floatRun(dst, int(count), &l)
		} else {
			dst, err = r.intRun(dst, int(count), &l)
		}
		if err != nil {
			return nil, err
		}
		for i := at; i < len(dst); i++ {
			hint := histogram.CounterResetHint(hints[i-start])
			if dst[i].Float != nil {
				dst[i].Float.Sum, dst[i].Float.CounterResetHint = sums[i-start], hint
			} else {
				dst[i].Int.Sum, dst[i].Int.CounterResetHint = sums[i-start], hint
			}
		}
	}
	if len(r.src) != 0 {
		return nil, r.fail("bytes left over")
	}
	return dst, nil
}

func (r *histReader) layout() (l layout, err error) {
	if len(r.src) == 0 || r.src[0]&^(layoutFloat|layoutCustom) != 0 {
		return l, r.fail("bad layout flags")
	}
	flags := r.src[0]
	l.float = flags&layoutFloat != 0
	schema, used := varint(r.src[1:])
	if used == 0 || schema != int64(int32(schema)) {
		return l, r.fail("bad schema")
	}
	l.schema = int32(schema)
	r.src = r.src[1+used:]
	var one [1]float64
	if _, err := r.floats(one[:]); err != nil {
		return l, err
	}
	l.zeroThreshold = one[0]
	if l.positive, l.nPositive, err = r.spans(); err != nil {
		return l, err
	}
	if l.negative, l.nNegative, err = r.spans(); err != nil {
		return l, err
	}
	if flags&layoutCustom != 0 {
		// Bounds differ, so a column of them has a bit for each at least, but for
		// regular ones: those have an allowance.
		count, ok := r.uvarint()
		if !ok || count == 0 || count > uint64(r.custom) {
			return l, r.fail("bad number of custom values")
		}
		r.custom -= int(count)
		l.custom, err = r.floats(make([]float64, count))
	}
	return l, err
}

func (r *histReader) spans() ([]histogram.Span, int, error) {
	count, ok := r.uvarint()
	if !ok || count > uint64(len(r.src))/2 {
		return nil, 0, r.fail("bad number of spans")
	}
	var spans []histogram.Span
	if count > 0 {
		spans = make([]histogram.Span, count)
	}
	for i := range spans {
		offset, used := varint(r.src)
		if used == 0 || offset != int64(int32(offset)) {
			return nil, 0, r.fail("bad span offset")
		}
		r.src = r.src[used:]
		length, ok := r.uvarint()
		if !ok || length > math.MaxUint32 {
			return nil, 0, r.fail("bad span length")
		}
		spans[i] = histogram.Span{Offset: int32(offset), Length: uint32(length)}
	}
	buckets, ok := r.uvarint()
	// A short run has one column for all buckets, a long one two bytes for each.
	if !ok || buckets > uint64(max(len(r.src)/2, histFlatBuckets)) {
		return nil, 0, r.fail("bad number of buckets")
	}
	return spans, int(buckets), nil
}

func (r *histReader) uvarint() (uint64, bool) {
	v, used := binary.Uvarint(r.src)
	r.src = r.src[max(used, 0):]
	return v, used > 0
}

// floats reads a framed column into dst.
func (r *histReader) floats(dst []float64) ([]float64, error) {
	c, payload, rest, err := readFrame(r.src)
	if err != nil {
		return nil, err
	}
	r.src = rest
	return dst, decodeFloats(dst, payload, c)
}

// ints reads a framed column into dst.
func (r *histReader) ints(dst []int64) ([]int64, error) {
	c, payload, rest, err := readFrame(r.src)
	if err != nil {
		return nil, err
	}
	r.src = rest
	return dst, decodeIntColumn(dst, payload, c)
}

// tooMany reports whether a long run claims more columns than its bytes can hold.
func (r *histReader) tooMany(count int, l *layout) bool {
	return !l.flat(count) && 2*(2+l.buckets()) > len(r.src)
}

func (r *histReader) intRun(dst []Histogram, count int, l *layout) ([]Histogram, error) {
	width := 2 + l.buckets()
	if r.tooMany(count, l) {
		return nil, r.fail("bad number of buckets")
	}
	vals := grown(r.s.hist.ints, count*width)
	r.s.hist.ints = vals
	step := count
	if l.flat(count) {
		step = len(vals)
	}
	for at := 0; at < len(vals); at += step {
		if _, err := r.ints(vals[at:][:step]); err != nil {
			return nil, err
		}
	}
	hs := make([]histogram.Histogram, count)
	buckets := make([]int64, count*l.buckets())
	for j := range hs {
		h := &hs[j]
		h.Schema, h.ZeroThreshold, h.CustomValues = l.schema, l.zeroThreshold, l.custom
		h.PositiveSpans, h.NegativeSpans = slices.Clone(l.positive), slices.Clone(l.negative)
		h.ZeroCount = uint64(vals[count+j])
		total := vals[count+j]
		column := 2
		take := func(n int) []int64 {
			if n == 0 {
				return nil
			}
			part := buckets[:n:n]
			buckets = buckets[n:]
			prev := int64(0)
			for i := range part {
				abs := vals[column*count+j]
				part[i] = abs - prev
				prev = abs
				total += abs
				column++
			}
			return part
		}
		h.PositiveBuckets = take(l.nPositive)
		h.NegativeBuckets = take(l.nNegative)
		h.Count = uint64(vals[j] + total)
		dst = append(dst, Histogram{Int: h})
	}
	return dst, nil
}

func (r *histReader) floatRun(dst []Histogram, count int, l *layout) ([]Histogram, error) {
	width := 2 + l.buckets()
	if r.tooMany(count, l) {
		return nil, r.fail("bad number of buckets")
	}
	vals := grown(r.s.hist.floats, count*width)
	r.s.hist.floats = vals
	step := count
	if l.flat(count) {
		step = len(vals)
	}
	for at := 0; at < len(vals); at += step {
		if _, err := r.floats(vals[at:][:step]); err != nil {
			return nil, err
		}
	}
	hs := make([]histogram.FloatHistogram, count)
	buckets := make([]float64, count*l.buckets())
	for j := range hs {
		h := &hs[j]
		h.Schema, h.ZeroThreshold, h.CustomValues = l.schema, l.zeroThreshold, l.custom
		h.PositiveSpans, h.NegativeSpans = slices.Clone(l.positive), slices.Clone(l.negative)
		h.Count, h.ZeroCount = vals[j], vals[count+j]
		column := 2
		take := func(n int) []float64 {
			if n == 0 {
				return nil
			}
			part := buckets[:n:n]
			buckets = buckets[n:]
			for i := range part {
				part[i] = vals[column*count+j]
				column++
			}
			return part
		}
		h.PositiveBuckets = take(l.nPositive)
		h.NegativeBuckets = take(l.nNegative)
		dst = append(dst, Histogram{Float: h})
	}
	return dst, nil
}
