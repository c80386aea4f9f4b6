package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	zipkinmodel "github.com/openzipkin/zipkin-go/model"
)

// request is what a client sends, as it sends it, and what it must find.
type request struct {
	path   string
	accept string // application/json if it is empty
	parts  []string
	form   url.Values // of a POST
}

// replay makes requests one after the other.
func (p *process) replay(requests []request) {
	t := p.t
	t.Helper()
	for _, r := range requests {
		method, body, headers := "GET", []byte(nil), []string{"Accept", "application/json, text/plain, */*"}
		if r.accept != "" {
			headers[1] = r.accept
		}
		if r.form != nil {
			method, body = "POST", []byte(r.form.Encode())
			headers = append(headers, "Content-Type", "application/x-www-form-urlencoded")
		}
		code, h, text := p.send(method, r.path, body, headers...)
		want := r.accept
		if want == "" {
			want = "application/json"
		}
		if code != http.StatusOK || !strings.HasPrefix(h.Get("Content-Type"), want) || h.Get("X-Vedette-Partial") != "" {
			t.Errorf("%s %s %s: got %d, %s, partial %q, want 200 and %s: %s", method, r.path, body, code, h.Get("Content-Type"), h.Get("X-Vedette-Partial"), want, text)
			continue
		}
		if want == "application/json" && !json.Valid([]byte(text)) {
			t.Errorf("%s %s: not JSON: %s", method, r.path, text)
		}
		for _, part := range r.parts {
			if !strings.Contains(text, part) {
				t.Errorf("%s %s %s: %s is not in %s", method, r.path, body, part, text)
			}
		}
	}
}

