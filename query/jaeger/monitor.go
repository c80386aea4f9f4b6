package jaeger

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/vedette-io/vedette/query/traceapi"
	"github.com/vedette-io/vedette/query/traceql"
)

// monitorParams are what the page's Monitor tab asks for.
type monitorParams struct {
	services   []string
	kinds      []string
	operations bool  // a series for every operation
	start, end int64 // unix nanoseconds, multiples of step
	step       int64
	window     int64 // over which rates are averaged, a multiple of step
}

func (a *API) monitorParams(q url.Values) (*monitorParams, error) {
	p := &monitorParams{services: q["service"], kinds: q["spanKind"]}
	if len(p.services) == 0 {
		return nil, paramError("service", errors.New("please provide at least one service name"))
	}
	if len(p.kinds) == 0 {
		p.kinds = []string{"server"}
	}
	for _, k := range p.kinds {
		if _, err := parseKind(k); err != nil || k == "" {
			return nil, paramError("spanKind", fmt.Errorf("unsupported span kind: '%s'", k))
		}
	}
	var err error
	if p.operations, err = boolParam(q, "groupByOperation"); err != nil {
		return nil, err
	}
	if p.end, err = timeParam(q, "endTs", time.Millisecond, a.old.Now().UnixNano()); err != nil {
		return nil, err
	}
	lookback, err := millisParam(q, "lookback", time.Hour)
	if err != nil {
		return nil, err
	}
	step, err := millisParam(q, "step", 5*time.Second)
	if err != nil {
		return nil, err
	}
	window, err := millisParam(q, "ratePer", 10*time.Minute)
	if err != nil {
		return nil, err
	}
	if step <= 0 || (lookback+window)/step > traceql.MaxPoints {
		return nil, paramError("step", fmt.Errorf("got %s, want one that divides lookback and ratePer into at most %d points", step, traceql.MaxPoints))
	}
	p.step = int64(step)
	p.window = max(int64(window)/p.step, 1) * p.step
	p.end -= p.end % p.step
	p.start = p.end - int64(lookback)/p.step*p.step
	return p, nil
}

// query returns TraceQL for series of the spans that meet a further condition.
func (p *monitorParams) query(function, condition string) string {
	anyOf := func(left string, values []string) string {
		for i, v := range values {
			values[i] = left + v
		}
		return strings.Join(values, " || ")
	}
	services := make([]string, len(p.services))
	for i, s := range p.services {
		services[i] = traceapi.Quote(s)
	}
	conditions := []string{anyOf("resource.service.name = ", services), anyOf("kind = ", append([]string(nil), p.kinds...))}
	if condition != "" {
		conditions = append(conditions, condition)
	}
	by := "resource.service.name"
	if p.operations {
		by += ", name"
	}
	return traceapi.AllOf(conditions...) + " | " + function + " by (" + by + ")"
}

// ask evaluates a query at every step from start to end.
func (a *API) ask(w http.ResponseWriter, r *http.Request, p *monitorParams, query string, start int64) (*traceql.MetricsResult, error) {
	found, err := a.old.Querier().Metrics(r.Context(), traceql.MetricsRequest{
		Tenant: traceapi.Tenant(r), Query: query, Start: start, End: p.end, Step: p.step,
	})
	if err != nil {
		return nil, err
	}
	traceapi.NotePartial(w, found.Stats.Partial)
	return found, nil
}

// family is Jaeger's MetricFamily.
type family struct {
	Name    string   `json:"name"`
	Type    string   `json:"type"`
	Help    string   `json:"help"`
	Metrics []metric `json:"metrics"`
}

type metric struct {
	Labels []label `json:"labels"`
	Points []point `json:"metricPoints"`
}

type label struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type point struct {
	time  int64
	value float64
}

// MarshalJSON writes a point as protobuf's JSON does.
func (p point) MarshalJSON() ([]byte, error) {
	b := append([]byte(nil), `{"gaugeValue":{"doubleValue":`...)
	b = traceapi.AppendJSONDouble(b, p.value)
	b = append(b, `},"timestamp":"`...)
	b = time.Unix(0, p.time).UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, `"}`...), nil
}

var _ json.Marshaler = point{}

func newFamily(p *monitorParams, name, help string) *family {
	if p.operations {
		name = strings.Replace(name, "service", "service_operation", 1)
		help += " & operation"
	}
	return &family{Name: name, Type: "GAUGE", Help: help, Metrics: []metric{}}
}

// labelsOf returns a series' labels under the names that the page looks for.
func labelsOf(s *traceql.MetricsSeries) []label {
	out := make([]label, 0, 2)
	for _, kv := range s.Labels {
		switch kv.Key {
		case "resource.service.name":
			out = append(out, label{"service_name", kv.Value.Value()})
		case "name", "span:name":
			out = append(out, label{"operation", kv.Value.Value()})
		}
	}
	return out
}

