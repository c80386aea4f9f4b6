package statsd

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// Quantiles are within the width of a bucket of the true ones, whatever the
// spread of the values.
func TestQuantiles(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	f := func(width float64, draw func() float64) {
		t.Helper()
		k := sketch[uint32]{schema: fineSchema, most: maxFineBuckets}
		var all []float64
		for range 5000 {
			v := draw()
			all = append(all, v)
			k.observe(v, 1)
		}
		slices.Sort(all)
		got := make([]float64, len(quantiles))
		k.quantiles(quantiles, got)
		for i, q := range quantiles {
			want := all[int(math.Ceil(q*float64(len(all))))-1]
			require.InDelta(t, want, got[i], math.Abs(want)*width, "%g", q)
		}
	}
	const fine = 0.011                                  // half a bucket
	f(2*fine, func() float64 { return r.ExpFloat64() }) // may be wider than the buckets reach
	f(fine, func() float64 { return 0.25 })
	f(2*fine, func() float64 { return -r.ExpFloat64() })
	f(fine, func() float64 { return 100 + r.NormFloat64() })
	f(fine, func() float64 { return float64(r.IntN(3)) })
	f(0.2, func() float64 { return math.Exp(r.NormFloat64() * 20) }) // coarser, since it is wide
}

// Counts stay where they belong when the resolution is halved.
func TestCoarsen(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		lo := int32(r.IntN(40) - 20)
		w := window[uint64]{}
		want := map[int32]uint64{}
		for range 30 {
			b, n := lo+int32(r.IntN(50)), r.Uint64N(9)+1
			require.True(t, w.add(b, n, 100))
			want[(b+1)>>1] += n
		}
		w.coarsen()
		for i, n := range w.counts {
			b := w.lo + int32(i)
			require.Equal(t, want[b], n)
			delete(want, b)
		}
		require.Empty(t, want)
	}
}

// Any floats make a valid native histogram that adds up.
func TestNativeIsValid(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		k := sketch[uint64]{schema: nativeSchema, most: maxNativeBuckets}
		n, sum := uint64(0), 0.0
		scale := r.IntN(2) == 0
		for range r.IntN(100) {
			v := r.NormFloat64()
			if scale {
				v = math.Float64frombits(r.Uint64())
			}
			if math.IsNaN(v) || math.IsInf(v, 0) {
				continue
			}
			k.observe(v, 2)
			n += 2
			sum += 2 * v
		}
		require.NoError(t, native(&k, n, sum).Validate())
		require.LessOrEqual(t, len(k.pos.counts), maxNativeBuckets)
		require.GreaterOrEqual(t, k.schema, int32(lowestSchema))
	}
	require.Equal(t, int32(0), bucketOf(1))
	require.Equal(t, int32(32), bucketOf(2))
	require.Equal(t, int32(1), bucketOf(math.Nextafter(1, 2)))
	require.Equal(t, int32(-32), bucketOf(0.5))
}