// checkGrafana sends what Grafana's data sources send: Tempo's (also from Traces
// Drilldown), with its service graph from the one of Prometheus, Jaeger's by both
// of its APIs, and Zipkin's.
func (p *process) checkGrafana(shop string, begin time.Time) {
	from, to := begin.Add(-time.Minute), begin.Add(time.Minute)
	span := fmt.Sprintf("start=%d&end=%d", from.Unix(), to.Unix())
	const accept, plain = "application/protobuf", "text/plain"
	q := url.QueryEscape
	const select_ = ` | select(status, resource.service.name, name, nestedSetParent, nestedSetLeft, nestedSetRight)`
	list := []request{
		// The data source is tested and opened.
		{path: "/tempo/api/echo", accept: plain, parts: []string{"echo"}},
		{path: "/tempo/api/status/buildinfo", parts: []string{`"version"`}},
		// The editor asks for names and values.
		{path: "/tempo/api/v2/search/tags?limit=5000", parts: []string{`{"name":"resource","tags":[`, `"service.name"`, `"intrinsic"`}},
		{path: "/tempo/api/v2/search/tags?limit=5000&" + span, parts: []string{`"http.route"`}},
		{path: "/tempo/api/v2/search/tag/resource.service.name/values?limit=5000", parts: []string{`{"type":"string","value":"shop"}`}},
		{path: "/tempo/api/v2/search/tag/name/values?limit=5000&q=" + q(`{resource.service.name="shop"}`), parts: []string{`"GET /cart"`}},
		{path: "/tempo/api/v2/search/tag/span.http.route/values?limit=5000&q=" + q(`{resource.service.name="shop" && .http.route= }`) + "&" + span, parts: []string{`/cart/{id}`}},
		{path: "/tempo/api/v2/search/tag/status/values?limit=5000", parts: []string{`{"type":"keyword","value":"error"}`}},
		{path: "/tempo/api/v2/search/tag/.service.name/values", parts: []string{`"shop"`}},
		{path: "/tempo/api/v2/search/tag/span%2Ehttp%2Eroute/values", parts: []string{`/cart/{id}`}},
		{path: "/tempo/api/search/tags", parts: []string{`"tagNames":[`, `"http.route"`}},
		{path: "/tempo/api/search/tag/service.name/values", parts: []string{`"shop"`}},
		// Searches, by TraceQL and as older ones do.
		{path: "/tempo/api/search?q=" + q(`{resource.service.name="shop" && name="GET /cart"}`) + "&limit=20&spss=3&" + span, parts: []string{`"traceID":"` + shop, `"durationMs":90`, `"rootServiceName":"shop"`, `"spanSets":[`}},
		{path: "/tempo/api/search?tags=" + q(` service.name="shop" name="GET /cart"`) + "&minDuration=10ms&maxDuration=1s&limit=20&" + span, parts: []string{shop}},
		{path: "/tempo/api/search?q=%7B%7D&limit=20&spss=3&" + span, parts: []string{shop}},
		// A trace.
		{path: "/tempo/api/v2/traces/" + shop, accept: accept, parts: []string{"GET /cart"}},
		{path: "/tempo/api/v2/traces/" + shop + "?" + span, accept: accept, parts: []string{"cart.Get"}},
		{path: "/tempo/api/traces/" + shop + "?" + span, accept: accept, parts: []string{"cart.Get"}},
		{path: "/tempo/api/traces/" + shop, parts: []string{`"batches":[`}},
		// Metrics.
		{path: "/tempo/api/metrics/query_range?exemplars=100&q=" + q(`{} | rate()`) + "&step=15s&" + span, parts: []string{`"series":[{`, `"promLabels":"{__name__=\"rate\"}"`}},
		{path: "/tempo/api/metrics/query_range?q=" + q(`{resource.service.name="shop"} | quantile_over_time(duration, .99, .5) by (name)`) + "&step=15s&" + span, parts: []string{`p=\"0.99\"`}},
		{path: "/tempo/api/metrics/query?q=" + q(`{} | count_over_time() by (resource.service.name)`) + "&" + span, parts: []string{`"value":2`}},
		// Traces Drilldown.
		{path: "/tempo/api/metrics/query_range?q=" + q(`{nestedSetParent<0 && true} | rate()`) + "&" + span, parts: []string{`"samples"`}},
		{path: "/tempo/api/metrics/query_range?q=" + q(`{nestedSetParent<0 && status=error} | rate() by(resource.service.name)`) + "&step=5s&" + span},
		{path: "/tempo/api/metrics/query_range?q=" + q(`{nestedSetParent<0 && true && resource.service.name != nil} | rate() by(resource.service.name)`) + "&step=5s&" + span, parts: []string{`shop`}},
		{path: "/tempo/api/metrics/query_range?q=" + q(`{nestedSetParent<0 && true} | histogram_over_time(duration)`) + "&step=5s&" + span, parts: []string{`__bucket`}},
		{path: "/tempo/api/metrics/query_range?q=" + q(`{nestedSetParent<0 && true} | histogram_over_time(duration) with(sample=true)`) + "&step=5s&" + span, parts: []string{`__bucket`}},
		{path: "/tempo/api/metrics/query_range?q=" + q(`{nestedSetParent<0 && true} | compare({status = error})`) + "&step=5s&" + span, parts: []string{`__meta_type`}},
		{path: "/tempo/api/search?limit=200&spss=10&q=" + q(`{nestedSetParent<0 && true} &>> { status = error }`+select_) + "&" + span, parts: []string{shop, `nestedSetLeft`}},
		{path: "/tempo/api/search?limit=200&spss=10&q=" + q(`{nestedSetParent<0 && kind=server} >> { status = error && name != nil }`+select_) + "&" + span, parts: []string{shop}},
		// The service graph, of the last minute.
		{path: "/api/v1/query", form: url.Values{"query": {`sum by (client, server) (increase(traces_service_graph_request_total[60s]))`}}, parts: []string{`"client":"shop"`, `"server":"cart"`}},
		{path: "/api/v1/query", form: url.Values{"query": {`sum by (client, server) (increase(traces_service_graph_request_server_seconds_sum[60s]))`}}, parts: []string{`"server":"cart"`}},
		{path: "/api/v1/query", form: url.Values{"query": {`sum by (client, server) (increase(traces_service_graph_request_failed_total[60s]))`}}, parts: []string{`"server":"cart"`}},
		{path: "/api/v1/query", form: url.Values{"query": {`group by (client, connection_type, server) (traces_service_graph_request_server_seconds_sum{})`}}, parts: []string{`"connection_type":"database"`}},
		{path: "/api/v1/query", form: url.Values{"query": {`topk(5, sum(rate(traces_spanmetrics_calls_total{span_kind="SPAN_KIND_SERVER"}[60s])) by (span_name))`}}, parts: []string{`"span_name":"GET /cart"`}},
		{path: "/api/v1/query", form: url.Values{"query": {`topk(5, sum(rate(traces_spanmetrics_calls_total{status_code="STATUS_CODE_ERROR",span_name=~"cart.Get|GET /cart"}[60s])) by (span_name))`}}, parts: []string{`"span_name":"cart.Get"`}},
		{path: "/api/v1/query", form: url.Values{"query": {`histogram_quantile(.9, sum(rate(traces_spanmetrics_latency_bucket{span_name=~"cart.Get"}[60s])) by (le))`}}, parts: []string{`"value":[`}},
		{path: "/api/v1/labels?match[]=" + q(`{__name__=~"traces_service_graph_request_total"}`), parts: []string{`"client"`}},
	}
	rfc := func(at time.Time) string { return at.In(time.FixedZone("", 2*3600)).Format(time.RFC3339Nano) } // a plus is sent as it is
	list = append(list,
		// Jaeger's data source: the older API, once without the prefix, as some versions
		// of the data source lose it.
		request{path: "/jaeger/api/services", parts: []string{`"shop"`, `"total":`}},
		request{path: "/jaeger/api/services/shop/operations", parts: []string{`"GET /cart"`}},
		request{path: "/jaeger/api/traces?limit=20&maxDuration=1s&minDuration=1ms&operation=GET+%2Fcart&service=shop&tags=" + q(`{"http.route":"/cart/{id}"}`), parts: []string{shop}},
		request{path: "/api/traces?limit=20&operation=GET+%2Fcart&service=shop", parts: []string{shop}},
		request{path: fmt.Sprintf("/jaeger/api/traces?service=shop&operation=GET%%20%%2Fcart&start=%d&end=%d&lookback=custom", from.UnixMicro(), to.UnixMicro()), parts: []string{shop}},
		request{path: "/jaeger/api/traces/" + shop, parts: []string{`"processes":{`, `"operationName":"GET /cart"`}},
		request{path: fmt.Sprintf("/jaeger/api/traces/%s?end=%d&start=%d", shop, to.UnixMicro(), from.UnixMicro()), parts: []string{`"processes":{`}},
		request{path: fmt.Sprintf("/jaeger/api/dependencies?endTs=%d&lookback=%d", to.UnixMilli(), 2*time.Minute.Milliseconds()), parts: []string{`"parent":"shop"`, `"child":"cart"`}},
		// And version 3.
		request{path: "/jaeger/api/v3/services", parts: []string{`"services":[`, `"shop"`}},
		request{path: "/jaeger/api/v3/operations?service=shop", parts: []string{`{"name":"GET /cart","spanKind":"server"}`}},
		request{path: "/jaeger/api/v3/traces?query.attributes=" + q(`{"http.route":"/cart/{id}"}`) + "&query.service_name=shop&query.start_time_min=" + rfc(from) + "&query.start_time_max=" + rfc(to), parts: []string{shop}},
		request{path: "/jaeger/api/v3/traces/" + shop + "?start_time=" + rfc(from) + "&end_time=" + rfc(to), parts: []string{`"resourceSpans":[`}},
		// Zipkin's.
		request{path: "/zipkin/api/v2/services", parts: []string{`"zipkin-front"`}},
		request{path: "/zipkin/api/v2/spans?serviceName=zipkin-front", parts: []string{`"get /api"`}},
		request{path: fmt.Sprintf("/zipkin/api/v2/traces?serviceName=zipkin-front&spanName=get+%%2Fapi&endTs=%d&lookback=%d", to.UnixMilli(), 2*time.Minute.Milliseconds()), parts: []string{"112233445566778899aabbccddeeff00"}},
		request{path: "/zipkin/api/v2/trace/112233445566778899aabbccddeeff00", parts: []string{`"shared":true`}},
	)
	p.replay(list)

	// It reads spans with zipkin-go.
	_, _, text := p.send("GET", "/zipkin/api/v2/trace/"+shop, nil)
	var spans []zipkinmodel.SpanModel
	if err := json.Unmarshal([]byte(text), &spans); err != nil || len(spans) != 4 {
		p.t.Errorf("the shop's trace for Zipkin: got %d spans, %v, want 4: %s", len(spans), err, text)
	}
	// Without such a trace it asks the older endpoint, and shows its answer.
	for _, path := range []string{"/tempo/api/v2/traces/", "/tempo/api/traces/", "/jaeger/api/traces/", "/jaeger/api/v3/traces/", "/zipkin/api/v2/trace/"} {
		if code, _, text := p.send("GET", path+"0000000000000000000000000000abcd", nil, "Accept", accept); code != http.StatusNotFound {
			p.t.Errorf("%s of no trace: got %d, want 404: %s", path, code, text)
		}
	}
	if code, _, text := p.send("GET", "/tempo/api/search?q="+q(`{ name = }`), nil); code != http.StatusBadRequest || !strings.Contains(text, "10") {
		p.t.Errorf("a query with a fault: got %d, %s, want 400 and the column", code, text)
	}
}

