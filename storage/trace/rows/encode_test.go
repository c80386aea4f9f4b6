package rows

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// intCases are columns of every kind that spans have.
func intCases() map[string][]int64 {
	rng := rand.New(rand.NewPCG(1, 2))
	gen := func(n int, f func(i int) int64) []int64 {
		out := make([]int64, n)
		for i := range out {
			out[i] = f(i)
		}
		return out
	}
	return map[string][]int64{
		"none":       nil,
		"one":        {-5},
		"constant":   gen(1000, func(int) int64 { return math.MinInt64 }),
		"extremes":   {math.MinInt64, math.MaxInt64, 0, -1, 1},
		"wide":       gen(300, func(int) int64 { return int64(rng.Uint64()) }),
		"bits":       gen(1000, func(i int) int64 { return int64(i & 1) }),
		"narrow":     gen(129, func(int) int64 { return rng.Int64N(7) - 3 }),
		"57 bits":    gen(257, func(int) int64 { return rng.Int64N(1 << 57) }),
		"rare":       gen(5000, func(int) int64 { return min(rng.Int64N(300), 299) / 299 << 40 }),
		"durations":  gen(8192, func(int) int64 { return 20_000 + int64(rng.ExpFloat64()*5e6) }),
		"micros":     gen(777, func(int) int64 { return 1000 * rng.Int64N(1e6) }),
		"seconds":    gen(777, func(int) int64 { return 1_000_000_000 * (rng.Int64N(1e3) - 500) }),
		"increasing": gen(2000, func(i int) int64 { return int64(i) * int64(i) }),
	}
}

func decodeAllInts[T integer](t testing.TB, b []byte, n, lo, hi int) []T {
	c, err := parseInts(b, n)
	require.NoError(t, err)
	out := make([]T, hi-lo)
	require.NoError(t, decodeInts(out, &c, lo))
	return out
}

func TestInts(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for name, vals := range intCases() {
		t.Run(name, func(t *testing.T) {
			var e intEncoder
			b := appendInts(nil, vals, &e)
			require.Equal(t, vals, append([]int64(nil), decodeAllInts[int64](t, b, len(vals), 0, len(vals))...))
			for range 50 {
				if len(vals) == 0 {
					break
				}
				lo := rng.IntN(len(vals))
				hi := lo + rng.IntN(len(vals)-lo+1)
				require.Equal(t, vals[lo:hi], decodeAllInts[int64](t, b, len(vals), lo, hi))
			}
			small := make([]uint32, len(vals))
			bytes := make([]uint8, len(vals))
			signed := make([]int32, len(vals))
			for i, v := range vals {
				small[i], bytes[i], signed[i] = uint32(v), uint8(v), int32(v)
			}
			require.Equal(t, small, decodeAllInts[uint32](t, appendInts(nil, small, &e), len(vals), 0, len(vals)))
			require.Equal(t, bytes, decodeAllInts[uint8](t, appendInts(nil, bytes, &e), len(vals), 0, len(vals)))
			require.Equal(t, signed, decodeAllInts[int32](t, appendInts(nil, signed, &e), len(vals), 0, len(vals)))
			for n := range b {
				if _, err := parseInts(b[:n], len(vals)); err == nil {
					t.Fatalf("first %d of %d bytes: no error", n, len(b))
				}
			}
		})
	}
}

// TestIntSizes pins what columns cost, so that a change shows.
func TestIntSizes(t *testing.T) {
	cases := intCases()
	for name, want := range map[string]int{"none": 0, "constant": 11, "bits": 129, "rare": 272, "durations": 25128, "micros": 1951} {
		var e intEncoder
		if got := len(appendInts(nil, cases[name], &e)); got != want {
			t.Errorf("%s: %d bytes, want %d", name, got, want)
		}
	}
}

