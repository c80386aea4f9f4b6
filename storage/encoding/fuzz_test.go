package encoding

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
)

// words cuts data into at most limit 64-bit words.
func words(data []byte, limit int) []uint64 {
	out := make([]uint64, min(len(data)/8, limit))
	for i := range out {
		out[i] = binary.LittleEndian.Uint64(data[8*i:])
	}
	return out
}

// shaped turns words into floats of the kind that the low bits of kind choose,
// so that the fuzzer reaches decimals and integers, not only odd bits.
func shaped(ws []uint64, kind uint8) []float64 {
	vals := make([]float64, len(ws))
	sum := int64(0)
	for i, w := range ws {
		small := int64(w) >> (w & 63)
		sum += small
		switch kind & 7 {
		case 0:
			vals[i] = math.Float64frombits(w)
		case 1:
			vals[i] = float64(small)
		case 2:
			vals[i] = float64(sum)
		case 3:
			vals[i] = float64(small>>12) / pow10[kind>>3%18]
		case 4:
			vals[i] = float64(sum>>12) * negPow10[kind>>3%18]
		case 5:
			vals[i] = float64(small>>12) / 1e3 / 1e3
		case 6:
			vals[i] = float64(small>>20) * 0x1p-20
		case 7:
			vals[i] = float64(w & 1)
		}
		if kind>>3 == 31 && w%17 == 0 {
			vals[i] = staleNaN
		}
	}
	return vals
}

func floatBytes(vals []float64) []byte { return appendRaw(nil, vals) }

func FuzzFloats(f *testing.F) {
	for _, vals := range floatCases() {
		vals = vals[:min(len(vals), 40)] // small inputs keep the fuzzer fast
		f.Add(floatBytes(vals), uint8(0))
		f.Add(floatBytes(vals), uint8(len(vals)))
	}
	f.Fuzz(func(t *testing.T, data []byte, kind uint8) {
		var s Scratch
		checkFloats(t, shaped(words(data, 1024), kind), &s)
	})
}

func FuzzDecodeFloats(f *testing.F) {
	var s Scratch
	for _, vals := range floatCases() {
		vals = vals[:min(len(vals), 130)]
		payload, c := AppendFloats(nil, vals, &s)
		f.Add(payload, uint8(c), uint16(len(vals)))
	}
	f.Fuzz(func(t *testing.T, data []byte, c uint8, n uint16) {
		vals, err := DecodeFloats(nil, slices.Clip(data), Codec(c), int(n))
		if err != nil {
			if !errors.Is(err, ErrCorruption) || vals != nil {
				t.Fatalf("got %d values and error %v, want none and ErrCorruption", len(vals), err)
			}
			return
		}
		if len(vals) != int(n) {
			t.Fatalf("got %d values, want %d", len(vals), n)
		}
		checkFloats(t, vals, &Scratch{})
	})
}

func FuzzTimes(f *testing.F) {
	for _, ts := range timeCases() {
		ts = ts[:min(len(ts), 100)]
		buf := []byte{}
		for _, v := range ts {
			buf = binary.LittleEndian.AppendUint64(buf, uint64(v))
		}
		f.Add(buf, uint8(0))
	}
	f.Fuzz(func(t *testing.T, data []byte, shift uint8) {
		ts := make([]int64, 0, len(data)/8)
		for _, w := range words(data, 1024) {
			ts = append(ts, int64(w)>>(shift&63)<<(shift>>6))
		}
		var s Scratch
		payload, c := AppendTimes(nil, ts, &s)
		got, err := DecodeTimes(nil, slices.Clip(payload), c, len(ts))
		if err != nil || !slices.Equal(got, ts) {
			t.Fatalf("codec %s: got %v, error %v, want %v", c, got, err, ts)
		}
	})
}

func FuzzDecodeTimes(f *testing.F) {
	var s Scratch
	for _, ts := range timeCases() {
		ts = ts[:min(len(ts), 100)]
		payload, c := AppendTimes(nil, ts, &s)
		f.Add(payload, uint8(c), uint16(len(ts)))
	}
	f.Fuzz(func(t *testing.T, data []byte, c uint8, n uint16) {
		ts, err := DecodeTimes(nil, slices.Clip(data), Codec(c), int(n))
		if err != nil && !errors.Is(err, ErrCorruption) || err == nil && len(ts) != int(n) {
			t.Fatalf("got %d values and error %v, want %d or ErrCorruption", len(ts), err, n)
		}
	})
}

