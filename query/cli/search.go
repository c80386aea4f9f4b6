package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vedette-io/vedette/query/traceapi"
	"github.com/vedette-io/vedette/query/traceql"
)

// SearchRequest is a search for traces as a person types it.
type SearchRequest struct {
	// Query is TraceQL; it gets only those spans that the conditions below leave.
	Query string

	Service   string
	Operation string
	// MinDuration and MaxDuration bound the duration of a span, as "100ms".
	MinDuration, MaxDuration string
	Error                    bool
	// Attrs are key=value. A key may begin with a scope, as "resource.host.name";
	// otherwise it is of the span or its resource.
	Attrs []string

	// Range asks for that long until End, as "1h"; empty is an hour unless Start is
	// set.
	Range, Start, End string
	Limit             int    // traces; 0 is 20
	Step              string // of a query that makes series; empty fits it to the width
	Instant           bool   // such a query has one value per series, of the whole range
}

// TraceQL returns the query that the request asks: the conditions as a filter,
// then its query.
func (q SearchRequest) TraceQL() (string, error) {
	var conditions []string
	add := func(format string, args ...any) { conditions = append(conditions, fmt.Sprintf(format, args...)) }
	if q.Service != "" {
		add("%s = %s", traceapi.Attribute(traceql.ScopeResource, "service.name"), traceapi.Quote(q.Service))
	}
	if q.Operation != "" {
		add("name = %s", traceapi.Quote(q.Operation))
	}
	for _, d := range []struct{ name, operator, text string }{
		{"least duration", ">=", q.MinDuration}, {"most duration", "<=", q.MaxDuration},
	} {
		if d.text == "" {
			continue
		}
		v, err := time.ParseDuration(d.text)
		if err != nil || v < 0 {
			return "", fmt.Errorf("read %s: got %q, want a duration such as 100ms or 1.5s", d.name, d.text)
		}
		add("duration %s %s", d.operator, traceapi.Duration(v))
	}
	if q.Error {
		add("status = error")
	}
	for _, a := range q.Attrs {
		condition, err := attrCondition(a)
		if err != nil {
			return "", err
		}
		conditions = append(conditions, condition)
	}
	query := strings.TrimSpace(q.Query)
	switch {
	case len(conditions) == 0:
		query = cmp.Or(query, "{}")
	case query == "":
		query = traceapi.AllOf(conditions...)
	default:
		if _, err := traceql.Parse(query); err != nil {
			return "", err // which points into what was typed
		}
		query = traceapi.AllOf(conditions...) + " | " + query
	}
	_, err := traceql.Parse(query)
	return query, err
}

// attrCondition returns the condition that key=value stands for.
func attrCondition(text string) (string, error) {
	key, value, ok := strings.Cut(text, "=")
	key = strings.TrimPrefix(strings.TrimSpace(key), ".")
	if !ok || key == "" {
		return "", fmt.Errorf("read attribute: got %q, want key=value", text)
	}
	scope := traceql.ScopeNone
	if prefix, name, ok := strings.Cut(key, "."); ok && name != "" {
		scopes := map[string]traceql.Scope{
			"span": traceql.ScopeSpan, "resource": traceql.ScopeResource, "event": traceql.ScopeEvent,
			"link": traceql.ScopeLink, "instrumentation": traceql.ScopeInstrumentation,
		}
		if s, ok := scopes[prefix]; ok {
			scope, key = s, name
		}
	}
	return traceapi.Equals(traceapi.Attribute(scope, key), value), nil
}

// Found is the answer to a search.
type Found struct {
	Traces []FoundTrace
	Cost   Cost
	Query  string
	Limit  int

	// Raw is the answer as it came.
	Raw json.RawMessage
}

// Cost is what an answer took.
type Cost struct {
	Traces int64       `json:"inspectedTraces"`
	Bytes  json.Number `json:"inspectedBytes"`
	Spans  json.Number `json:"inspectedSpans"`
	Done   int         `json:"completedJobs"`
	Total  int         `json:"totalJobs"`
}

// FoundTrace is a trace that a search has found. JSON as Tempo's.
type FoundTrace struct {
	ID          string                  `json:"traceID"`
	RootService string                  `json:"rootServiceName"`
	RootName    string                  `json:"rootTraceName"`
	Start       int64                   `json:"startTimeUnixNano,string"`
	DurationMs  int64                   `json:"durationMs"`
	Spansets    []FoundSpanset          `json:"spanSets"`
	Services    map[string]FoundService `json:"serviceStats"`
}

// FoundService counts a service's spans in a trace.
type FoundService struct {
	Spans  int `json:"spanCount"`
	Errors int `json:"errorCount"`
}

