package jaeger

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/query/traceapi"
	"github.com/vedette-io/vedette/query/traceql"
)

const (
	defaultLimit    = 100
	defaultLookback = 48 * time.Hour
)

var errServiceRequired = &traceapi.Error{Code: http.StatusBadRequest, Err: fmt.Errorf("parameter 'service' is required")}

// searchParams are what a search asks for.
type searchParams struct {
	service, operation       string
	tags                     []tag // sorted by key
	start, end               int64 // unix nanoseconds
	minDuration, maxDuration time.Duration
	limit                    int
	raw                      bool
	ids                      []signal.TraceID
}

type tag struct{ key, value string }

// query returns the search in TraceQL: one span meets all conditions.
func (p *searchParams) query() string {
	var c []string
	if p.service != "" {
		c = append(c, "resource.service.name = "+traceapi.Quote(p.service))
	}
	if p.operation != "" {
		c = append(c, "name = "+traceapi.Quote(p.operation))
	}
	for _, t := range p.tags {
		c = append(c, tagCondition(t.key, t.value))
	}
	if p.minDuration > 0 {
		c = append(c, "duration >= "+traceapi.Duration(p.minDuration))
	}
	if p.maxDuration > 0 {
		c = append(c, "duration <= "+traceapi.Duration(p.maxDuration))
	}
	return traceapi.AllOf(c...)
}

// tagCondition returns the TraceQL condition for a tag. Jaeger has tags for what
// are fields of a span here.
func tagCondition(key, value string) string {
	switch key {
	case "error":
		switch value {
		case "true":
			return `status = error || .error = true || .error = "true"`
		case "false":
			return `status != error`
		}
	case "span.kind":
		if k, err := parseKind(value); err == nil && k > 0 {
			return "kind = " + value
		}
	case "otel.status_code":
		switch strings.ToUpper(value) {
		case "ERROR", "OK":
			return "status = " + strings.ToLower(value)
		}
	case "otel.status_description":
		return "statusMessage = " + traceapi.Quote(value)
	case "otel.scope.name", "otel.library.name":
		return "instrumentation:name = " + traceapi.Quote(value)
	case "otel.scope.version", "otel.library.version":
		return "instrumentation:version = " + traceapi.Quote(value)
	case "event":
		return "event:name = " + traceapi.Quote(value) + " || " + traceapi.Equals(".event", value)
	}
	return traceapi.Equals(traceapi.Attribute(traceql.ScopeNone, key), value)
}

// searchParams reads the older API's parameters.
func (a *API) searchParams(q url.Values) (*searchParams, error) {
	p := &searchParams{service: q.Get("service"), operation: q.Get("operation"), limit: defaultLimit}
	now := a.old.Now().UnixNano()
	var err error
	if p.start, err = microsParam(q, "start", now-int64(defaultLookback)); err != nil {
		return nil, err
	}
	if p.end, err = microsParam(q, "end", now); err != nil {
		return nil, err
	}
	if p.tags, err = parseTags(q["tag"], q["tags"]); err != nil {
		return nil, err
	}
	if text := q.Get("limit"); text != "" {
		if p.limit, err = parseLimit("limit", text); err != nil {
			return nil, err
		}
	}
	if p.minDuration, err = durationParam(q, "minDuration"); err != nil {
		return nil, err
	}
	if p.maxDuration, err = durationParam(q, "maxDuration"); err != nil {
		return nil, err
	}
	for _, text := range q["traceID"] {
		id, err := parseTraceID(text)
		if err != nil {
			return nil, traceapi.BadRequest("cannot parse traceID param: %w", err)
		}
		p.ids = append(p.ids, id)
	}
	if len(p.ids) > traceapi.MaxTraces {
		return nil, traceapi.BadRequest("got %d traceID params, want at most %d", len(p.ids), traceapi.MaxTraces)
	}
	if p.raw, err = boolParam(q, "raw"); err != nil {
		return nil, err
	}
	if len(p.ids) == 0 && p.service == "" {
		return nil, errServiceRequired
	}
	if p.maxDuration > 0 && p.minDuration > p.maxDuration {
		return nil, traceapi.BadRequest("'maxDuration' should be greater than 'minDuration'")
	}
	return p, nil
}