func FuzzDecodeUints(f *testing.F) {
	var s Scratch
	for _, ts := range timeCases() {
		ts = ts[:min(len(ts), 100)]
		wide := make([]uint64, len(ts))
		for i, v := range ts {
			wide[i] = uint64(v)
		}
		f.Add(AppendUints(nil, wide, &s), uint16(len(ts)))
	}
	f.Fuzz(func(t *testing.T, data []byte, n uint16) {
		var s Scratch
		vals, rest, err := DecodeUints[uint32](nil, slices.Clip(data), int(n), &s)
		if err != nil {
			if !errors.Is(err, ErrCorruption) {
				t.Fatalf("got error %v, want ErrCorruption", err)
			}
			return
		}
		if len(vals) != int(n) || len(rest) > len(data) {
			t.Fatalf("got %d values, %d bytes left, want %d values", len(vals), len(rest), n)
		}
		again, _, err := DecodeUints[uint32](nil, AppendUints(nil, vals, &s), int(n), &s)
		if err != nil || !slices.Equal(vals, again) {
			t.Fatalf("got %v, error %v, want %v", again, err, vals)
		}
	})
}

// fuzzHistograms makes histograms of data: each takes a layout from its first word.
func fuzzHistograms(data []byte) []Histogram {
	ws := words(data, 4096)
	next := func() uint64 {
		if len(ws) == 0 {
			return 0
		}
		w := ws[0]
		ws = ws[1:]
		return w
	}
	var hs []Histogram
	for len(ws) > 0 {
		head := next()
		h := &histogram.Histogram{
			CounterResetHint: histogram.CounterResetHint(head & 3), Schema: int32(head>>2&7) - 4,
			ZeroThreshold: math.Float64frombits(head & 0xf0 << 56), ZeroCount: next(), Count: next(), Sum: math.Float64frombits(next()),
		}
		if head>>8&3 == 0 {
			h.Schema = histogram.CustomBucketsSchema
			h.CustomValues = []float64{1, 2, float64(head >> 60)}
		}
		for range head >> 10 & 7 {
			h.PositiveBuckets = append(h.PositiveBuckets, int64(next()))
		}
		for range head >> 13 & 3 {
			h.NegativeBuckets = append(h.NegativeBuckets, int64(next()))
		}
		if n := len(h.PositiveBuckets); n > 0 {
			h.PositiveSpans = []histogram.Span{{Offset: int32(head >> 32), Length: uint32(n)}}
		}
		repeat := 1 + int(head>>16&15)
		for range repeat {
			if head>>20&1 == 0 {
				hs = append(hs, Histogram{Int: h})
			} else {
				hs = append(hs, Histogram{Float: h.ToFloat(nil)})
			}
		}
	}
	return hs[:min(len(hs), MaxValues)]
}

func FuzzHistograms(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"))
	f.Add(make([]byte, 800))
	f.Fuzz(func(t *testing.T, data []byte) {
		hs := fuzzHistograms(data)
		var s Scratch
		payload, c := AppendHistograms(nil, hs, &s)
		got, err := DecodeHistograms(nil, slices.Clip(payload), c, len(hs), &s)
		if err != nil || len(got) != len(hs) {
			t.Fatalf("got %d samples, error %v, want %d", len(got), err, len(hs))
		}
		for i := range hs {
			if !sameHistogram(hs[i], got[i]) {
				t.Fatalf("sample %d: got %#v %#v, want %#v %#v", i, got[i].Int, got[i].Float, hs[i].Int, hs[i].Float)
			}
		}
	})
}

func FuzzDecodeHistograms(f *testing.F) {
	var s Scratch
	for _, hs := range histogramCases() {
		payload, c := AppendHistograms(nil, hs, &s)
		f.Add(payload, c == CodecHistZstd, uint8(len(hs)))
	}
	f.Fuzz(func(t *testing.T, data []byte, compressed bool, n uint8) {
		c := CodecHistograms
		if compressed {
			c = CodecHistZstd
		}
		var s Scratch
		hs, err := DecodeHistograms(nil, slices.Clip(data), c, int(n), &s)
		if err != nil && !errors.Is(err, ErrCorruption) || err == nil && len(hs) != int(n) {
			t.Fatalf("got %d samples and error %v, want %d or ErrCorruption", len(hs), err, n)
		}
	})
}
