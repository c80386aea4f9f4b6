package sampling

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type headMetrics struct{ keep, dropProbability, dropRate prometheus.Counter }

func newHeadMetrics(reg prometheus.Registerer) *headMetrics {
	v := promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "vedette_sampling_spans_total",
		Help: "Spans that head sampling has decided about: keep (sampled), or drop by the probability or the limit of spans per second (rate).",
	}, []string{"decision", "reason"})
	return &headMetrics{
		keep: v.WithLabelValues("keep", "sampled"), dropProbability: v.WithLabelValues("drop", "probability"), dropRate: v.WithLabelValues("drop", "rate"),
	}
}

type tailMetrics struct {
	decisions [2][numReasons]prometheus.Counter // drop, keep
}

func newTailMetrics(reg prometheus.Registerer, t *Tail) *tailMetrics {
	f := promauto.With(reg)
	v := f.NewCounterVec(prometheus.CounterOpts{
		Name: "vedette_sampling_traces_total",
		Help: "Complete traces that tail sampling has decided about, by decision (keep, drop) and reason (error, slow, rare, learning, probability).",
	}, []string{"decision", "reason"})
	m := &tailMetrics{}
	for r := range numReasons {
		m.decisions[1][r] = v.WithLabelValues("keep", r.String())
	}
	m.decisions[0][ReasonChance] = v.WithLabelValues("drop", ReasonChance.String())
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "vedette_sampling_operations",
		Help: "Operations of which tail sampling knows how long their traces take.",
	}, func() float64 {
		t.mu.Lock()
		defer t.mu.Unlock()
		return float64(len(t.operations))
	})
	return m
}
