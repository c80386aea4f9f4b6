package feature

import (
	"math/rand/v2"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
)

// Metrics are those that client_golang makes.
func TestMetrics(t *testing.T) {
	names := []string{"zebra", "ant", "method"}
	labels := NewLabelNames(names...)
	d := prometheus.NewDesc("some_seconds", "Some.", names, nil)
	b, err := NewBuckets([]float64{0.005, 0.01, 0.0251, 0.5, 10})
	require.NoError(t, err)
	require.Len(t, SizeBounds(), 11)
	same := func(want, got prometheus.Metric) {
		t.Helper()
		require.Equal(t, want.Desc(), got.Desc())
		for range 2 { // as often as it is asked
			var w, g dto.Metric
			require.NoError(t, want.Write(&w))
			require.NoError(t, got.Write(&g))
			require.True(t, proto.Equal(&w, &g), "want %s\ngot %s", &w, &g)
			if h := g.Histogram; h != nil { // the reader's
				*h.SampleCount++
				*h.Bucket[0].CumulativeCount++
			} else {
				*g.Counter.Value++
			}
		}
	}
	byBound := func(bounds []float64, cumulative []uint64) map[float64]uint64 {
		m := make(map[float64]uint64)
		for i, bound := range bounds {
			m[bound] = cumulative[i]
		}
		return m
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		values := []string{"b", "GET", string(rune('a' + rnd.IntN(20)))}
		slots := make([]uint64, MaxSlots)
		for i := range slots {
			slots[i] = uint64(rnd.IntN(3))
		}
		cumulative, n := b.Fold(slots)
		same(prometheus.MustNewConstHistogram(d, n, 2.5, byBound(b.bounds, cumulative), values...),
			b.Histogram(d, labels.Pairs(values...), slots, 2.5))
		sizes := slots[:12]
		cumulative, n = FoldSizes(sizes)
		same(prometheus.MustNewConstHistogram(d, n, 7, byBound(SizeBounds(), cumulative), values...),
			SizeHistogram(d, labels.Pairs(values...), sizes, 7))
		same(prometheus.MustNewConstMetric(d, prometheus.CounterValue, 3, values...), NewCounter(d, labels.Pairs(values...), 3))
	}
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(one{NewCounter(d, labels.Pairs("caf\xe9", "b", "c"), 1)}))
	families, err := reg.Gather()
	require.NoError(t, err, "what is not UTF-8 spoils no collection")
	require.Equal(t, "caf\uFFFD", families[0].Metric[0].Label[2].GetValue())
	require.Panics(t, func() { labels.Pairs("a") })
}

// one is a collector of one metric.
type one struct{ prometheus.Metric }

func (o one) Describe(ch chan<- *prometheus.Desc) { ch <- o.Desc() }
func (o one) Collect(ch chan<- prometheus.Metric) { ch <- o.Metric }