// FoundSpanset is the spans of a trace that match, or one group of them.
type FoundSpanset struct {
	Spans   []FoundSpan     `json:"spans"`
	Matched int             `json:"matched"`
	Attrs   []wireAttribute `json:"attributes"`
}

// FoundSpan is a span that matches.
type FoundSpan struct {
	ID       string          `json:"spanID"`
	Name     string          `json:"name"`
	Start    int64           `json:"startTimeUnixNano,string"`
	Duration int64           `json:"durationNanos,string"`
	Attrs    []wireAttribute `json:"attributes"`
}

// wireAttribute is an attribute as OTLP's JSON has it.
type wireAttribute struct {
	Key   string    `json:"key"`
	Value wireValue `json:"value"`
}

// wireValue is a value as text.
type wireValue string

func (v *wireValue) UnmarshalJSON(b []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return err
	}
	for _, raw := range fields { // there is one
		var s string
		if json.Unmarshal(raw, &s) != nil {
			s = string(raw)
		}
		*v = wireValue(s)
	}
	return nil
}

// shownSpans is how many spans of a spanset a search asks for.
const shownSpans = 20

// Search asks for the newest traces that match a TraceQL query, at most limit,
// and so many spans of each spanset.
func (c *Client) Search(ctx context.Context, query string, start, end time.Time, limit, spans int) (*Found, error) {
	body, err := c.get(ctx, tracePrefix+"/api/search", url.Values{
		"q":     {query},
		"start": {strconv.FormatInt(start.Unix(), 10)},
		"end":   {strconv.FormatInt(max(ceilSeconds(end), start.Unix()+1), 10)},
		"limit": {strconv.Itoa(limit)},
		"spss":  {strconv.Itoa(spans)},
	}, "application/json")
	if err != nil {
		return nil, err
	}
	f, err := decodeFound(body)
	if err != nil {
		return nil, fmt.Errorf("decode answer: %w", err)
	}
	f.Query, f.Limit = query, limit
	return f, nil
}

// ceilSeconds returns unix seconds that are not before t.
func ceilSeconds(t time.Time) int64 { return t.Add(time.Second - time.Nanosecond).Unix() }

