package encoding

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

var staleNaN = math.Float64frombits(0x7ff0000000000002)

// floatCases are columns that each exercise one path.
func floatCases() map[string][]float64 {
	rng := rand.New(rand.NewPCG(1, 2))
	fn := func(n int, f func(i int) float64) []float64 {
		vals := make([]float64, n)
		for i := range vals {
			vals[i] = f(i)
		}
		return vals
	}
	total := 0
	return map[string][]float64{
		"empty":             {},
		"one zero":          {0},
		"one negative zero": {math.Copysign(0, -1)},
		"one int":           {-12345},
		"one decimal":       {0.1},
		"one float":         {math.Pi},
		"one stale":         {staleNaN},
		"one with zeros":    {math.Float64frombits(0x0030000000000000)}, // zero bytes at both ends
		"two":               {1, 2},
		"two decimals":      {0.5, 0.25},
		"three floats":      {math.Pi, math.E, math.Sqrt2},
		"constant":          fn(120, func(int) float64 { return 0.0017259999999999999 }),
		"constant large":    fn(120, func(int) float64 { return 1 << 60 }),
		"regular":           fn(120, func(i int) float64 { return float64(1000 + 15*i) }),
		"regular decimal":   fn(120, func(i int) float64 { return float64(1000+15*i) / 100 }),
		"quadratic":         fn(120, func(i int) float64 { return float64(i * i) }),
		"counter":           fn(120, func(int) float64 { total += rng.IntN(5000); return float64(total) }),
		"bytes":             fn(120, func(int) float64 { return float64(4096 * rng.IntN(1<<20)) }),
		"durations": fn(120, func(int) float64 {
			return math.Round(math.Exp(rng.NormFloat64()-9)*1e9) / 1e9
		}),
		"milli":         fn(120, func(i int) float64 { return float64(5000+rng.IntN(900)*i) * 0.001 }),
		"pressure":      fn(120, func(i int) float64 { return float64(5000000+i*rng.IntN(900)) / 1e3 / 1e3 }),
		"mixed scales":  {1.2e-05, 0.000218374, 0.5, 12, 1e6, 1e-9, 3, 4, 5, 6, 7, 8},
		"sparse":        fn(120, func(i int) float64 { return float64(i / 37) }),
		"spikes":        fn(120, func(i int) float64 { return float64(i % 40 / 39 * 1e6) }),
		"with stale":    append(fn(119, func(i int) float64 { return float64(i) / 10 }), staleNaN),
		"starts stale":  append([]float64{staleNaN, staleNaN}, fn(118, func(i int) float64 { return float64(i) / 10 })...),
		"infinities":    append(fn(100, func(i int) float64 { return float64(i) }), math.Inf(1), math.Inf(-1), math.NaN(), math.Copysign(0, -1)),
		"alternating":   fn(120, func(i int) float64 { return [2]float64{1, staleNaN}[i&1] }),
		"averages":      fn(120, func(int) float64 { return rng.Float64() + 10 }),
		"wide floats":   fn(120, func(int) float64 { return math.Exp(rng.NormFloat64() * 100) }),
		"random bits":   fn(120, func(int) float64 { return math.Float64frombits(rng.Uint64()) }),
		"denormals":     fn(120, func(i int) float64 { return math.Float64frombits(uint64(i)) }),
		"huge integers": fn(120, func(i int) float64 { return float64(uint64(i) * 0x123456789abcdef) }),
		"extremes":      {math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64, 0, 1 << 53, 1<<53 + 2, -1 << 53, 1 << 63, -1 << 63, 1e300},
		"nanoseconds": fn(120, func(i int) float64 {
			return float64(1795219553842093000+int64(i)*15e9+int64(rng.IntN(1e6))) / 1e9
		}),
		"reset":         fn(120, func(i int) float64 { return float64(i%60*1000 + rng.IntN(10) + 1e9*(1-i/60)) }),
		"many":          fn(8192, func(int) float64 { return math.Floor(rng.ExpFloat64() * 1000) }),
		"zero-inflated": fn(120, func(i int) float64 { return float64(rng.IntN(2) * (1<<40 + rng.IntN(1<<12))) }),
		"one in 9":      fn(9, func(i int) float64 { return float64(i / 8) }),
	}
}

