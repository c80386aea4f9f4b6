package probe

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ebpf/feature"
)

// edges exports who asks whom, named as OpenTelemetry's service graph connector
// names it, out of what every feature knows.
type edges struct {
	features                  []feature.Feature
	buckets                   *feature.Buckets
	requests, failed, seconds *prometheus.Desc
}

// pair is one edge of the graph.
type pair struct{ client, server, kind string }

func newEdges(features []feature.Feature, b *feature.Buckets) *edges {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("traces_service_graph_"+name, help, []string{"client", "server", "connection_type"}, nil)
	}
	return &edges{
		features: features, buckets: b,
		requests: desc("request_total", "Requests from one service to another, as the client's host saw them."),
		failed:   desc("request_failed_total", "Those of them that failed."),
		seconds:  desc("request_client_seconds", "Duration of the requests from one service to another, as the client saw it."),
	}
}

// Describe sends the descriptions.
func (e *edges) Describe(ch chan<- *prometheus.Desc) {
	ch <- e.requests
	ch <- e.failed
	ch <- e.seconds
}

// Collect adds the features' edges up by pair.
func (e *edges) Collect(ch chan<- prometheus.Metric) {
	sums := make(map[pair]*feature.Edge)
	for _, f := range e.features {
		asker, ok := f.(feature.Asker)
		if !ok {
			continue
		}
		if err := asker.Edges(func(one *feature.Edge) { addEdge(sums, one) }); err != nil {
			ch <- prometheus.NewInvalidMetric(e.requests, err)
			return
		}
	}
	for p, sum := range sums {
		labels := []string{p.client, p.server, p.kind}
		ch <- prometheus.MustNewConstMetric(e.requests, prometheus.CounterValue, float64(sum.Requests), labels...)
		ch <- prometheus.MustNewConstMetric(e.failed, prometheus.CounterValue, float64(sum.Failed), labels...)
		slots, n := e.buckets.Fold(sum.Durations)
		ch <- prometheus.MustNewConstHistogram(e.seconds, n, float64(sum.DurationNanos)/1e9, slots, labels...)
	}
}

func addEdge(sums map[pair]*feature.Edge, one *feature.Edge) {
	p := pair{one.Client, one.Server, one.Type}
	sum := sums[p]
	if sum == nil {
		sum = &feature.Edge{Durations: make([]uint64, feature.MaxSlots)}
		sums[p] = sum
	}
	sum.Requests += one.Requests
	sum.Failed += one.Failed
	sum.DurationNanos += one.DurationNanos
	for i, n := range one.Durations {
		sum.Durations[i] += n
	}
}