func decodeFound(body []byte) (*Found, error) {
	f := &Found{Raw: body}
	var answer struct {
		Traces  []FoundTrace `json:"traces"`
		Metrics Cost         `json:"metrics"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	f.Traces, f.Cost = answer.Traces, answer.Metrics
	return f, nil
}

// SpanMetrics evaluates a TraceQL query that ends in a metrics function: at
// every step from start to end, or, if step is 0, once over all of it.
func (c *Client) SpanMetrics(ctx context.Context, query string, start, end time.Time, step time.Duration) (*Result, error) {
	path := "/api/metrics/query"
	form := url.Values{"q": {query}, "exemplars": {"1"}}
	if step > 0 {
		path = "/api/metrics/query_range"
		form.Set("step", step.String())
		from, to := traceql.AlignRange(start.UnixNano(), end.UnixNano(), int64(step))
		start, end = time.Unix(0, from).UTC(), time.Unix(0, to).UTC()
	}
	form.Set("start", strconv.FormatInt(start.UnixNano(), 10))
	form.Set("end", strconv.FormatInt(end.UnixNano(), 10))
	body, err := c.get(ctx, tracePrefix+path, form, "application/json")
	if err != nil {
		return nil, err
	}
	r, err := decodeSpanMetrics(body, end)
	if err != nil {
		return nil, fmt.Errorf("decode answer: %w", err)
	}
	if step > 0 {
		r.Start, r.End, r.Step = start, end, step
	}
	return r, nil
}

// jsonNumber is a float64 as protobuf's JSON writes it.
type jsonNumber float64

func (n *jsonNumber) UnmarshalJSON(b []byte) error {
	text := strings.Trim(string(b), `"`)
	switch text {
	case "Infinity":
		*n = jsonNumber(math.Inf(1))
		return nil
	case "-Infinity":
		*n = jsonNumber(math.Inf(-1))
		return nil
	}
	f, err := strconv.ParseFloat(text, 64)
	*n = jsonNumber(f)
	return err
}

func decodeSpanMetrics(body []byte, end time.Time) (*Result, error) {
	var answer struct {
		Series []struct {
			Labels  []wireAttribute `json:"labels"`
			Value   *jsonNumber     `json:"value"` // of an instant query
			Samples []struct {
				TimestampMs int64      `json:"timestampMs,string"`
				Value       jsonNumber `json:"value"`
			} `json:"samples"`
		} `json:"series"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	r := &Result{Type: "matrix", Raw: body}
	for _, w := range answer.Series {
		s := Series{Labels: make(map[string]string, len(w.Labels))}
		for _, l := range w.Labels {
			s.Labels[l.Key] = string(l.Value)
		}
		if w.Value != nil {
			r.Type = "vector"
			s.Points = []Point{{Time: end.UTC(), Value: float64(*w.Value)}}
		}
		for _, p := range w.Samples {
			s.Points = append(s.Points, Point{Time: time.UnixMilli(p.TimestampMs).UTC(), Value: float64(p.Value)})
		}
		slices.SortStableFunc(s.Points, func(a, b Point) int { return a.Time.Compare(b.Time) })
		r.Series = append(r.Series, s)
	}
	if answer.Message != "" {
		r.Warnings = []string{answer.Message}
	}
	return r, nil
}

// SearchFormat is how a search is printed.
type SearchFormat string

// The formats of a search. SearchAuto is a table of traces, or a chart of
// series.
const (
	SearchAuto  SearchFormat = "auto"
	SearchTable SearchFormat = "table"
	SearchJSON  SearchFormat = "json"
	SearchIDs   SearchFormat = "ids"
	SearchChart SearchFormat = "chart"
	SearchCSV   SearchFormat = "csv"
)

// SearchOptions say how to print what a search has found.
type SearchOptions struct {
	Format    SearchFormat
	Width     int
	Color     bool
	ASCII     bool
	Spans     bool // show the spans that match, too
	MaxSeries int
	Verbose   bool // say in the notes what was asked and what it cost
	Location  *time.Location
	// Progress shows that a search goes on; nil does not.
	Progress *Progress
}

// DefaultSearchOptions fit a terminal of 80 columns without colours.
func DefaultSearchOptions() SearchOptions {
	return SearchOptions{Format: SearchAuto, Width: 80, MaxSeries: 20, Location: time.UTC}
}

// RunSearch asks c, prints what was found to out and remarks to notes.
func RunSearch(ctx context.Context, c *Client, req SearchRequest, o SearchOptions, out, notes io.Writer) error {
	query, err := req.TraceQL()
	if err != nil {
		return err
	}
	if o.Verbose {
		fmt.Fprintln(notes, "query:", query)
	}
	parsed, err := traceql.Parse(query)
	if err != nil {
		return err
	}
	if parsed.Metrics != nil {
		return req.runMetrics(ctx, c, query, o, out, notes)
	}
	if req.Step != "" || req.Instant {
		return errors.New("read request: step and instant are for queries that end in a function such as rate()")
	}
	if o.Format == SearchChart || o.Format == SearchCSV {
		return fmt.Errorf("print traces: format %q, want auto, table, json or ids", o.Format)
	}
	start, end, _, err := req.span(o, time.Now())
	if err != nil {
		return err
	}
	limit := cmp.Or(req.Limit, 20)
	spans := 1
	if o.Spans || o.Format == SearchJSON {
		spans = shownSpans
	}
	var found *Found
	err = o.Progress.during("searching", func() error {
		found, err = c.Search(ctx, query, start, end, limit, spans)
		return err
	})
	if err != nil {
		return err
	}
	if err := RenderFound(out, found, o); err != nil {
		return err
	}
	return found.remark(notes, o)
}

// span returns the times of a request.
func (q SearchRequest) span(o SearchOptions, now time.Time) (start, end time.Time, step time.Duration, err error) {
	r := Request{Range: q.Range, Start: q.Start, End: q.End, Step: q.Step}
	if r.Range == "" && r.Start == "" {
		r.Range = "1h"
	}
	return r.span(Options{Width: o.Width}, now)
}

func (q SearchRequest) runMetrics(ctx context.Context, c *Client, query string, o SearchOptions, out, notes io.Writer) error {
	if o.Format == SearchIDs || o.Spans {
		return errors.New("print series: a query that ends in a metrics function finds no traces: want auto, table, chart, json or csv")
	}
	start, end, step, err := q.span(o, time.Now())
	if err != nil {
		return err
	}
	if q.Instant {
		if q.Step != "" {
			return errors.New("read request: got both step and instant, want one")
		}
		step = 0
	}
	var r *Result
	err = o.Progress.during("evaluating", func() error {
		r, err = c.SpanMetrics(ctx, query, start, end, step)
		return err
	})
	if err != nil {
		return err
	}
	show := DefaultOptions()
	show.Format, show.Width, show.MaxSeries, show.Location = Format(o.Format), o.Width, o.MaxSeries, o.Location
	if err := Render(out, r, show); err != nil {
		return err
	}
	return RenderNotes(notes, r)
}
