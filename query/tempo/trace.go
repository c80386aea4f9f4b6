package tempo

import (
	"net/http"
	"strconv"

	"github.com/vedette-io/vedette/internal/otlpspans"
	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/query/traceapi"
	"github.com/vedette-io/vedette/query/traceql"
)

// statusPartial is Tempo's PartialStatus PARTIAL.
const statusPartial = 1

// find reads the trace that a request names.
func (a *API) find(w http.ResponseWriter, r *http.Request) (*signal.Spans, traceql.Stats, error) {
	id, err := traceapi.ParseTraceID(r.PathValue("id"))
	if err != nil {
		return nil, traceql.Stats{}, traceapi.BadRequest("%w", err)
	}
	start, end, err := secondsRange(r.URL.Query())
	if err != nil {
		return nil, traceql.Stats{}, err
	}
	spans := &signal.Spans{Tenant: traceapi.Tenant(r)}
	stats, err := a.Querier().Trace(r.Context(), traceql.TraceRequest{Tenant: spans.Tenant, ID: id, Start: start, End: end}, spans)
	if err != nil {
		return nil, stats, err
	}
	if spans.Len() == 0 {
		return nil, stats, traceapi.NotFound("trace not found")
	}
	traceapi.NotePartial(w, stats.Partial)
	return spans, stats, nil
}

// traceV1 answers with the trace alone.
func (a *API) traceV1(w http.ResponseWriter, r *http.Request) error {
	spans, _, err := a.find(w, r)
	if err != nil {
		return err
	}
	if wantsProtobuf(r) {
		w.Header().Set("Content-Type", contentProtobuf)
		_, _ = w.Write(otlpspans.AppendRequest(nil, spans))
		return nil
	}
	body := append(make([]byte, 0, 1024*spans.Len()), `{"batches":`...)
	body = traceapi.AppendResourceSpans(body, spans, nil, traceapi.ProtoJSON)
	traceapi.WriteJSON(w, append(body, '}'))
	return nil
}

// traceV2 answers with the trace, what it cost, and whether it is whole.
func (a *API) traceV2(w http.ResponseWriter, r *http.Request) error {
	keep, err := newSpanFilter(r.URL.Query())
	if err != nil {
		return err
	}
	spans, stats, err := a.find(w, r)
	if err != nil {
		return err
	}
	rows := keep.rows(spans)
	if wantsProtobuf(r) {
		body := appendMessage(make([]byte, 0, 512*len(rows)), 1, func(dst []byte) []byte {
			return otlpspans.AppendRows(dst, spans, rows)
		})
		body = appendMessage(body, 2, func(dst []byte) []byte {
			return appendUint(dst, 1, uint64(stats.InspectedBytes), false)
		})
		if stats.Partial != "" {
			body = appendUint(body, 3, statusPartial, false)
			body = appendBytes(body, 4, stats.Partial, false)
		}
		w.Header().Set("Content-Type", contentProtobuf)
		_, _ = w.Write(body)
		return nil
	}
	body := append(make([]byte, 0, 1024*len(rows)), `{"trace":{"resourceSpans":`...)
	body = traceapi.AppendResourceSpans(body, spans, rows, traceapi.ProtoJSON)
	body = append(body, `},"metrics":{`...)
	if stats.InspectedBytes > 0 {
		body = append(body, `"inspectedBytes":"`...)
		body = strconv.AppendInt(body, stats.InspectedBytes, 10)
		body = append(body, '"')
	}
	body = append(body, '}')
	if stats.Partial != "" {
		body = append(body, `,"status":"PARTIAL","message":`...)
		body = traceapi.AppendJSONString(body, stats.Partial)
	}
	traceapi.WriteJSON(w, append(body, '}'))
	return nil
}