func TestTexts(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	gen := func(n int, f func(i int) string) []string {
		out := make([]string, n)
		for i := range out {
			out[i] = f(i)
		}
		return out
	}
	for name, tc := range map[string]struct {
		vals []string
		form byte
	}{
		"one":       {[]string{"abc"}, textFrames},
		"empty":     {[]string{"", "", ""}, textFrames},
		"users":     {gen(1000, func(int) string { return fmt.Sprintf("user-%d", rng.IntN(1e6)) }), textDecimal},
		"padded":    {gen(1000, func(int) string { return fmt.Sprintf("%08d", rng.IntN(1e6)) }), textDecimal},
		"mixed":     {[]string{"007", "8"}, textFrames},
		"long":      {[]string{"1234567890123456789", "2234567890123456789"}, textHexOdd},
		"hex":       {gen(500, func(int) string { return fmt.Sprintf("order-%016x", rng.Uint64()) }), textHex},
		"uuid":      {gen(500, func(int) string { return fmt.Sprintf("%08x-%04x", rng.Uint32(), rng.IntN(1<<16)) }), textFrames},
		"words":     {gen(5000, func(i int) string { return strings.Repeat("word ", i%40) }), textFrames},
		"noise":     {gen(400, func(int) string { b := make([]byte, 300); fillRandom(rng, b); return string(b) }), textFrames},
		"one large": {[]string{"", strings.Repeat("x", 1<<20), "y"}, textFrames},
	} {
		t.Run(name, func(t *testing.T) {
			offs, data := []uint32{0}, []byte(nil)
			for _, v := range tc.vals {
				data = append(data, v...)
				offs = append(offs, uint32(len(data)))
			}
			var e textEncoder
			b := e.append(nil, offs, data)
			require.Equal(t, tc.form&0x7f, b[0])
			var d textBuffers
			n := len(tc.vals)
			for k := range 30 {
				lo, hi := 0, n
				if k > 0 {
					lo = rng.IntN(n)
					hi = lo + rng.IntN(n-lo+1)
				}
				require.NoError(t, d.decode(b, n, lo, hi))
				require.Len(t, d.offs, hi-lo+1)
				for i, v := range tc.vals[lo:hi] {
					require.Equal(t, v, string(d.data[d.offs[i]:d.offs[i+1]]))
				}
			}
		})
	}
}

// textHexOdd is the form of strings of an odd number of digits: no special one.
const textHexOdd = textFrames

func fillRandom(rng *rand.Rand, b []byte) {
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
}

// shapedCase is a column whose values follow from shapes to some degree.
func shapedCase(seed uint64, rows int) (vals []int64, occ []uint32, rs *rowShapes) {
	rng := rand.New(rand.NewPCG(seed, 8))
	shapes := 1 + rng.IntN(20)
	rs = &rowShapes{used: make([]uint32, shapes)}
	count, vary := make([]uint32, shapes), make([]bool, shapes)
	for s := range count {
		count[s], vary[s] = rng.Uint32N(3), rng.IntN(4) == 0
		if seed%2 == 0 {
			count[s] = min(count[s], 1)
		}
	}
	for range rows {
		s := rng.Uint32N(uint32(shapes))
		rs.rows = append(rs.rows, s)
		rs.used[s]++
		for range count[s] {
			v := int64(s) * 1000
			if vary[s] {
				v += rng.Int64N(100)
			}
			vals, occ = append(vals, v), append(occ, s)
		}
	}
	for s := range count {
		if count[s] > 0 && rs.used[s] > 0 {
			rs.listing = append(rs.listing, shapeCount{shape: uint32(s), count: count[s]})
		}
	}
	return vals, occ, rs
}

func TestValuesByShape(t *testing.T) {
	forms := map[byte]int{}
	var x shapedScratch[int64]
	for seed := range uint64(60) {
		vals, occ, rs := shapedCase(seed, 1+int(seed)*20)
		if len(vals) == 0 {
			continue
		}
		for _, double := range []bool{false, true} {
			if double {
				for i, v := range vals {
					vals[i] = int64(math.Float64bits(float64(v) / 10))
				}
			}
			e := valueEncoder{}
			b := e.appendValues(nil, vals, occ, len(rs.used), double)
			forms[b[0]]++
			rng := rand.New(rand.NewPCG(seed, 9))
			for k := range 20 {
				lo, hi := 0, len(vals)
				if k > 0 {
					lo = rng.IntN(len(vals))
					hi = lo + rng.IntN(len(vals)-lo+1)
				}
				got := make([]int64, hi-lo, hi-lo+1)
				require.NoError(t, decodeValues(got, b, len(vals), lo, rs, &x))
				require.Equal(t, vals[lo:hi], got)
			}
		}
	}
	// Doubles that do not follow from shapes.
	doubles := make([]int64, 10_000)
	for i := range doubles {
		doubles[i] = int64(math.Float64bits(float64(i*i%777) / 100))
	}
	e := valueEncoder{}
	b := e.appendValues(nil, doubles, make([]uint32, len(doubles)), 1, true)
	require.EqualValues(t, formFloats, b[0])
	got := make([]int64, 9000, 9001)
	require.NoError(t, decodeValues(got, b, len(doubles), 500, nil, &x))
	require.Equal(t, doubles[500:9500], got)
	require.Positive(t, forms[formByShape])
}

