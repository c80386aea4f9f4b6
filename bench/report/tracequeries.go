package report

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/vedette-io/vedette/bench/client"
	"github.com/vedette-io/vedette/bench/gen"
	"github.com/vedette-io/vedette/bench/peer"
)

// What is asked of traces; these titles tie figures to what must be reached.
const (
	askTrace     = "trace by id"
	askAbsent    = "trace by id, absent"
	askOperation = "service + operation, 20 newest"
	askError     = "service + status = error, 20 newest"
	askSlow      = "service + duration above p99.9, 20 newest"
	askUser      = "any service, user.id"
	askUserOf    = "service + user.id"
	askServices  = "services"
	askNames     = "operations of a service"
	askRate      = "rate by service over the hour"
	askRateSteps = "rate by service, steps of 60 s"
	askP99       = "p99 duration by service over the hour"
	askP99Steps  = "p99 duration by service, steps of 60 s"
	askWord      = "a word in db.query.text, rate"
)

// How many different questions of a kind are asked.
const (
	asksByID   = 200
	asksSearch = 40
	asksScan   = 10
	newest     = 20
)

// traceQuery is a kind of question, and questions of it.
type traceQuery struct {
	title string
	asks  []traceAsk
}

type traceAsk struct {
	path   string
	absent bool               // 404 is the right answer
	check  func([]byte) error // whether the answer is right
}

// verify counts the spans of every service, and the failed ones, and compares.
func (x *tracesRun) verify(ctx context.Context) error {
	if x.p.Name != peer.Vedette {
		return nil
	}
	c := client.New(1)
	defer c.CloseIdleConnections()
	for _, q := range []struct {
		query string
		want  map[string]int64
	}{
		{"{ } | count_over_time() by (resource.service.name)", x.sent.facts.Counts(false)},
		{"{ status = error } | count_over_time() by (resource.service.name)", x.sent.facts.Counts(true)},
	} {
		body, err := client.Fetch(ctx, c, x.p.URL+x.wholePath(q.query, 0))
		if err != nil {
			return fmt.Errorf("count spans: %w", err)
		}
		if err := checkByService(exactly(q.want), exactly(q.want), sum)(body); err != nil {
			x.wrong("%s: %v", q.query, err)
		}
		if x.out.Found < 0 {
			series, err := client.DecodeTraceMetrics(body)
			if err != nil {
				return err
			}
			x.out.Found = 0
			for _, s := range series {
				x.out.Found += int64(s.Sum())
			}
		}
	}
	return nil
}

// window is the time that the load's spans start in, in whole seconds.
func (x *tracesRun) window() (start, end int64) {
	const second = int64(time.Second)
	return x.sent.first/second*second - second, (x.sent.last/second + 2) * second
}

// wholePath asks a metrics query for one value over everything; later moves the
// end, so that no two questions are the same.
func (x *tracesRun) wholePath(query string, later int) string {
	start, end := x.window()
	end += int64(later) * int64(time.Second)
	return client.TraceMetricsPath(query, start, end, time.Duration(end-start))
}

func (x *tracesRun) stepsPath(query string, later int) string {
	start, end := x.window()
	return client.TraceMetricsPath(query, start, end+int64(later)*int64(time.Minute), time.Minute)
}

// vedetteQueries are all kinds of questions, with what the answers must be.
func (x *tracesRun) vedetteQueries() []traceQuery {
	f := x.sent.facts
	all := []traceQuery{{title: askTrace}, {title: askAbsent}}
	for _, t := range f.Samples(asksByID) {
		all[0].asks = append(all[0].asks, traceAsk{path: fmt.Sprintf("%s/api/traces/%x", client.TempoPath, t.ID), check: countSpans(t.Spans)})
		absent := t.ID
		absent[9] ^= 0x5a
		all[1].asks = append(all[1].asks, traceAsk{path: fmt.Sprintf("%s/api/traces/%x", client.TempoPath, absent), absent: true, check: isEmpty})
	}
	all = append(all, x.searches()...)
	all = append(all, traceQuery{askServices, repeat(asksScan, traceAsk{path: "/api/services", check: checkNames(x.sent.services)})})
	names := traceQuery{title: askNames}
	for _, s := range f.Services() {
		names.asks = append(names.asks, traceAsk{
			path: "/api/services/" + url.PathEscape(s) + "/operations", check: checkNames(slices.Sorted(maps.Keys(f.Operations(s)))),
		})
	}
	return append(append(all, names), x.scans()...)
}

