package tempo

import (
	"cmp"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vedette-io/vedette/query/traceapi"
	"github.com/vedette-io/vedette/query/traceql"
)

// maxExemplars is how many exemplars an answer has if the client says nothing,
// and at most.
const maxExemplars = 100

func (a *API) metrics(w http.ResponseWriter, r *http.Request, instant bool) (*traceql.MetricsResult, error) {
	q := r.URL.Query()
	query := cmp.Or(q.Get("q"), q.Get("query"))
	if query == "" {
		return nil, traceapi.BadRequest("invalid q: the query is missing")
	}
	parsed, err := traceql.Parse(query)
	if err != nil {
		return nil, err
	}
	if parsed.Metrics == nil {
		return nil, traceapi.BadRequest("invalid q: not a metrics query: it ends without a function such as rate() or count_over_time()")
	}
	req := traceql.MetricsRequest{Tenant: traceapi.Tenant(r), Query: query}
	if req.Start, req.End, err = a.metricsRange(q); err != nil {
		return nil, err
	}
	series, err := uintParam(q, "maxSeries", math.MaxInt32)
	if err != nil {
		return nil, err
	}
	req.MaxSeries = int(series)
	if instant {
		req.Step = req.End - req.Start
	} else {
		if req.Step, err = stepParam(q.Get("step"), req.Start, req.End); err != nil {
			return nil, err
		}
		req.Start, req.End = traceql.AlignRange(req.Start, req.End, req.Step)
		exemplars, err := uintParam(q, "exemplars", math.MaxInt32)
		if err != nil {
			return nil, err
		}
		if req.Exemplars = int(min(exemplars, maxExemplars)); exemplars == 0 {
			req.Exemplars = maxExemplars
		}
	}
	found, err := a.Querier().Metrics(r.Context(), req)
	if err != nil {
		return nil, err
	}
	nameSeries(found, parsed.Metrics.Func)
	traceapi.NotePartial(w, found.Stats.Partial)
	return found, nil
}

// nameSeries gives a series without labels the function's name, as Tempo does.
func nameSeries(found *traceql.MetricsResult, f traceql.MetricsFunc) {
	for i := range found.Series {
		if len(found.Series[i].Labels) == 0 {
			found.Series[i].Labels = []traceql.KeyValue{{Key: "__name__", Value: traceql.String(f.String())}}
		}
	}
}

// rangeResponse is Tempo's QueryRangeResponse.
type rangeResponse struct {
	Series  []timeSeries  `json:"series"`
	Metrics searchMetrics `json:"metrics"`
	Status  string        `json:"status,omitempty"`
	Message string        `json:"message,omitempty"`
}

type timeSeries struct {
	Labels     []keyValue `json:"labels,omitempty"`
	Samples    []sample   `json:"samples,omitempty"`
	PromLabels string     `json:"promLabels,omitempty"`
	Exemplars  []exemplar `json:"exemplars,omitempty"`
}

type sample struct {
	TimestampMs int64  `json:"timestampMs,string"`
	Value       number `json:"value"`
}

type exemplar struct {
	Labels      []keyValue `json:"labels,omitempty"`
	Value       number     `json:"value"`
	TimestampMs int64      `json:"timestampMs,string"`
}

// number is a float64 that may be what JSON has no number for.
type number float64

// MarshalJSON writes NaN and the infinities as protobuf's JSON does.
func (n number) MarshalJSON() ([]byte, error) {
	return traceapi.AppendJSONDouble(nil, float64(n)), nil
}

func (a *API) queryRange(w http.ResponseWriter, r *http.Request) error {
	found, err := a.metrics(w, r, false)
	if err != nil {
		return err
	}
	out := &rangeResponse{Series: make([]timeSeries, 0, len(found.Series)), Metrics: newSearchMetrics(found.Stats)}
	if found.Stats.Partial != "" {
		out.Status, out.Message = "PARTIAL", found.Stats.Partial
	}
	for _, s := range found.Series {
		series := timeSeries{Labels: keyValues(s.Labels), PromLabels: promLabels(s.Labels)}
		for i, v := range s.Values {
			if !math.IsNaN(v) {
				series.Samples = append(series.Samples, sample{found.Times[i] / int64(time.Millisecond), number(v)})
			}
		}
		for _, e := range s.Exemplars {
			series.Exemplars = append(series.Exemplars, newExemplar(e))
		}
		out.Series = append(out.Series, series)
	}
	return respond(w, r, out)
}

