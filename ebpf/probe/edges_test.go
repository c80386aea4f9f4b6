package probe

import (
	"errors"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

// asker is a feature that knows these edges, or cannot read all of them.
type asker struct {
	edges []feature.Edge
	err   error
}

func (a *asker) Describe(chan<- *prometheus.Desc) {}
func (a *asker) Collect(chan<- prometheus.Metric) {}
func (a *asker) CollectEdges(_ chan<- prometheus.Metric, visit func(*feature.Edge)) error {
	for i := range a.edges {
		visit(&a.edges[i])
	}
	return a.err
}

func TestEdges(t *testing.T) {
	b, err := feature.NewBuckets([]float64{0.1, 1})
	require.NoError(t, err)
	slot := make([]uint64, feature.MaxSlots)
	slot[0] = 3
	e := collectorOf(b,
		&asker{edges: []feature.Edge{
			{Client: "nginx", Server: "shop", Requests: 2, Failed: 1, DurationNanos: 1e9, Durations: slot},
			{Client: "nginx", Server: "shop", Requests: 1, DurationNanos: 5e8},
		}},
		&asker{edges: []feature.Edge{{Client: "shop", Server: "postgres", Type: "database", Requests: 4}}},
	)
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(e))
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP traces_service_graph_request_total Requests from one service to another, as the client's host saw them.
# TYPE traces_service_graph_request_total counter
traces_service_graph_request_total{client="nginx",connection_type="",server="shop"} 3
traces_service_graph_request_total{client="shop",connection_type="database",server="postgres"} 4
# HELP traces_service_graph_request_failed_total Those of them that failed.
# TYPE traces_service_graph_request_failed_total counter
traces_service_graph_request_failed_total{client="nginx",connection_type="",server="shop"} 1
traces_service_graph_request_failed_total{client="shop",connection_type="database",server="postgres"} 0
# HELP traces_service_graph_request_client_seconds Duration of the requests from one service to another, as the client saw it.
# TYPE traces_service_graph_request_client_seconds histogram
traces_service_graph_request_client_seconds_bucket{client="nginx",connection_type="",server="shop",le="0.1"} 3
traces_service_graph_request_client_seconds_bucket{client="nginx",connection_type="",server="shop",le="1"} 3
traces_service_graph_request_client_seconds_bucket{client="nginx",connection_type="",server="shop",le="+Inf"} 3
traces_service_graph_request_client_seconds_sum{client="nginx",connection_type="",server="shop"} 1.5
traces_service_graph_request_client_seconds_count{client="nginx",connection_type="",server="shop"} 3
traces_service_graph_request_client_seconds_bucket{client="shop",connection_type="database",server="postgres",le="0.1"} 0
traces_service_graph_request_client_seconds_bucket{client="shop",connection_type="database",server="postgres",le="1"} 0
traces_service_graph_request_client_seconds_bucket{client="shop",connection_type="database",server="postgres",le="+Inf"} 0
traces_service_graph_request_client_seconds_sum{client="shop",connection_type="database",server="postgres"} 0
traces_service_graph_request_client_seconds_count{client="shop",connection_type="database",server="postgres"} 0
`)))
}

// What an edge has counted stays in it, though parts of it are forgotten.
func TestEdgesNeverFall(t *testing.T) {
	b, err := feature.NewBuckets([]float64{0.1, 1})
	require.NoError(t, err)
	slots := func(n uint64) []uint64 {
		s := make([]uint64, feature.MaxSlots)
		s[0] = n
		return s
	}
	a := &asker{}
	e := collectorOf(b, a)
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(e))
	for _, step := range []struct{ ok, notFound, want uint64 }{{3, 2, 5}, {4, 2, 6}, {4, 0, 6}, {7, 0, 9}, {7, 1, 10}} {
		a.edges = []feature.Edge{
			{Client: "a", Server: "b", Requests: step.ok, DurationNanos: step.ok, Durations: slots(step.ok)},
			{Client: "a", Server: "b", Requests: step.notFound, Failed: step.notFound, DurationNanos: step.notFound, Durations: slots(step.notFound)},
		}
		for _, m := range featuretest.Family(t, reg, "traces_service_graph_request_total", nil) {
			require.EqualValues(t, step.want, m.GetCounter().GetValue())
		}
		for _, m := range featuretest.Family(t, reg, "traces_service_graph_request_client_seconds", nil) {
			require.EqualValues(t, step.want, m.GetHistogram().GetSampleCount())
		}
	}
	for _, m := range featuretest.Family(t, reg, "traces_service_graph_request_failed_total", nil) {
		require.EqualValues(t, 3, m.GetCounter().GetValue())
	}
	a.edges, a.err = nil, errors.New("torn")
	require.Empty(t, featuretest.Family(t, reg, "traces_service_graph_request_total", nil), "some edges are not told")
	require.NotEmpty(t, e.edges.kept, "and are no loss")
	a.err = nil
	require.Empty(t, featuretest.Family(t, reg, "traces_service_graph_request_total", nil))
	require.Empty(t, e.edges.kept)
}

// A client that asks any number of servers has edges to some of them, the same at
// each collection, and one for the rest.
func TestEdgesAreBounded(t *testing.T) {
	b, err := feature.NewBuckets([]float64{0.1, 1})
	require.NoError(t, err)
	a := &asker{}
	for i := range 1000 {
		a.edges = append(a.edges, feature.Edge{Client: "crawler", Server: "10.0.0.1:" + strconv.Itoa(i), Requests: 1})
	}
	a.edges = append(a.edges, feature.Edge{Client: "shop", Server: "db", Requests: 2}, feature.Edge{Client: "crawler", Server: "db", Requests: 5})
	e := collectorOf(b, a)
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(e))
	const name = "traces_service_graph_request_total"
	servers := func() map[string]float64 {
		of := make(map[string]float64)
		for _, m := range featuretest.Family(t, reg, name, map[string]string{"client": "crawler"}) {
			of[featuretest.Label(m, "server")] = m.GetCounter().GetValue()
		}
		return of
	}
	first := servers()
	require.Len(t, first, maxServers+1)
	require.EqualValues(t, 5, first["db"], "those asked most are told")
	require.EqualValues(t, 1000-(maxServers-1), first[otherServer])
	require.Equal(t, first, servers())
	require.Len(t, featuretest.Family(t, reg, name, map[string]string{"client": "shop", "server": "db"}), 1)
}

// Two who collect at a time do not take what the other has counted since for a loss.
func TestEdgesOfTwoCollections(t *testing.T) {
	b, err := feature.NewBuckets([]float64{0.1, 1})
	require.NoError(t, err)
	a := new(counting)
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(collectorOf(b, a)))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				_, err := reg.Gather()
				assert.NoError(t, err)
			}
		})
	}
	wg.Wait()
	m := featuretest.Family(t, reg, "traces_service_graph_request_total", nil)
	require.Len(t, m, 1)
	require.EqualValues(t, a.n.Load(), m[0].GetCounter().GetValue())
}

// counting is a feature with an edge that counts how often it was collected.
type counting struct {
	asker
	n atomic.Uint64
}

func (c *counting) CollectEdges(_ chan<- prometheus.Metric, visit func(*feature.Edge)) error {
	e := feature.Edge{Client: "a", Server: "b", Requests: c.n.Add(1)}
	runtime.Gosched() // between reading and telling
	visit(&e)
	return nil
}
