package tempo

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/vedette-io/vedette/query/traceapi"
	"github.com/vedette-io/vedette/query/traceql"
)

const (
	defaultLimit           = 20
	defaultSpansPerSpanset = 3
)

// noRoot is what Tempo says of a trace whose root has not arrived.
const noRoot = "<root span not yet received>"

func (a *API) search(w http.ResponseWriter, r *http.Request) error {
	req, err := searchRequest(r.URL.Query())
	if err != nil {
		return err
	}
	req.Tenant = traceapi.Tenant(r)
	found, err := a.Querier().Search(r.Context(), req)
	if err != nil {
		return err
	}
	traceapi.NotePartial(w, found.Stats.Partial)
	return respond(w, r, newSearchResponse(found))
}

func searchRequest(q url.Values) (req traceql.SearchRequest, err error) {
	if req.Start, req.End, err = secondsRange(q); err != nil {
		return req, err
	}
	req.Limit = defaultLimit
	if q.Get("limit") != "" {
		n, err := uintParam(q, "limit", traceapi.MaxTraces)
		if err != nil {
			return req, err
		}
		if n == 0 {
			return req, traceapi.BadRequest("invalid limit: must be a positive number")
		}
		req.Limit = int(n)
	}
	req.SpansPerSpanset = defaultSpansPerSpanset
	if q.Get("spss") != "" {
		n, err := uintParam(q, "spss", 1<<20)
		if err != nil {
			return req, err
		}
		if req.SpansPerSpanset = int(n); n == 0 {
			req.SpansPerSpanset = -1
		}
	}
	least, err := durationParam(q, "minDuration")
	if err != nil {
		return req, err
	}
	most, err := durationParam(q, "maxDuration")
	if err != nil {
		return req, err
	}
	if most > 0 && most < least {
		return req, traceapi.BadRequest("invalid maxDuration: must be greater than minDuration")
	}
	req.MinDuration, req.MaxDuration = int64(least), int64(most)
	tags := q.Get("tags")
	if req.Query = q.Get("q"); req.Query != "" && tags != "" {
		return req, traceapi.BadRequest("invalid request: can't specify tags and q in the same query")
	}
	if tags != "" {
		req.Query, err = tagsQuery(tags)
	}
	return req, err
}

// tagsQuery returns TraceQL for a search by tags: every tag is on some span of
// the trace.
func tagsQuery(logfmt string) (string, error) {
	tags, err := parseLogfmt(logfmt)
	if err != nil {
		return "", err
	}
	filters := make([]string, len(tags))
	for i, t := range tags {
		filters[i] = traceapi.AllOf(tagCondition(t.key, t.value))
	}
	return strings.Join(filters, " && "), nil
}

// tagCondition returns the TraceQL condition that a tag stands for.
func tagCondition(key, value string) string {
	switch key {
	case "name", "rootName", "rootServiceName":
		return key + " = " + traceapi.Quote(value)
	case "root.name":
		return "rootName = " + traceapi.Quote(value)
	case "root.service.name":
		return "rootServiceName = " + traceapi.Quote(value)
	case "status", "status.code":
		if slices.Contains([]string{"error", "ok", "unset"}, value) {
			return "status = " + value
		}
	case "kind", "span.kind":
		if slices.Contains([]string{"unspecified", "internal", "server", "client", "producer", "consumer"}, value) {
			return "kind = " + value
		}
	case "error":
		if value == "true" {
			return "status = error || .error = true || .error = \"true\""
		}
	}
	return traceapi.Equals(traceapi.Attribute(traceql.ScopeNone, key), value)
}

type tag struct{ key, value string }

