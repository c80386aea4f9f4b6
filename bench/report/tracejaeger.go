package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/vedette-io/vedette/bench/gen"
)

// jaegerQueries are the kinds of questions that Jaeger's older query API can
// answer. Its newest twenty are not checked: its store stops at the first it
// finds.
func (x *tracesRun) jaegerQueries() []traceQuery {
	f := x.sent.facts
	services := f.Services()
	byID, absent := traceQuery{title: askTrace}, traceQuery{title: askAbsent}
	for _, t := range f.Samples(asksByID) {
		byID.asks = append(byID.asks, traceAsk{path: fmt.Sprintf("/api/traces/%x", t.ID), check: func(body []byte) error {
			if got := bytes.Count(body, []byte(`"operationName":`)); got != t.Spans {
				return fmt.Errorf("got %d spans, want %d", got, t.Spans)
			}
			return nil
		}})
		id := t.ID
		id[9] ^= 0x5a
		absent.asks = append(absent.asks, traceAsk{path: fmt.Sprintf("/api/traces/%x", id), absent: true})
	}
	operation, failed, slow, userOf := traceQuery{title: askOperation}, traceQuery{title: askError}, traceQuery{title: askSlow}, traceQuery{title: askUserOf}
	for i := range asksSearch {
		s := services[i%len(services)]
		names := slices.Sorted(maps.Keys(f.Operations(s)))
		operation.asks = append(operation.asks, x.jaegerSearch(s, "operation", names[(i/len(services)*5+i)%len(names)]))
	}
	for _, s := range services {
		failed.asks = append(failed.asks, x.jaegerSearch(s, "tags", `{"error":"true"}`))
		longer := time.Duration(f.Quantile(s, 0.999))
		slow.asks = append(slow.asks, x.jaegerSearch(s, "minDuration", longer.Round(time.Microsecond).String()))
	}
	for _, u := range f.Users(asksSearch, "frontend") {
		userOf.asks = append(userOf.asks, x.jaegerSearch("frontend", "tags", fmt.Sprintf(`{"user.id":%q}`, gen.UserID(u))))
	}
	names := traceQuery{title: askNames}
	for _, s := range services {
		names.asks = append(names.asks, traceAsk{path: "/api/services/" + url.PathEscape(s) + "/operations", check: checkNames(slices.Sorted(maps.Keys(f.Operations(s))))})
	}
	return []traceQuery{byID, absent, operation, failed, slow, userOf, {askServices, repeat(asksScan, traceAsk{path: "/api/services"})}, names}
}

// jaegerSearch asks for traces of a service with one more condition.
func (x *tracesRun) jaegerSearch(service, key, value string) traceAsk {
	start, end := x.window()
	micros := func(nanos int64) string { return strconv.FormatInt(nanos/1000, 10) }
	return traceAsk{
		path: "/api/traces?" + url.Values{
			"service": {service}, key: {value}, "limit": {strconv.Itoa(newest)}, "start": {micros(start)}, "end": {micros(end)},
		}.Encode(),
		check: func(body []byte) error {
			var answer struct{ Data []json.RawMessage }
			if err := json.Unmarshal(body, &answer); err != nil {
				return fmt.Errorf("decode traces: %w", err)
			}
			if len(answer.Data) == 0 {
				return fmt.Errorf("got no trace of service %s with %s %s", service, key, value)
			}
			return nil
		},
	}
}
