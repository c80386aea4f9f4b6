package jaeger

import (
	"encoding/json"
	"net/http"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/query/traceapi"
)

var errNoTraces = traceapi.NotFound("No traces found")

// result stands around the OTLP of an answer.
const beginResult, endResult = `{"result":{"resourceSpans":[`, `]}}`

// appendResult appends the ResourceSpans of a trace to a result that may hold
// some already.
func appendResult(dst []byte, s *signal.Spans) []byte {
	if len(dst) > len(beginResult) {
		dst = append(dst, ',')
	}
	at := len(dst)
	dst = traceapi.AppendResourceSpans(dst, s, nil, traceapi.OTLP)
	copy(dst[at:], dst[at+1:len(dst)-1]) // the brackets are there already
	return dst[:len(dst)-2]
}

func (a *API) traceV3(w http.ResponseWriter, r *http.Request) error {
	id, err := parseTraceID(r.PathValue("id"))
	if err != nil {
		return traceapi.BadRequest("malformed parameter trace_id: %w", err)
	}
	q := r.URL.Query()
	var start, end int64
	if text := firstOf(q, "startTime", "start_time"); text != "" {
		if start, err = rfc3339("startTime", text); err != nil {
			return err
		}
	}
	if text := firstOf(q, "endTime", "end_time"); text != "" {
		if end, err = rfc3339("endTime", text); err != nil {
			return err
		}
	}
	var spans signal.Spans
	stats, err := a.load(r, id, start, end, &spans)
	if err != nil {
		return err
	}
	if spans.Len() == 0 {
		return errNoTraces
	}
	traceapi.NotePartial(w, stats.Partial)
	body := append(make([]byte, 0, 1024*spans.Len()), beginResult...)
	return respond(w, r, json.RawMessage(append(appendResult(body, &spans), endResult...)))
}

func (a *API) tracesV3(w http.ResponseWriter, r *http.Request) error {
	p, err := searchParamsV3(r.URL.Query())
	if err != nil {
		return err
	}
	found, err := a.find(r, p, 1)
	if err != nil {
		return err
	}
	partial := found.Stats.Partial
	body := []byte(beginResult)
	var spans signal.Spans
	for i := range found.Traces {
		t := &found.Traces[i]
		stats, err := a.load(r, t.ID, t.Start, t.Start+t.Duration, &spans)
		if err != nil {
			return err
		}
		if partial == "" {
			partial = stats.Partial
		}
		if spans.Len() > 0 {
			body = appendResult(body, &spans)
		}
	}
	traceapi.NotePartial(w, partial)
	if len(body) == len(beginResult) {
		return errNoTraces
	}
	return respond(w, r, json.RawMessage(append(body, endResult...)))
}

type summaries struct {
	Summaries []summary `json:"summaries"`
}

type summary struct {
	TraceID           string           `json:"traceId"`
	RootServiceName   string           `json:"rootServiceName,omitempty"`
	RootOperationName string           `json:"rootOperationName,omitempty"`
	Start             int64            `json:"minStartTimeUnixNano,string"`
	End               int64            `json:"maxEndTimeUnixNano,string"`
	SpanCount         int              `json:"spanCount,omitempty"`
	ErrorSpanCount    int              `json:"errorSpanCount,omitempty"`
	Services          []serviceSummary `json:"services,omitempty"`
}

type serviceSummary struct {
	Name           string `json:"name"`
	SpanCount      int    `json:"spanCount,omitempty"`
	ErrorSpanCount int    `json:"errorSpanCount,omitempty"`
}

func (a *API) summariesV3(w http.ResponseWriter, r *http.Request) error {
	p, err := searchParamsV3(r.URL.Query())
	if err != nil {
		return err
	}
	found, err := a.find(r, p, 1)
	if err != nil {
		return err
	}
	out := summaries{Summaries: make([]summary, len(found.Traces))}
	for i := range found.Traces {
		t := &found.Traces[i]
		s := summary{
			TraceID: traceapi.TraceIDHex(t.ID), RootServiceName: t.RootService, RootOperationName: t.RootName,
			Start: t.Start, End: t.Start + t.Duration, SpanCount: t.Spans, ErrorSpanCount: t.Errors,
		}
		for _, c := range t.Services {
			s.Services = append(s.Services, serviceSummary{c.Service, c.Spans, c.Errors})
		}
		out.Summaries[i] = s
	}
	traceapi.NotePartial(w, found.Stats.Partial)
	return respond(w, r, out)
}
