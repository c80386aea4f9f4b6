package client

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

func TestTempoAnswersAreDecoded(t *testing.T) {
	made := ptrace.NewTraces()
	made.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty().SetName("x")
	encoded, err := new(ptrace.ProtoMarshaler).MarshalTraces(made)
	require.NoError(t, err)
	id := [16]byte{14: 0xab, 15: 1}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := ""
		switch r.URL.Path {
		case "/tempo/api/traces/0000000000000000000000000000ab01":
			require.Equal(t, "application/protobuf", r.Header.Get("Accept"))
			_, _ = w.Write(encoded)
			return
		case "/tempo/api/search":
			require.Equal(t, "{ }|7|100|200", r.FormValue("q")+"|"+r.FormValue("limit")+"|"+r.FormValue("start")+"|"+r.FormValue("end"))
			body = `{"traces":[{"traceID":"ab01","startTimeUnixNano":"12","spanSets":[{"matched":4,"spans":[{"spanID":"1","durationNanos":"99"}]},{"matched":1}]}],"metrics":{}}`
		case "/tempo/api/metrics/query_range":
			require.Equal(t, "60s", r.FormValue("step"))
			body = `{"series":[{"labels":[{"key":"resource.service.name","value":{"stringValue":"a"}}],"samples":[{"timestampMs":"1","value":2},{"timestampMs":"2","value":"NaN"}]}]}`
		case "/tempo/api/metrics/query":
			body = `{"series":[{"labels":[{"key":"n","value":{"intValue":"3"}}],"value":7.5}]}`
			if r.FormValue("q") == "partial" {
				body = `{"series":[],"status":"PARTIAL","message":"too much"}`
			}
		default:
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = w.Write([]byte(body))
	}))
	defer srv.Close()
	ctx, c := t.Context(), srv.Client()
	got, err := Trace(ctx, c, srv.URL, id)
	require.NoError(t, err)
	require.Equal(t, made, got)
	got, err = Trace(ctx, c, srv.URL, [16]byte{1})
	require.NoError(t, err)
	require.Zero(t, got.SpanCount())

	found, err := SearchTraces(ctx, c, srv.URL, "{ }", 100e9, 200e9+5, 7)
	require.NoError(t, err)
	require.Equal(t, []Found{{ID: id, Start: 12, Matched: 5, Durations: []int64{99}}}, found)

	series, err := TraceMetrics(ctx, c, srv.URL, "{ } | rate()", 0, 3600e9, time.Minute)
	require.NoError(t, err)
	require.Len(t, series, 1)
	require.Equal(t, map[string]string{"resource.service.name": "a"}, series[0].Labels)
	require.Len(t, series[0].Values, 2)
	series, err = TraceMetrics(ctx, c, srv.URL, "{ } | rate()", 0, 60e9, time.Minute)
	require.NoError(t, err)
	require.Equal(t, []TraceSeries{{Labels: map[string]string{"n": "3"}, Values: []float64{7.5}}}, series)
	_, err = TraceMetrics(ctx, c, srv.URL, "partial", 0, 60e9, time.Minute)
	require.ErrorContains(t, err, "too much")
}

func FuzzDecodeTempo(f *testing.F) {
	f.Add([]byte(`{"traces":[{"traceID":"ab01","startTimeUnixNano":"12","spanSets":[{"matched":4}]}]}`))
	f.Add([]byte(`{"series":[{"labels":[{"key":"n","value":{"intValue":"3"}}],"value":"NaN","samples":[{"value":1}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if found, err := DecodeSearch(b); err != nil && found != nil {
			t.Fatalf("got %d traces beside the error %v", len(found), err)
		}
		if series, err := DecodeTraceMetrics(b); err != nil && series != nil {
			t.Fatalf("got %d series beside the error %v", len(series), err)
		}
	})
}