func TestBloom(t *testing.T) {
	var b bloomBuilder
	for _, col := range []uint32{3, 9} {
		first := len(b.hashes)
		for i := range 2000 {
			b.hashes = append(b.hashes, bloomHash(col, fmt.Append(nil, i)))
		}
		b.add(col, first)
	}
	first := len(b.hashes)
	for range 2000 {
		b.hashes = append(b.hashes, bloomHash(11, []byte("same")))
	}
	b.add(11, first)
	page := b.append(nil)
	wrong := 0
	for i := range 2000 {
		for _, col := range []uint32{3, 9, 11} {
			require.True(t, bloomMayHave(page, col, bloomHash(col, fmt.Append(nil, i))))
		}
		if bloomMayHave(page, 3, bloomHash(3, fmt.Append(nil, i+2000))) {
			wrong++
		}
	}
	require.Less(t, wrong, 60)
	for n := range 40 {
		bloomMayHave(page[:n], 3, 1)
	}
}

// FuzzIntsRoundTrip encodes any numbers.
func FuzzIntsRoundTrip(f *testing.F) {
	for _, vals := range intCases() {
		var b []byte
		for _, v := range vals[:min(len(vals), 300)] {
			b = binary.LittleEndian.AppendUint64(b, uint64(v))
		}
		f.Add(b, uint16(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, lo uint16) {
		var vals []int64
		for ; len(b) >= 8; b = b[8:] {
			vals = append(vals, int64(binary.LittleEndian.Uint64(b)))
		}
		var e intEncoder
		col := appendInts(nil, vals, &e)
		from := min(int(lo), len(vals))
		if got := decodeAllInts[int64](t, col, len(vals), from, len(vals)); !slices.Equal(got, vals[from:]) {
			t.Fatalf("got %v, want %v", got, vals[from:])
		}
	})
}

// FuzzDecodeColumn decodes hostile columns of numbers: values or an error.
func FuzzDecodeColumn(f *testing.F) {
	for seed := range uint64(10) {
		vals, occ, rs := shapedCase(seed, 50)
		e := valueEncoder{}
		f.Add(e.appendValues(nil, vals, occ, len(rs.used), seed%3 == 0), seed, uint16(0), uint16(len(vals)))
	}
	f.Fuzz(func(t *testing.T, b []byte, seed uint64, lo, hi uint16) {
		vals, _, rs := shapedCase(seed%1000, 50)
		if int(hi) > len(vals) || lo > hi {
			return
		}
		n := int(hi - lo)
		checkFault(t, decodeValues(make([]int64, n, n+1), b, len(vals), int(lo), rs, &shapedScratch[int64]{}))
		checkFault(t, decodeValues(make([]uint32, n, n+1), b, len(vals), int(lo), rs, &shapedScratch[uint32]{}))
	})
}

// FuzzDecodeTexts decodes hostile columns of strings: values or an error.
func FuzzDecodeTexts(f *testing.F) {
	for _, vals := range [][]string{{"a", "b", ""}, {"u-1", "u-2"}, {"id-00ff", "id-ab12"}, {strings.Repeat("long ", 100), "x"}} {
		offs, data := []uint32{0}, []byte(nil)
		for _, v := range vals {
			data = append(data, v...)
			offs = append(offs, uint32(len(data)))
		}
		var e textEncoder
		f.Add(e.append(nil, offs, data), uint16(len(vals)), uint16(0), uint16(len(vals)))
	}
	f.Fuzz(func(t *testing.T, b []byte, n, lo, hi uint16) {
		if hi > n || lo > hi {
			return
		}
		var d textBuffers
		err := d.decode(b, int(n), int(lo), int(hi))
		checkFault(t, err)
		if err == nil && len(b) > 0 {
			require.Len(t, d.offs, int(hi-lo)+1)
			require.EqualValues(t, len(d.data), d.offs[hi-lo])
		}
	})
}

func checkFault(t *testing.T, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, errColumn) {
		t.Fatalf("error is no errColumn: %v", err)
	}
}

func BenchmarkDecodeInts(b *testing.B) {
	for _, name := range []string{"bits", "durations", "micros", "rare"} {
		vals := intCases()[name]
		var e intEncoder
		col := appendInts(nil, vals, &e)
		b.Run(name, func(b *testing.B) {
			out := make([]int64, len(vals))
			for b.Loop() {
				c, err := parseInts(col, len(vals))
				if err != nil {
					b.Fatal(err)
				}
				if err := decodeInts(out, &c, 0); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(vals)), "ns/value")
		})
		b.Run(name+"/encode", func(b *testing.B) {
			for b.Loop() {
				col = appendInts(col[:0], vals, &e)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(vals)), "ns/value")
		})
	}
}