// newExemplar returns an exemplar with the ids that clients link by.
func newExemplar(e traceql.Exemplar) exemplar {
	out := exemplar{Value: number(e.Value), TimestampMs: e.Time / int64(time.Millisecond), Labels: keyValues(e.Labels)}
	for _, id := range [...]struct{ key, value string }{
		{"trace:id", traceapi.TraceIDHex(e.TraceID)}, {"span:id", traceapi.SpanIDHex(e.SpanID)},
	} {
		if !slices.ContainsFunc(out.Labels, func(kv keyValue) bool { return kv.Key == id.key }) {
			out.Labels = append(out.Labels, keyValue{id.key, anyValue{traceql.String(id.value)}})
		}
	}
	return out
}

func (q *rangeResponse) appendProto(dst []byte) []byte {
	for i := range q.Series {
		s := &q.Series[i]
		dst = appendMessage(dst, 1, func(dst []byte) []byte {
			dst = appendKeyValues(dst, 1, s.Labels)
			for _, x := range s.Samples {
				dst = appendMessage(dst, 2, func(dst []byte) []byte {
					return appendUint(appendDouble(dst, 1, float64(x.Value)), 2, uint64(x.TimestampMs), false)
				})
			}
			dst = appendBytes(dst, 3, s.PromLabels, false)
			for _, e := range s.Exemplars {
				dst = appendMessage(dst, 4, func(dst []byte) []byte {
					dst = appendKeyValues(dst, 1, e.Labels)
					return appendUint(appendDouble(dst, 2, float64(e.Value)), 3, uint64(e.TimestampMs), false)
				})
			}
			return dst
		})
	}
	return appendOutcome(dst, q.Metrics, q.Message)
}

// appendOutcome appends what the answers to metrics queries end with.
func appendOutcome(dst []byte, m searchMetrics, partial string) []byte {
	dst = appendMessage(dst, 2, m.appendProto)
	if partial != "" {
		dst = appendUint(dst, 3, statusPartial, false)
		dst = appendBytes(dst, 4, partial, false)
	}
	return dst
}

// instantResponse is Tempo's QueryInstantResponse.
type instantResponse struct {
	Series  []instantSeries `json:"series"`
	Metrics searchMetrics   `json:"metrics"`
	Status  string          `json:"status,omitempty"`
	Message string          `json:"message,omitempty"`
}

type instantSeries struct {
	Labels     []keyValue `json:"labels,omitempty"`
	Value      number     `json:"value"`
	PromLabels string     `json:"promLabels,omitempty"`
}

func (a *API) query(w http.ResponseWriter, r *http.Request) error {
	found, err := a.metrics(w, r, true)
	if err != nil {
		return err
	}
	out := &instantResponse{Series: make([]instantSeries, 0, len(found.Series)), Metrics: newSearchMetrics(found.Stats)}
	if found.Stats.Partial != "" {
		out.Status, out.Message = "PARTIAL", found.Stats.Partial
	}
	for _, s := range found.Series {
		// A step as long as the range leaves one value, at its end.
		if len(s.Values) == 0 || math.IsNaN(s.Values[len(s.Values)-1]) {
			continue
		}
		out.Series = append(out.Series, instantSeries{
			Labels: keyValues(s.Labels), Value: number(s.Values[len(s.Values)-1]), PromLabels: promLabels(s.Labels),
		})
	}
	return respond(w, r, out)
}

func (q *instantResponse) appendProto(dst []byte) []byte {
	for i := range q.Series {
		s := &q.Series[i]
		dst = appendMessage(dst, 1, func(dst []byte) []byte {
			dst = appendKeyValues(dst, 1, s.Labels)
			dst = appendDouble(dst, 2, float64(s.Value))
			return appendBytes(dst, 3, s.PromLabels, false)
		})
	}
	return appendOutcome(dst, q.Metrics, q.Message)
}

// promLabels returns labels as Prometheus writes them, sorted by name.
func promLabels(labels []traceql.KeyValue) string {
	sorted := slices.SortedFunc(slices.Values(labels), func(a, b traceql.KeyValue) int { return cmp.Compare(a.Key, b.Key) })
	var b strings.Builder
	b.WriteByte('{')
	for i, l := range sorted {
		if i > 0 {
			b.WriteString(", ")
		}
		if plainLabel(l.Key) {
			b.WriteString(l.Key)
		} else {
			b.WriteString(strconv.Quote(l.Key))
		}
		b.WriteByte('=')
		b.WriteString(strconv.Quote(l.Value.Value()))
	}
	b.WriteByte('}')
	return b.String()
}

// plainLabel reports whether PromQL takes a label's name without quotes.
func plainLabel(name string) bool {
	for i := range len(name) {
		c := name[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || i > 0 && c >= '0' && c <= '9' {
			continue
		}
		return false
	}
	return name != ""
}