// searchParamsV3 reads version 3's parameters.
func searchParamsV3(q url.Values) (*searchParams, error) {
	p := &searchParams{
		service:   firstOf(q, "query.serviceName", "query.service_name"),
		operation: firstOf(q, "query.operationName", "query.operation_name"),
		limit:     defaultLimit,
	}
	if q.Get("query.filter") != "" {
		return nil, traceapi.BadRequest("malformed parameter query.filter: this server knows no filter expressions, use query.attributes")
	}
	var err error
	if text := q.Get("query.attributes"); text != "" {
		if p.tags, err = parseTags(nil, []string{text}); err != nil {
			return nil, traceapi.BadRequest("malformed parameter query.attributes: %w", err)
		}
	}
	least, most := firstOf(q, "query.startTimeMin", "query.start_time_min"), firstOf(q, "query.startTimeMax", "query.start_time_max")
	if least == "" || most == "" {
		return nil, traceapi.BadRequest("query.startTimeMin and query.startTimeMax are required")
	}
	if p.start, err = rfc3339("query.startTimeMin", least); err != nil {
		return nil, err
	}
	if p.end, err = rfc3339("query.startTimeMax", most); err != nil {
		return nil, err
	}
	if p.start >= p.end {
		return nil, traceapi.BadRequest("query.startTimeMin must be before query.startTimeMax")
	}
	if text := firstOf(q, "query.searchDepth", "query.search_depth", "query.num_traces"); text != "" {
		if p.limit, err = parseLimit("query.searchDepth", text); err != nil {
			return nil, err
		}
	}
	if p.minDuration, err = durationParamV3(q, "query.durationMin", "query.duration_min"); err != nil {
		return nil, err
	}
	if p.maxDuration, err = durationParamV3(q, "query.durationMax", "query.duration_max"); err != nil {
		return nil, err
	}
	return p, nil
}

// firstOf returns the first of several names' values that is not empty.
func firstOf(q url.Values, names ...string) string {
	for _, name := range names {
		if v := q.Get(name); v != "" {
			return v
		}
	}
	return ""
}

// parseTags reads key:value pairs and JSON objects.
func parseTags(pairs, objects []string) ([]tag, error) {
	values := make(map[string]string)
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, ":")
		if !ok {
			return nil, traceapi.BadRequest("malformed 'tag' parameter, expecting key:value, received: %s", pair)
		}
		values[key] = value
	}
	for _, object := range objects {
		if object == "" {
			continue
		}
		var got map[string]any
		d := json.NewDecoder(strings.NewReader(object))
		d.UseNumber()
		if err := d.Decode(&got); err != nil {
			return nil, traceapi.BadRequest("malformed 'tags' parameter, cannot unmarshal JSON: %w", err)
		}
		for key, v := range got {
			switch v := v.(type) {
			case string:
				values[key] = v
			case bool, json.Number:
				values[key] = fmt.Sprint(v)
			default:
				return nil, traceapi.BadRequest("malformed 'tags' parameter, cannot unmarshal JSON: the value of %q is no string", key)
			}
		}
	}
	tags := make([]tag, 0, len(values))
	for key, value := range values {
		if key == "" {
			return nil, traceapi.BadRequest("malformed 'tags' parameter: a key is empty")
		}
		tags = append(tags, tag{key, value})
	}
	slices.SortFunc(tags, func(a, b tag) int { return strings.Compare(a.key, b.key) })
	return tags, nil
}

func paramError(name string, err error) error {
	return traceapi.BadRequest("unable to parse param '%s': %w", name, err)
}

func parseLimit(name, text string) (int, error) {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0, paramError(name, err)
	}
	if n < 1 || n > traceapi.MaxTraces {
		return 0, paramError(name, fmt.Errorf("got %d, want 1 to %d", n, traceapi.MaxTraces))
	}
	return int(n), nil
}

func microsParam(q url.Values, name string, absent int64) (int64, error) {
	return timeParam(q, name, time.Microsecond, absent)
}

// timeParam reads a unix time in a unit.
func timeParam(q url.Values, name string, unit time.Duration, absent int64) (int64, error) {
	text := q.Get(name)
	if text == "" {
		return absent, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, paramError(name, err)
	}
	if n < 0 || n > math.MaxInt64/int64(unit) {
		return 0, paramError(name, fmt.Errorf("%d is no time in units of %s", n, unit))
	}
	return n * int64(unit), nil
}

// millisParam reads milliseconds.
func millisParam(q url.Values, name string, absent time.Duration) (time.Duration, error) {
	n, err := timeParam(q, name, time.Millisecond, int64(absent))
	return time.Duration(n), err
}

func durationParam(q url.Values, name string) (time.Duration, error) {
	text := q.Get(name)
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, paramError(name, err)
	}
	return d, nil
}

func durationParamV3(q url.Values, names ...string) (time.Duration, error) {
	text := firstOf(q, names...)
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, traceapi.BadRequest("malformed parameter %s: %w", names[0], err)
	}
	return d, nil
}

func rfc3339(name, text string) (int64, error) {
	// A plus that was sent as it is came as a space; Grafana sends it so.
	t, err := time.Parse(time.RFC3339Nano, strings.Replace(text, " ", "+", 1))
	if err != nil {
		return 0, traceapi.BadRequest("malformed parameter %s: %w", name, err)
	}
	return max(t.UnixNano(), 0), nil
}

func boolParam(q url.Values, name string) (bool, error) {
	text := q.Get(name)
	if text == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, paramError(name, err)
	}
	return b, nil
}

// parseTraceID reads an id in hexadecimal, or in any kind of base64.
func parseTraceID(text string) (signal.TraceID, error) {
	id, err := traceapi.ParseTraceID(text)
	if err == nil || len(text) > base64.StdEncoding.EncodedLen(len(id)) {
		return id, err
	}
	for _, e := range [...]*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
		if b, decodeErr := e.DecodeString(text); decodeErr == nil && len(b) == len(id) {
			return signal.TraceID(b), nil
		}
	}
	return id, err
}