func repeat(n int, a traceAsk) []traceAsk { return slices.Repeat([]traceAsk{a}, n) }

// searches are those for the newest traces.
func (x *tracesRun) searches() []traceQuery {
	f := x.sent.facts
	services := f.Services()
	search := func(query string, want []gen.FoundTrace) traceAsk {
		start, end := x.window()
		return traceAsk{path: client.SearchPath(query, start, end, newest), check: checkFound(want)}
	}
	operation, failed, slow := traceQuery{title: askOperation}, traceQuery{title: askError}, traceQuery{title: askSlow}
	for i := range asksSearch {
		s := services[i%len(services)]
		names := slices.Sorted(maps.Keys(f.Operations(s)))
		name := names[(i/len(services)*5+i)%len(names)]
		operation.asks = append(operation.asks, search(fmt.Sprintf("{ resource.service.name = %q && name = %q }", s, name),
			f.Newest(gen.SpanMatch{Service: s, Name: name}, newest)))
	}
	for _, s := range services {
		if want := f.Newest(gen.SpanMatch{Service: s, Failed: true}, newest); len(want) > 0 {
			failed.asks = append(failed.asks, search(fmt.Sprintf("{ resource.service.name = %q && status = error }", s), want))
		}
		longer := f.Quantile(s, 0.999)
		slow.asks = append(slow.asks, search(fmt.Sprintf("{ resource.service.name = %q && duration > %dns }", s, longer),
			f.Newest(gen.SpanMatch{Service: s, Longer: longer}, newest)))
	}
	user, userOf := traceQuery{title: askUser}, traceQuery{title: askUserOf}
	const root = "frontend"
	if x.sent.words != nil { // recorded spans have no users
		for _, u := range f.Users(asksSearch, root) {
			user.asks = append(user.asks, search(fmt.Sprintf("{ span.user.id = %q }", gen.UserID(u)), f.NewestOfUser(u, "", newest)))
			userOf.asks = append(userOf.asks, search(fmt.Sprintf("{ resource.service.name = %q && span.user.id = %q }", root, gen.UserID(u)), f.NewestOfUser(u, root, newest)))
		}
	}
	return []traceQuery{operation, failed, slow, user, userOf}
}

// scans are the questions that read every span.
func (x *tracesRun) scans() []traceQuery {
	f := x.sent.facts
	counts := f.Counts(false)
	start, end := x.window()
	rate, rateSteps, p99, p99Steps := traceQuery{title: askRate}, traceQuery{title: askRateSteps}, traceQuery{title: askP99}, traceQuery{title: askP99Steps}
	const byRate = "{ } | rate() by (resource.service.name)"
	const byP99 = "{ } | quantile_over_time(duration, .99) by (resource.service.name)"
	below, above := map[string]float64{}, map[string]float64{}
	for _, s := range f.Services() {
		_, lo, hi := f.QuantileAround(s, 0.99, 2)
		below[s], above[s] = float64(lo)/1e9*0.95, float64(hi)/1e9*1.05
	}
	wanted := exactly(counts)
	for i := range asksScan {
		seconds := float64(end-start)/1e9 + float64(i)
		rate.asks = append(rate.asks, traceAsk{path: x.wholePath(byRate, i), check: checkByService(wanted, wanted, func(v []float64) float64 { return v[0] * seconds })})
		rateSteps.asks = append(rateSteps.asks, traceAsk{path: x.stepsPath(byRate, i), check: checkByService(wanted, wanted, func(v []float64) float64 { return sum(v) * 60 })})
		p99.asks = append(p99.asks, traceAsk{path: x.wholePath(byP99, i), check: checkByService(below, above, sum)})
		p99Steps.asks = append(p99Steps.asks, traceAsk{path: x.stepsPath(byP99, i)})
	}
	word := traceQuery{title: askWord}
	for _, w := range slices.Sorted(maps.Keys(x.sent.words)) {
		seconds := float64(end-start) / 1e9
		word.asks = append(word.asks, traceAsk{
			path: x.wholePath(fmt.Sprintf(`{ span.db.query.text =~ ".*%s.*" } | rate()`, w), 0),
			check: func(body []byte) error {
				series, err := client.DecodeTraceMetrics(body)
				if err != nil {
					return err
				}
				if want := x.sent.words[w]; len(series) != 1 || len(series[0].Values) != 1 || math.Abs(series[0].Values[0]*seconds-float64(want)) > 0.5 {
					return fmt.Errorf("got %v, want one value, %f", series, float64(want)/seconds)
				}
				return nil
			},
		})
	}
	return []traceQuery{rate, rateSteps, p99, p99Steps, word}
}

