package door

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"
)

// The client library of the Prometheus project takes our answers as it should.
func TestPrometheusClient(t *testing.T) {
	s := newServer(t, 2, nil)
	srv := httptest.NewServer(http.StripPrefix("/api/v1/write", RemoteWrite{s.entry}))
	defer srv.Close()
	api, err := remote.NewAPI(srv.URL, remote.WithAPIHTTPClient(srv.Client()))
	require.NoError(t, err)
	now := time.Now().UnixMilli()

	_, err = api.Write(t.Context(), remote.WriteV1MessageType, &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
		Labels: []prompb.Label{{Name: "__name__", Value: "one"}}, Samples: []prompb.Sample{{Value: 1, Timestamp: now}},
	}}})
	require.NoError(t, err)

	v2 := &writev2.Request{
		Symbols: []string{"", "__name__", "two"},
		Timeseries: []writev2.TimeSeries{
			{LabelsRefs: []uint32{1, 2}, Samples: []writev2.Sample{{Value: 2, Timestamp: now}}},
		},
	}
	stats, err := api.Write(t.Context(), remote.WriteV2MessageType, v2)
	require.NoError(t, err)
	require.Equal(t, 1, stats.Samples)

	v2.Timeseries = append(v2.Timeseries, writev2.TimeSeries{LabelsRefs: []uint32{2, 2}, Samples: []writev2.Sample{{Value: 3, Timestamp: now}}})
	v2.Timeseries[0].Samples[0].Timestamp++
	stats, err = api.Write(t.Context(), remote.WriteV2MessageType, v2)
	require.ErrorContains(t, err, `1 refused, the rest is written; first: series {two="two"}: label "__name__" is missing or empty`)
	require.Equal(t, 1, stats.Samples)
	require.Equal(t, []string{
		fmt.Sprintf(`default {__name__="one"} %d 1`, now),
		fmt.Sprintf(`default {__name__="two"} %d 2`, now),
		fmt.Sprintf(`default {__name__="two"} %d 2`, now+1),
	}, s.sink.Lines())
}