// parseLogfmt reads key=value pairs that are separated by spaces; values with
// spaces are in quotes.
func parseLogfmt(s string) ([]tag, error) {
	var tags []tag
	for i := 0; i < len(s); {
		if s[i] <= ' ' {
			i++
			continue
		}
		eq := strings.IndexAny(s[i:], "= \t\n")
		if eq <= 0 || s[i+eq] != '=' {
			return nil, traceapi.BadRequest("invalid tags: at byte %d of %q: want key=value", i, s)
		}
		key := s[i : i+eq]
		i += eq + 1
		var value string
		if i < len(s) && s[i] == '"' {
			quoted, err := strconv.QuotedPrefix(s[i:])
			if err != nil {
				return nil, traceapi.BadRequest("invalid tags: at byte %d of %q: a quoted value has no end", i, s)
			}
			value, _ = strconv.Unquote(quoted) // QuotedPrefix has checked it
			i += len(quoted)
		} else {
			end := strings.IndexAny(s[i:], " \t\n")
			if end < 0 {
				end = len(s) - i
			}
			value = s[i : i+end]
			i += end
		}
		if slices.ContainsFunc(tags, func(t tag) bool { return t.key == key }) {
			return nil, traceapi.BadRequest("invalid tags: tag %s has been set twice", key)
		}
		tags = append(tags, tag{key, value})
	}
	if len(tags) == 0 {
		return nil, traceapi.BadRequest("invalid tags: got none in %q", s)
	}
	return tags, nil
}

// searchResponse is Tempo's SearchResponse.
type searchResponse struct {
	Traces  []traceMetadata `json:"traces"`
	Metrics searchMetrics   `json:"metrics"`
}

type traceMetadata struct {
	TraceID         string                  `json:"traceID"`
	RootServiceName string                  `json:"rootServiceName,omitempty"`
	RootTraceName   string                  `json:"rootTraceName,omitempty"`
	Start           int64                   `json:"startTimeUnixNano,omitempty,string"`
	DurationMs      uint32                  `json:"durationMs,omitempty"`
	SpanSet         *spanSet                `json:"spanSet,omitempty"`
	SpanSets        []spanSet               `json:"spanSets,omitempty"`
	ServiceStats    map[string]serviceStats `json:"serviceStats,omitempty"`
}

type serviceStats struct {
	SpanCount  uint32 `json:"spanCount,omitempty"`
	ErrorCount uint32 `json:"errorCount,omitempty"`
}

type spanSet struct {
	Spans      []span     `json:"spans,omitempty"`
	Matched    uint32     `json:"matched,omitempty"`
	Attributes []keyValue `json:"attributes,omitempty"`
}

type span struct {
	SpanID     string     `json:"spanID"`
	Name       string     `json:"name,omitempty"`
	Start      int64      `json:"startTimeUnixNano,omitempty,string"`
	Duration   int64      `json:"durationNanos,omitempty,string"`
	Attributes []keyValue `json:"attributes,omitempty"`
}

// searchMetrics is Tempo's SearchMetrics: row groups count as its blocks and
// jobs.
type searchMetrics struct {
	InspectedTraces int64 `json:"inspectedTraces,omitempty"`
	InspectedBytes  int64 `json:"inspectedBytes,omitempty,string"`
	TotalBlocks     int   `json:"totalBlocks,omitempty"`
	CompletedJobs   int   `json:"completedJobs,omitempty"`
	TotalJobs       int   `json:"totalJobs,omitempty"`
	InspectedSpans  int64 `json:"inspectedSpans,omitempty,string"`
}

func newSearchMetrics(s traceql.Stats) searchMetrics {
	m := searchMetrics{
		InspectedTraces: s.InspectedTraces, InspectedBytes: s.InspectedBytes, InspectedSpans: s.InspectedSpans,
		TotalBlocks: s.TotalGroups, TotalJobs: s.Groups,
	}
	if s.Partial == "" {
		m.CompletedJobs = s.Groups
	}
	return m
}

func newSearchResponse(found *traceql.SearchResult) *searchResponse {
	out := &searchResponse{Traces: make([]traceMetadata, len(found.Traces)), Metrics: newSearchMetrics(found.Stats)}
	for i := range found.Traces {
		t := &found.Traces[i]
		m := traceMetadata{
			TraceID:         traceapi.TraceIDHex(t.ID),
			RootServiceName: t.RootService, RootTraceName: t.RootName,
			Start: t.Start, DurationMs: uint32(t.Duration / int64(time.Millisecond)),
		}
		if t.RootService == "" && t.RootName == "" {
			m.RootServiceName = noRoot
		}
		for _, s := range t.Spansets {
			m.SpanSets = append(m.SpanSets, newSpanSet(s))
		}
		if len(m.SpanSets) > 0 {
			m.SpanSet = &m.SpanSets[0]
		}
		for _, s := range t.Services {
			if m.ServiceStats == nil {
				m.ServiceStats = make(map[string]serviceStats, len(t.Services))
			}
			m.ServiceStats[s.Service] = serviceStats{uint32(s.Spans), uint32(s.Errors)}
		}
		out.Traces[i] = m
	}
	return out
}

