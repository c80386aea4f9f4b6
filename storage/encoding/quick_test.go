package encoding

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// Quick changes what is chosen, never what is decoded.
func TestQuickRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	shapes := map[string]func(i int) float64{
		"constant": func(int) float64 { return 7 },
		"counter":  func(i int) float64 { return float64(i*i) + float64(rng.IntN(5)) },
		"decimal":  func(int) float64 { return float64(rng.IntN(1_000_000)) / 1e6 },
		"float":    func(int) float64 { return rng.NormFloat64() },
		"sparse":   func(int) float64 { return float64(rng.IntN(40) / 39) },
		"odd":      func(i int) float64 { return []float64{math.NaN(), math.Inf(-1), 0, 1.5}[i%4] },
	}
	for name, f := range shapes {
		for _, n := range []int{1, 2, 8, 9, 120, 1000} {
			t.Run(fmt.Sprintf("%s/%d", name, n), func(t *testing.T) {
				vals, times := make([]float64, n), make([]int64, n)
				for i := range vals {
					vals[i], times[i] = f(i), int64(i)*15_000+rng.Int64N(9)
				}
				s := Scratch{Quick: true}
				b, c := AppendFloats(nil, vals, &s)
				got, err := DecodeFloats(nil, b, c, n)
				if err != nil {
					t.Fatal(err)
				}
				for i := range vals {
					if math.Float64bits(got[i]) != math.Float64bits(vals[i]) {
						t.Fatalf("value %d: got %v, want %v", i, got[i], vals[i])
					}
				}
				b, c = AppendTimes(nil, times, &s)
				ts, err := DecodeTimes(nil, b, c, n)
				if err != nil {
					t.Fatal(err)
				}
				for i := range times {
					if ts[i] != times[i] {
						t.Fatalf("time %d: got %d, want %d", i, ts[i], times[i])
					}
				}
			})
		}
	}
}