// checkJaegerUI sends what jaeger-ui 2.19 and those before it send.
func (p *process) checkJaegerUI(shop string, begin time.Time) {
	from, to := begin.Add(-time.Minute), begin.Add(time.Minute)
	v3 := "&query.startTimeMin=" + url.QueryEscape(from.UTC().Format("2006-01-02T15:04:05.000Z")) + "&query.startTimeMax=" + url.QueryEscape(to.UTC().Format("2006-01-02T15:04:05.000Z")) + "&query.searchDepth=20"
	p.replay([]request{
		{path: "/api/v3/services", parts: []string{`"shop"`}},
		{path: "/api/v3/operations?service=shop", parts: []string{`"spanKind":"client"`}},
		{path: "/api/v3/trace-summaries?query.serviceName=shop&query.operationName=GET+%2Fcart" + v3, parts: []string{
			`"traceId":"` + shop, `"rootServiceName":"shop"`, `"spanCount":4`, `"errorSpanCount":1`, `{"name":"cart","spanCount":2,"errorSpanCount":1}`,
		}},
		{path: "/api/v3/trace-summaries?query.serviceName=cart" + v3 + "&query.durationMin=1ms&query.attributes=%7B%22error%22%3A%22true%22%7D", parts: []string{shop}},
		{path: "/api/traces/" + shop, parts: []string{`"traceID":"` + shop, `"spanID"`, `"processID"`}},
		{path: fmt.Sprintf("/api/dependencies?endTs=%d&lookback=604800000", to.UnixMilli()), parts: []string{`"parent":"shop","child":"cart","callCount":1`}},
		// Before version 2.
		{path: "/api/services", parts: []string{`"shop"`}},
		{path: "/api/services/shop/operations", parts: []string{`"cart.Get"`}},
		{path: "/api/operations?service=shop&spanKind=server", parts: []string{`{"name":"GET /cart","spanKind":"server"}`}},
		{path: fmt.Sprintf("/api/traces?end=%d&limit=20&lookback=1h&maxDuration&minDuration&service=shop&start=%d", to.UnixMicro(), from.UnixMicro()), parts: []string{shop}},
		{path: fmt.Sprintf("/api/traces?end=%d&limit=20&lookback=1h&service=cart&start=%d&tags=%s", to.UnixMicro(), from.UnixMicro(), url.QueryEscape(`{"error":"true"}`)), parts: []string{shop}},
		{path: "/api/traces?traceID=" + shop + "&traceID=0000000000000000000000000000abcd", parts: []string{`"traceID":"` + shop, `"trace not found","traceID":"000000000000abcd"`}},
		{path: "/api/traces/" + shop + "?raw=true&prettyPrint=true", parts: []string{shop}},
		// The Monitor tab.
		{path: fmt.Sprintf("/api/metrics/latencies?service=shop&endTs=%d&lookback=3600000&quantile=0.95&ratePer=600000&spanKind=server&step=60000&groupByOperation=true", to.UnixMilli()), parts: []string{`"GET /cart"`, `"metricPoints"`}},
		{path: fmt.Sprintf("/api/metrics/calls?service=shop&endTs=%d&lookback=3600000&ratePer=600000&spanKind=server&step=60000", to.UnixMilli()), parts: []string{`"metricPoints"`}},
		{path: fmt.Sprintf("/api/metrics/errors?service=cart&endTs=%d&lookback=3600000&ratePer=600000&spanKind=server&step=60000", to.UnixMilli()), parts: []string{`"metricPoints"`}},
		{path: "/api/metrics/minstep"},
	})
}