// latencies answers with a quantile of the durations within each step, in
// milliseconds.
func (a *API) latencies(w http.ResponseWriter, r *http.Request) error {
	q, err := strconv.ParseFloat(r.URL.Query().Get("quantile"), 64)
	if err != nil {
		return paramError("quantile", err)
	}
	if !(q >= 0 && q <= 1) {
		return paramError("quantile", fmt.Errorf("got %v, want 0 to 1", q))
	}
	p, err := a.monitorParams(r.URL.Query())
	if err != nil {
		return err
	}
	function := "quantile_over_time(duration, " + strconv.FormatFloat(q, 'f', -1, 64) + ")"
	found, err := a.ask(w, r, p, p.query(function, ""), p.start)
	if err != nil {
		return err
	}
	f := newFamily(p, "service_latencies", fmt.Sprintf("%.2fth quantile latency, grouped by service", q))
	for i := range found.Series {
		s := &found.Series[i]
		m := metric{Labels: labelsOf(s), Points: make([]point, len(s.Values))}
		for j, v := range s.Values {
			m.Points[j] = point{found.Times[j], v * 1000}
		}
		f.Metrics = append(f.Metrics, m)
	}
	return respond(w, r, f)
}

// windowed returns counts within the window before each step from start on, by
// series. The counts begin one window before start.
func (p *monitorParams) windowed(found *traceql.MetricsResult) (times []int64, sums map[string][]float64) {
	width := int(p.window / p.step)
	first := 0
	for first < len(found.Times) && found.Times[first] < p.start {
		first++
	}
	sums = make(map[string][]float64, len(found.Series))
	for i := range found.Series {
		s := &found.Series[i]
		out := make([]float64, 0, len(s.Values)-first)
		var sum float64
		for j, v := range s.Values {
			if !math.IsNaN(v) {
				sum += v
			}
			if j >= width && !math.IsNaN(s.Values[j-width]) {
				sum -= s.Values[j-width]
			}
			if j >= first {
				out = append(out, sum)
			}
		}
		sums[seriesKey(s)] = out
	}
	return found.Times[first:], sums
}

func seriesKey(s *traceql.MetricsSeries) string {
	var key []byte
	for _, l := range labelsOf(s) {
		key = strconv.AppendQuote(key, l.Name)
		key = strconv.AppendQuote(key, l.Value)
	}
	return string(key)
}

// calls answers with the calls per second within the window before each step.
func (a *API) calls(w http.ResponseWriter, r *http.Request) error {
	p, err := a.monitorParams(r.URL.Query())
	if err != nil {
		return err
	}
	found, err := a.ask(w, r, p, p.query("count_over_time()", ""), p.start-p.window)
	if err != nil {
		return err
	}
	f := newFamily(p, "service_call_rate", "calls/sec, grouped by service")
	times, sums := p.windowed(found)
	seconds := float64(p.window) / float64(time.Second)
	for i := range found.Series {
		s := &found.Series[i]
		m := metric{Labels: labelsOf(s), Points: make([]point, len(times))}
		for j, n := range sums[seriesKey(s)] {
			m.Points[j] = point{times[j], n / seconds}
		}
		f.Metrics = append(f.Metrics, m)
	}
	return respond(w, r, f)
}

// failures answers with the share of calls that failed within the window before
// each step; NaN where there were none.
func (a *API) failures(w http.ResponseWriter, r *http.Request) error {
	p, err := a.monitorParams(r.URL.Query())
	if err != nil {
		return err
	}
	all, err := a.ask(w, r, p, p.query("count_over_time()", ""), p.start-p.window)
	if err != nil {
		return err
	}
	failed, err := a.ask(w, r, p, p.query("count_over_time()", "status = error"), p.start-p.window)
	if err != nil {
		return err
	}
	f := newFamily(p, "service_error_rate", "error rate, computed as a fraction of errors/sec over calls/sec, grouped by service")
	times, calls := p.windowed(all)
	_, errs := p.windowed(failed)
	for i := range all.Series {
		s := &all.Series[i]
		key := seriesKey(s)
		m := metric{Labels: labelsOf(s), Points: make([]point, len(times))}
		for j, n := range calls[key] {
			rate := math.NaN()
			if n > 0 {
				rate = 0
				if e := errs[key]; j < len(e) {
					rate = e[j] / n
				}
			}
			m.Points[j] = point{times[j], rate}
		}
		f.Metrics = append(f.Metrics, m)
	}
	return respond(w, r, f)
}

func (a *API) minStep(w http.ResponseWriter, r *http.Request) error {
	return respond(w, r, envelope{Data: 1, Total: 1})
}
