package encoding

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func timeCases() map[string][]int64 {
	rng := rand.New(rand.NewPCG(3, 4))
	fn := func(n int, f func(i int) int64) []int64 {
		ts := make([]int64, n)
		for i := range ts {
			ts[i] = f(i)
		}
		return ts
	}
	const start = 1795219553823
	return map[string][]int64{
		"empty":      {},
		"zero":       {0},
		"one":        {start},
		"negative":   {-5, -4, -3},
		"regular":    fn(120, func(i int) int64 { return start + 15000*int64(i) }),
		"jitter":     fn(120, func(i int) int64 { return start + 15000*int64(i) + rng.Int64N(7) }),
		"gap":        fn(120, func(i int) int64 { return start + 15000*int64(i) + int64(i/60)*3600000 }),
		"descending": fn(50, func(i int) int64 { return start - 1000*int64(i) }),
		"same":       fn(50, func(int) int64 { return start }),
		"extremes":   {math.MinInt64, math.MaxInt64, 0, -1, 1, math.MinInt64, math.MinInt64, math.MaxInt64, math.MaxInt64},
		"random":     fn(200, func(int) int64 { return int64(rng.Uint64()) }),
		"quadratic":  fn(100, func(i int) int64 { return int64(i) * int64(i) * 1 << 40 }),
		"full":       fn(MaxValues, func(i int) int64 { return start + 15000*int64(i) + rng.Int64N(3) }),
	}
}

func TestTimes(t *testing.T) {
	for name, ts := range timeCases() {
		t.Run(name, func(t *testing.T) {
			var s Scratch
			for _, n := range []int{len(ts), len(ts) / 2, min(len(ts), 9), min(len(ts), 2)} {
				payload, c := AppendTimes(nil, ts[:n], &s)
				got, err := DecodeTimes([]int64{7}, payload, c, n)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got[1:], ts[:n]) || got[0] != 7 {
					t.Fatalf("codec %s: got %v, want %v", c, got[1:], ts[:n])
				}
				t.Logf("%s: %d values, %d bytes", c, n, len(payload))
				for cut := range payload {
					if _, err := DecodeTimes(nil, payload[:cut:cut], c, n); err != nil && !errors.Is(err, ErrCorruption) {
						t.Fatalf("cut to %d bytes: got error %v, want ErrCorruption", cut, err)
					}
				}
			}
		})
	}
}

func TestUints(t *testing.T) {
	var s Scratch
	for name, ts := range timeCases() {
		t.Run(name, func(t *testing.T) {
			wide := make([]uint64, len(ts))
			narrow := make([]uint32, len(ts))
			for i, v := range ts {
				wide[i], narrow[i] = uint64(v), uint32(v)
			}
			buf := AppendUints(nil, wide, &s)
			size := len(buf)
			buf = AppendUints(buf, narrow, &s)
			buf = append(buf, "tail"...)
			gotWide, rest, err := DecodeUints([]uint64{1}, buf, len(wide), &s)
			if err != nil {
				t.Fatal(err)
			}
			if len(buf)-len(rest) != size || !slices.Equal(gotWide[1:], wide) {
				t.Fatalf("got %v in %d bytes, want %v in %d", gotWide, len(buf)-len(rest), wide, size)
			}
			gotNarrow, rest, err := DecodeUints[uint32](nil, rest, len(narrow), &s)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(gotNarrow, narrow) || !bytes.Equal(rest, []byte("tail")) {
				t.Fatalf("got %v, rest %q, want %v", gotNarrow, rest, narrow)
			}
		})
	}
}

func TestUintsRefusesOverflow(t *testing.T) {
	var s Scratch
	buf := AppendUints(nil, []uint32{1, 2, 300}, &s)
	if _, _, err := DecodeUints[uint8](nil, buf, 3, &s); !errors.Is(err, ErrCorruption) {
		t.Fatalf("got error %v, want ErrCorruption", err)
	}
}
