package probe

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature"
)

// asker is a feature that knows these edges.
type asker struct {
	feature.Feature
	edges []feature.Edge
}

func (a asker) Edges(visit func(*feature.Edge)) error {
	for i := range a.edges {
		visit(&a.edges[i])
	}
	return nil
}

func TestEdges(t *testing.T) {
	b, err := feature.NewBuckets([]float64{0.1, 1})
	require.NoError(t, err)
	slot := make([]uint64, feature.MaxSlots)
	slot[0] = 3
	e := newEdges([]feature.Feature{
		asker{edges: []feature.Edge{
			{Client: "nginx", Server: "shop", Requests: 2, Failed: 1, DurationNanos: 1e9, Durations: slot},
			{Client: "nginx", Server: "shop", Requests: 1, DurationNanos: 5e8},
		}},
		asker{edges: []feature.Edge{{Client: "shop", Server: "postgres", Type: "database", Requests: 4}}},
	}, b)
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
