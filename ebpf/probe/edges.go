package probe

import (
	"cmp"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ebpf/feature"
)

// edges exports who asks whom, named as OpenTelemetry's service graph connector
// names it, out of what every feature knows. It is not safe for use by several
// goroutines.
type edges struct {
	buckets                   *feature.Buckets
	labels                    feature.LabelNames
	requests, failed, seconds *prometheus.Desc
	kept                      map[pair]*kept
}

// kept is what an edge had at the last collection, and what has been forgotten of
// it since it was first exported.
type kept struct{ last, forgotten feature.Edge }

// pair is one edge of the graph.
type pair struct{ client, server, kind string }

func newEdges(b *feature.Buckets) *edges {
	labels := []string{"client", "server", "connection_type"}
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("traces_service_graph_"+name, help, labels, nil)
	}
	return &edges{
		buckets: b, labels: feature.NewLabelNames(labels...),
		requests: desc("request_total", "Requests from one service to another, as the client's host saw them."),
		failed:   desc("request_failed_total", "Those of them that failed."),
		seconds:  desc("request_client_seconds", "Duration of the requests from one service to another, as the client saw it."),
	}
}

// describe sends the descriptions.
func (e *edges) describe(ch chan<- *prometheus.Desc) {
	ch <- e.requests
	ch <- e.failed
	ch <- e.seconds
}

// collect sends the edges of a collection.
func (e *edges) collect(ch chan<- prometheus.Metric, sums map[pair]*feature.Edge) {
	before := e.kept
	foldServers(sums, before)
	e.kept = make(map[pair]*kept, len(sums))
	for p, sum := range sums {
		k := before[p]
		if k == nil {
			k = &kept{forgotten: feature.Edge{Durations: make([]uint64, feature.MaxSlots)}}
		}
		e.kept[p] = k
		sum = k.raise(sum)
		labels := e.labels.Pairs(p.client, p.server, p.kind)
		ch <- feature.NewCounter(e.requests, labels, float64(sum.Requests))
		ch <- feature.NewCounter(e.failed, labels, float64(sum.Failed))
		ch <- e.buckets.Histogram(e.seconds, labels, sum.Durations, float64(sum.DurationNanos)/1e9)
	}
}

// maxServers bounds the servers that are told of each client, as for a crawler;
// otherServer stands for the rest.
const (
	maxServers  = 128
	otherServer = "_OTHER"
)

// foldServers makes the servers of each client few. Those that were exported before
// stay.
func foldServers(sums map[pair]*feature.Edge, before map[pair]*kept) {
	of := make(map[string]int)
	var fresh []pair
	for p := range sums {
		if before[p] != nil {
			of[p.client]++
		} else {
			fresh = append(fresh, p)
		}
	}
	slices.SortFunc(fresh, func(a, b pair) int { return cmp.Compare(sums[b].Requests, sums[a].Requests) })
	for _, p := range fresh {
		if of[p.client]++; of[p.client] <= maxServers || p.server == otherServer {
			continue
		}
		one := *sums[p]
		delete(sums, p)
		one.Client, one.Server, one.Type = p.client, otherServer, p.kind
		addEdge(sums, &one)
	}
}

// raise adds to a sum what it has lost since the last one. An edge is the sum of
// many series, each of which is forgotten when its processes have been gone for
// long; a counter that falls looks as if all it has left was counted anew.
func (k *kept) raise(sum *feature.Edge) *feature.Edge {
	whole := &feature.Edge{Durations: make([]uint64, feature.MaxSlots)}
	add := func(whole, forgotten, last *uint64, now uint64) {
		if now < *last {
			*forgotten += *last - now
		}
		*last = now
		*whole = now + *forgotten
	}
	add(&whole.Requests, &k.forgotten.Requests, &k.last.Requests, sum.Requests)
	add(&whole.Failed, &k.forgotten.Failed, &k.last.Failed, sum.Failed)
	add(&whole.DurationNanos, &k.forgotten.DurationNanos, &k.last.DurationNanos, sum.DurationNanos)
	if k.last.Durations == nil {
		k.last.Durations = make([]uint64, feature.MaxSlots)
	}
	for i := range sum.Durations {
		add(&whole.Durations[i], &k.forgotten.Durations[i], &k.last.Durations[i], sum.Durations[i])
	}
	return whole
}

func addEdge(sums map[pair]*feature.Edge, one *feature.Edge) {
	addTo(sums, pair{one.Client, one.Server, one.Type}, one)
}

func addTo(sums map[pair]*feature.Edge, p pair, one *feature.Edge) {
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
