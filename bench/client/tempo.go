package client

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
)

// Where Vedette takes traces and answers as Tempo does.
const (
	TracesPath = "/v1/traces"
	TempoPath  = "/tempo"
)

// Traces is Vedette's endpoint for OTLP traces.
func Traces(base string) Door { return OTLP(base + TracesPath) }

// Trace reads a trace by its id; it has no spans if the server knows none.
func Trace(ctx context.Context, c *http.Client, base string, id [16]byte) (ptrace.Traces, error) {
	body, err := fetch(ctx, c, base+TempoPath+"/api/traces/"+hex.EncodeToString(id[:]), "application/protobuf")
	var refused *StatusError
	if errors.As(err, &refused) && refused.Status == http.StatusNotFound {
		return ptrace.NewTraces(), nil
	}
	if err != nil {
		return ptrace.Traces{}, fmt.Errorf("read trace %x: %w", id, err)
	}
	var decode ptrace.ProtoUnmarshaler
	t, err := decode.UnmarshalTraces(body)
	if err != nil {
		return t, fmt.Errorf("decode trace %x: %w", id, err)
	}
	return t, nil
}

// SearchPath is a search by TraceQL for at most limit traces with spans from
// start to end, unix nanoseconds.
func SearchPath(query string, start, end int64, limit int) string {
	second := int64(time.Second)
	return TempoPath + "/api/search?" + url.Values{
		"q": {query}, "limit": {strconv.Itoa(limit)},
		"start": {strconv.FormatInt(start/second, 10)}, "end": {strconv.FormatInt(end/second, 10)},
	}.Encode()
}

// Found is a trace of an answer to a search.
type Found struct {
	ID      [16]byte
	Start   int64 // unix nanoseconds
	Matched int   // spans
	// Durations are those of the spans that the answer shows.
	Durations []int64
}

// DecodeSearch decodes the answer to a search.
func DecodeSearch(body []byte) ([]Found, error) {
	var answer struct {
		Traces []struct {
			TraceID           string
			StartTimeUnixNano string
			SpanSets          []struct {
				Matched int
				Spans   []struct{ DurationNanos string }
			}
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("decode search: %w", err)
	}
	out := make([]Found, len(answer.Traces))
	for i, t := range answer.Traces {
		// Leading zeros are left out.
		id, err := hex.DecodeString(strings.Repeat("0", max(0, 32-len(t.TraceID))) + t.TraceID)
		if err != nil || len(id) != 16 {
			return nil, fmt.Errorf("decode search: got trace id %q, want 32 hexadecimal digits", t.TraceID)
		}
		out[i].ID = [16]byte(id)
		if out[i].Start, err = parseInt(t.StartTimeUnixNano); err != nil {
			return nil, fmt.Errorf("decode search: start of trace %s: %w", t.TraceID, err)
		}
		for _, set := range t.SpanSets {
			out[i].Matched += set.Matched
			for _, s := range set.Spans {
				d, err := parseInt(s.DurationNanos)
				if err != nil {
					return nil, fmt.Errorf("decode search: duration in trace %s: %w", t.TraceID, err)
				}
				out[i].Durations = append(out[i].Durations, d)
			}
		}
	}
	return out, nil
}

// parseInt reads a 64-bit integer, which protobuf's JSON writes as a string and
// leaves out if it is 0.
func parseInt(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	return strconv.ParseInt(s, 10, 64)
}

// SearchTraces searches as SearchPath says.
func SearchTraces(ctx context.Context, c *http.Client, base, query string, start, end int64, limit int) ([]Found, error) {
	body, err := Fetch(ctx, c, base+SearchPath(query, start, end, limit))
	if err != nil {
		return nil, fmt.Errorf("search %s: %w", query, err)
	}
	return DecodeSearch(body)
}

// TraceMetricsPath is a TraceQL metrics query over steps from start to end, unix
// nanoseconds. A step of end - start gives one value.
func TraceMetricsPath(query string, start, end int64, step time.Duration) string {
	api := "/api/metrics/query_range?"
	v := url.Values{"q": {query}, "start": {strconv.FormatInt(start, 10)}, "end": {strconv.FormatInt(end, 10)}}
	if int64(step) >= end-start {
		api = "/api/metrics/query?"
	} else {
		v.Set("step", strconv.FormatFloat(step.Seconds(), 'f', -1, 64)+"s")
	}
	return TempoPath + api + v.Encode()
}

// TraceSeries is a series of an answer to a TraceQL metrics query.
type TraceSeries struct {
	Labels map[string]string
	Values []float64
}

// Sum adds up all values.
func (s TraceSeries) Sum() float64 {
	sum := 0.0
	for _, v := range s.Values {
		sum += v
	}
	return sum
}

// DecodeTraceMetrics decodes the answer to a TraceQL metrics query. An answer
// that is not whole is an error.
func DecodeTraceMetrics(body []byte) ([]TraceSeries, error) {
	var answer struct {
		Series []struct {
			Labels []struct {
				Key   string
				Value map[string]any
			}
			Value   *jsonNumber
			Samples []struct{ Value jsonNumber }
		}
		Status, Message string
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("decode trace metrics: %w", err)
	}
	if answer.Status != "" {
		return nil, fmt.Errorf("decode trace metrics: status %s: %s", answer.Status, answer.Message)
	}
	out := make([]TraceSeries, len(answer.Series))
	for i, s := range answer.Series {
		out[i].Labels = map[string]string{}
		for _, l := range s.Labels {
			for _, v := range l.Value {
				out[i].Labels[l.Key] = fmt.Sprint(v)
			}
		}
		if s.Value != nil {
			out[i].Values = []float64{float64(*s.Value)}
		}
		for _, x := range s.Samples {
			out[i].Values = append(out[i].Values, float64(x.Value))
		}
	}
	return out, nil
}

// jsonNumber is a number as protobuf's JSON writes it, which is a string for what
// JSON has no number for.
type jsonNumber float64

// UnmarshalJSON implements json.Unmarshaler.
func (n *jsonNumber) UnmarshalJSON(b []byte) error {
	text := strings.Trim(string(b), `"`)
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && text != "null" {
		return fmt.Errorf("decode number %s: %w", b, err)
	}
	if text == "null" {
		f = math.NaN()
	}
	*n = jsonNumber(f)
	return nil
}

// TraceMetrics asks as TraceMetricsPath says.
func TraceMetrics(ctx context.Context, c *http.Client, base, query string, start, end int64, step time.Duration) ([]TraceSeries, error) {
	body, err := Fetch(ctx, c, base+TraceMetricsPath(query, start, end, step))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", query, err)
	}
	series, err := DecodeTraceMetrics(body)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", query, err)
	}
	return series, nil
}
