package tempo

import (
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/vedette-io/vedette/query/traceapi"
	"github.com/vedette-io/vedette/query/traceql"
)

// secondsRange reads start and end as unix seconds. Absent ones are 0. The
// second that end names belongs to the range.
func secondsRange(q url.Values) (start, end int64, err error) {
	from, err := uintParam(q, "start", math.MaxInt32*2)
	if err != nil {
		return 0, 0, err
	}
	to, err := uintParam(q, "end", math.MaxInt32*2)
	if err != nil {
		return 0, 0, err
	}
	if to != 0 && from >= to {
		return 0, 0, traceapi.BadRequest("http parameter start must be before end. received start=%d end=%d", from, to)
	}
	if to != 0 {
		end = to*int64(time.Second) + int64(time.Second) - 1
	}
	return from * int64(time.Second), end, nil
}

// uintParam reads an integer from 0 to most; 0 if absent.
func uintParam(q url.Values, name string, most int64) (int64, error) {
	text := q.Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, traceapi.BadRequest("invalid %s: got %q, want an integer of 0 or more", name, text)
	}
	if n > most {
		return 0, traceapi.BadRequest("invalid %s: got %d, want at most %d", name, n, most)
	}
	return n, nil
}

// durationParam reads a Go duration; 0 if absent.
func durationParam(q url.Values, name string) (time.Duration, error) {
	text := q.Get(name)
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, traceapi.BadRequest("invalid %s: got %q, want a duration such as 100ms or 1.5s", name, text)
	}
	return d, nil
}

// metricsRange reads the range of a metrics query: start and end, or since, or
// the last hour.
func (a *API) metricsRange(q url.Values) (start, end int64, err error) {
	since := time.Hour
	if text := q.Get("since"); text != "" {
		d, err := model.ParseDuration(text)
		if err != nil || d <= 0 {
			return 0, 0, traceapi.BadRequest("invalid since: got %q, want a duration such as 15m", text)
		}
		since = time.Duration(d)
	}
	end = a.Now().UnixNano()
	if text := q.Get("end"); text != "" {
		if end, err = timeParam("end", text); err != nil {
			return 0, 0, err
		}
	}
	start = end - int64(since)
	if text := q.Get("start"); text != "" {
		if start, err = timeParam("start", text); err != nil {
			return 0, 0, err
		}
	}
	if start >= end {
		return 0, 0, traceapi.BadRequest("http parameter start must be before end. received start=%s end=%s",
			formatTime(start), formatTime(end))
	}
	return start, end, nil
}

func formatTime(nanos int64) string { return time.Unix(0, nanos).UTC().Format(time.RFC3339Nano) }

// timeParam reads unix seconds, with a fraction if need be, unix nanoseconds, or
// RFC 3339.
func timeParam(name, text string) (int64, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
		if len(text) <= 10 {
			return n * int64(time.Second), nil
		}
		return n, nil
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil && f >= 0 && f < 1<<33 {
		whole, fraction := math.Modf(f)
		return int64(whole)*int64(time.Second) + int64(math.Round(fraction*1e9)), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t.UnixNano(), nil
	}
	return 0, traceapi.BadRequest("invalid %s: got %q, want unix seconds, unix nanoseconds or RFC 3339", name, text)
}

// stepParam reads the step: seconds, or a duration.
func stepParam(text string, start, end int64) (int64, error) {
	if text == "" {
		return traceql.DefaultStep(start, end), nil
	}
	var step int64
	if f, err := strconv.ParseFloat(text, 64); err == nil {
		if f > 0 && f < 1<<33 {
			step = int64(f * 1e9)
		}
	} else if d, err := time.ParseDuration(text); err == nil {
		step = int64(d)
	} else if d, err := model.ParseDuration(text); err == nil {
		step = int64(d)
	}
	if step < int64(time.Millisecond) {
		return 0, traceapi.BadRequest("invalid step: got %q, want seconds or a duration of 1ms or more", text)
	}
	if (end-start)/step > traceql.MaxPoints {
		return 0, traceapi.BadRequest("exceeded maximum resolution of %d points per series: try a larger step than %s", traceql.MaxPoints, time.Duration(step))
	}
	return step, nil
}

// tagsRequest reads what the requests for names and for values share.
func tagsRequest(r *http.Request) (traceql.TagsRequest, error) {
	q := r.URL.Query()
	start, end, err := secondsRange(q)
	if err != nil {
		return traceql.TagsRequest{}, err
	}
	limit, err := uintParam(q, "limit", math.MaxInt32)
	if err != nil {
		return traceql.TagsRequest{}, err
	}
	return traceql.TagsRequest{
		Tenant: traceapi.Tenant(r), Start: start, End: end, Limit: int(limit), Query: usableFilter(q.Get("q")),
	}, nil
}

// usableFilter returns a filter made of those parts of query that are complete:
// people type it while names and values are being suggested. It is empty if
// nothing is left, which is all spans.
func usableFilter(query string) string {
	query = strings.TrimSpace(query)
	if query == "" || valid(query) {
		return query
	}
	body, ok := strings.CutPrefix(query, "{")
	if !ok {
		return ""
	}
	body = strings.TrimSuffix(strings.TrimSpace(body), "}")
	parts, either := splitConditions(body)
	if either {
		return "" // the alternative that is not complete may be anything
	}
	var keep []string
	for _, part := range parts {
		if valid("{ " + part + " }") {
			keep = append(keep, strings.TrimSpace(part))
		}
	}
	if len(keep) == 0 {
		return ""
	}
	if filter := traceapi.AllOf(keep...); valid(filter) {
		return filter
	}
	return ""
}

// valid reports whether query is a search in TraceQL.
func valid(query string) bool {
	q, err := traceql.Parse(query)
	return err == nil && q.Metrics == nil
}

// splitConditions splits at every && outside of quotes and parentheses; either
// reports whether there is a || there.
func splitConditions(body string) (parts []string, either bool) {
	var quote byte
	depth, begin := 0, 0
	for i := 0; i < len(body); i++ {
		c := body[i]
		switch {
		case quote != 0:
			if c == '\\' && quote == '"' {
				i++
			} else if c == quote {
				quote = 0
			}
		case c == '"' || c == '`':
			quote = c
		case c == '(':
			depth++
		case c == ')':
			depth--
		case depth == 0 && strings.HasPrefix(body[i:], "||"):
			either = true
		case depth == 0 && strings.HasPrefix(body[i:], "&&"):
			if part := body[begin:i]; strings.TrimSpace(part) != "" {
				parts = append(parts, part)
			}
			begin = i + 2
			i++
		}
	}
	if part := body[begin:]; strings.TrimSpace(part) != "" {
		parts = append(parts, part)
	}
	return parts, either
}