func newSpanSet(s traceql.Spanset) spanSet {
	out := spanSet{Matched: uint32(s.Matched), Attributes: keyValues(s.Attrs)}
	for _, m := range s.Spans {
		x := span{
			SpanID: traceapi.SpanIDHex(m.ID), Name: m.Name, Start: m.Start, Duration: m.Duration, Attributes: keyValues(m.Attrs),
		}
		if m.Service != "" && !slices.ContainsFunc(m.Attrs, func(kv traceql.KeyValue) bool { return kv.Key == "service.name" }) {
			x.Attributes = append(x.Attributes, keyValue{"service.name", anyValue{traceql.String(m.Service)}})
		}
		out.Spans = append(out.Spans, x)
	}
	return out
}

var _ json.Marshaler = anyValue{}

func (r *searchResponse) appendProto(dst []byte) []byte {
	for i := range r.Traces {
		dst = appendMessage(dst, 1, r.Traces[i].appendProto)
	}
	return appendMessage(dst, 2, r.Metrics.appendProto)
}

func (t *traceMetadata) appendProto(dst []byte) []byte {
	dst = appendBytes(dst, 1, t.TraceID, false)
	dst = appendBytes(dst, 2, t.RootServiceName, false)
	dst = appendBytes(dst, 3, t.RootTraceName, false)
	dst = appendUint(dst, 4, uint64(t.Start), false)
	dst = appendUint(dst, 5, uint64(t.DurationMs), false)
	if t.SpanSet != nil {
		dst = appendMessage(dst, 6, t.SpanSet.appendProto)
	}
	for i := range t.SpanSets {
		dst = appendMessage(dst, 7, t.SpanSets[i].appendProto)
	}
	names := make([]string, 0, len(t.ServiceStats))
	for name := range t.ServiceStats {
		names = append(names, name)
	}
	slices.SortFunc(names, cmp.Compare[string])
	for _, name := range names {
		dst = appendMessage(dst, 8, func(dst []byte) []byte {
			stats := t.ServiceStats[name]
			dst = appendBytes(dst, 1, name, true)
			return appendMessage(dst, 2, func(dst []byte) []byte {
				dst = appendUint(dst, 1, uint64(stats.SpanCount), false)
				return appendUint(dst, 2, uint64(stats.ErrorCount), false)
			})
		})
	}
	return dst
}

func (s *spanSet) appendProto(dst []byte) []byte {
	for i := range s.Spans {
		dst = appendMessage(dst, 1, s.Spans[i].appendProto)
	}
	dst = appendUint(dst, 2, uint64(s.Matched), false)
	return appendKeyValues(dst, 3, s.Attributes)
}

func (s *span) appendProto(dst []byte) []byte {
	dst = appendBytes(dst, 1, s.SpanID, false)
	dst = appendBytes(dst, 2, s.Name, false)
	dst = appendUint(dst, 3, uint64(s.Start), false)
	dst = appendUint(dst, 4, uint64(s.Duration), false)
	return appendKeyValues(dst, 5, s.Attributes)
}

func appendKeyValues(dst []byte, field protowire.Number, list []keyValue) []byte {
	for _, kv := range list {
		dst = appendMessage(dst, field, kv.appendProto)
	}
	return dst
}

func (m searchMetrics) appendProto(dst []byte) []byte {
	dst = appendUint(dst, 1, uint64(m.InspectedTraces), false)
	dst = appendUint(dst, 2, uint64(m.InspectedBytes), false)
	dst = appendUint(dst, 3, uint64(m.TotalBlocks), false)
	dst = appendUint(dst, 4, uint64(m.CompletedJobs), false)
	dst = appendUint(dst, 5, uint64(m.TotalJobs), false)
	return appendUint(dst, 7, uint64(m.InspectedSpans), false)
}