func sameBits(a, b []float64) error {
	if len(a) != len(b) {
		return fmt.Errorf("got %d values, want %d", len(b), len(a))
	}
	for i := range a {
		if math.Float64bits(a[i]) != math.Float64bits(b[i]) {
			return fmt.Errorf("value %d: got %v (%#x), want %v (%#x)", i, b[i], math.Float64bits(b[i]), a[i], math.Float64bits(a[i]))
		}
	}
	return nil
}

// checkFloats round-trips vals and every truncation of the payload.
func checkFloats(t *testing.T, vals []float64, s *Scratch) ([]byte, Codec) {
	t.Helper()
	prefix := []byte("prefix")
	out, c := AppendFloats(prefix, vals, s)
	if string(out[:6]) != "prefix" {
		t.Fatal("AppendFloats changed the bytes before its own")
	}
	payload := out[6:len(out):len(out)]
	got, err := DecodeFloats([]float64{42}, payload, c, len(vals))
	if err != nil {
		t.Fatalf("codec %s, %d values: %v", c, len(vals), err)
	}
	if got[0] != 42 {
		t.Fatal("DecodeFloats changed the values before its own")
	}
	if err := sameBits(vals, got[1:]); err != nil {
		t.Fatalf("codec %s: %v", c, err)
	}
	if len(payload) > 8*len(vals) {
		t.Errorf("codec %s: %d bytes for %d values", c, len(payload), len(vals))
	}
	return payload, c
}

func TestFloats(t *testing.T) {
	for name, vals := range floatCases() {
		t.Run(name, func(t *testing.T) {
			var s Scratch
			payload, c := checkFloats(t, vals, &s)
			t.Logf("%s: %d values, %d bytes", c, len(vals), len(payload))
			for n := 0; n < len(payload); n += 1 + len(payload)/1000 {
				if _, err := DecodeFloats(nil, payload[:n:n], c, len(vals)); err != nil && !errors.Is(err, ErrCorruption) {
					t.Fatalf("cut to %d bytes: got error %v, want ErrCorruption", n, err)
				}
			}
			for n := range min(len(vals), 130) {
				checkFloats(t, vals[:n], &s)
			}
		})
	}
}

func TestFloatsRefusesCounts(t *testing.T) {
	for _, n := range []int{-1, MaxValues + 1} {
		if _, err := DecodeFloats(nil, nil, CodecZero, n); !errors.Is(err, ErrCorruption) {
			t.Errorf("n = %d: got error %v, want ErrCorruption", n, err)
		}
	}
}

// randomColumn makes a column whose size, scale, spread, trend, zeros and
// outliers all depend on seed.
func randomColumn(seed uint64) []float64 {
	rng := rand.New(rand.NewPCG(seed, 77))
	n := 1 + rng.IntN(300)
	bits := rng.IntN(50)
	zeros, outliers, specials := rng.Float64(), rng.Float64()*0.1, rng.Float64()*0.05
	trend, kind := rng.IntN(3), rng.IntN(6)
	e := rng.IntN(12)
	vals := make([]float64, n)
	x, slope := int64(rng.IntN(1<<20)), int64(0)
	for i := range vals {
		d := rng.Int64N(1<<bits) - 1<<bits>>rng.IntN(4)
		if rng.Float64() < zeros {
			d = 0
		}
		if rng.Float64() < outliers {
			d <<= rng.IntN(8)
		}
		switch trend {
		case 0:
			x = d
		case 1:
			x += d
		case 2:
			slope += d >> 6
			x += slope
		}
		switch m := float64(x); kind {
		case 0:
			vals[i] = m
		case 1:
			vals[i] = m / pow10[e]
		case 2:
			vals[i] = m * negPow10[e]
		case 3:
			vals[i] = m / 1e3 / 1e3
		case 4:
			vals[i] = m * 0.37
		case 5:
			vals[i] = m * 4096
		}
		if specials < 0.02 && rng.Float64() < specials {
			vals[i] = [...]float64{staleNaN, math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), math.Pi}[rng.IntN(6)]
		}
	}
	return vals
}

func TestFloatsAllocateNothing(t *testing.T) {
	var s Scratch
	var buf []byte
	var out []float64
	for name, vals := range floatCases() {
		run := func() {
			var c Codec
			var err error
			buf, c = AppendFloats(buf[:0], vals, &s)
			if out, err = DecodeFloats(out[:0], buf, c, len(vals)); err != nil {
				t.Fatal(err)
			}
		}
		run() // grows the buffers
		if n := testing.AllocsPerRun(10, run); n > 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}