func sum(v []float64) float64 { return client.TraceSeries{Values: v}.Sum() }

// countSpans checks the number of spans of a trace, in JSON as Grafana asks for
// it too.
func countSpans(want int) func([]byte) error {
	return func(body []byte) error {
		if got := bytes.Count(body, []byte(`"spanId":`)); got != want {
			return fmt.Errorf("got %d spans, want %d", got, want)
		}
		return nil
	}
}

func isEmpty(body []byte) error {
	if len(body) > 0 {
		return fmt.Errorf("got %d bytes for a trace that was never sent", len(body))
	}
	return nil
}

// checkFound checks that exactly the traces that are wanted were found.
func checkFound(want []gen.FoundTrace) func([]byte) error {
	return func(body []byte) error {
		got, err := client.DecodeSearch(body)
		if err != nil {
			return err
		}
		missing := map[gen.TraceID]bool{}
		for _, t := range want {
			missing[t.ID] = true
		}
		for _, t := range got {
			if !missing[t.ID] {
				return fmt.Errorf("got trace %x, which is not among the %d newest", t.ID, len(want))
			}
			delete(missing, t.ID)
		}
		if len(missing) > 0 {
			return fmt.Errorf("got %d traces, want %d", len(got), len(want))
		}
		return nil
	}
}

// checkNames checks a list of names as Jaeger's API answers it.
func checkNames(want []string) func([]byte) error {
	return func(body []byte) error {
		var answer struct{ Data []string }
		if err := json.Unmarshal(body, &answer); err != nil {
			return fmt.Errorf("decode names: %w", err)
		}
		slices.Sort(answer.Data)
		if !slices.Equal(answer.Data, want) {
			return fmt.Errorf("got %d names, want %d: %s … instead of %s …", len(answer.Data), len(want), first(answer.Data), first(want))
		}
		return nil
	}
}

func first(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strconv.Quote(names[0])
}

// exactly is counts as bounds of checkByService.
func exactly(counts map[string]int64) map[string]float64 {
	out := map[string]float64{}
	for name, n := range counts {
		out[name] = float64(n)
	}
	return out
}

// checkByService checks a value of every service, which figure computes from
// those of its series, against bounds; it may be off by a millionth.
func checkByService(least, most map[string]float64, figure func([]float64) float64) func([]byte) error {
	const part = 1e-6
	return func(body []byte) error {
		series, err := client.DecodeTraceMetrics(body)
		if err != nil {
			return err
		}
		found := 0
		for _, s := range series {
			name, got := s.Labels["resource.service.name"], figure(s.Values)
			lo, ok := least[name]
			hi := most[name]
			if !ok && got == 0 {
				continue
			}
			found++
			if !ok || got < lo*(1-part) || got > hi*(1+part) {
				return fmt.Errorf("service %q: got %g, want %g to %g", name, got, lo, hi)
			}
		}
		if found != len(least) {
			return fmt.Errorf("got %d services, want %d", found, len(least))
		}
		return nil
	}
}