// checkZipkinLens sends what zipkin-lens sends.
func (p *process) checkZipkinLens(begin time.Time) {
	end := begin.Add(time.Minute).UnixMilli()
	p.replay([]request{
		{path: "/zipkin/config.json", parts: []string{`"queryLimit"`, `"defaultLookback"`}},
		{path: "/zipkin/api/v2/services", parts: []string{`"zipkin-back"`, `"zipkin-front"`}},
		{path: "/zipkin/api/v2/autocompleteKeys"},
		{path: "/zipkin/api/v2/spans?serviceName=zipkin-front", parts: []string{`"get /api"`, `"of 64 bits"`}},
		{path: "/zipkin/api/v2/remoteServices?serviceName=zipkin-front", parts: []string{`["kafka","zipkin-back"]`}},
		{path: fmt.Sprintf("/zipkin/api/v2/traces?serviceName=zipkin-front&endTs=%d&lookback=900000&limit=10", end), parts: []string{`"112233445566778899aabbccddeeff00"`, `"99aabbccddeeff01"`}},
		{path: fmt.Sprintf("/zipkin/api/v2/traces?remoteServiceName=zipkin-back&annotationQuery=%s&minDuration=1000&maxDuration=2000&endTs=%d&lookback=900000&limit=10",
			url.QueryEscape("http.path=/api and wr"), end), parts: []string{`"112233445566778899aabbccddeeff01"`}},
		{path: "/zipkin/api/v2/traceMany?traceIds=112233445566778899aabbccddeeff00,112233445566778899aabbccddeeff01", parts: []string{`eff00"`, `eff01"`}},
		{path: fmt.Sprintf("/zipkin/api/v2/dependencies?endTs=%d&lookback=900000", end), parts: []string{`"parent":"zipkin-front","child":"zipkin-back","callCount":2,"errorCount":2`}},
	})
}
