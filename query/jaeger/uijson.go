package jaeger

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"strconv"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/query/traceapi"
)

// maxSafeInteger is the last integer that JavaScript holds.
const maxSafeInteger = 1<<53 - 1

// traceIDText returns an id as Jaeger writes it: 16 digits if the rest is 0.
func traceIDText(id signal.TraceID) string {
	if binary.BigEndian.Uint64(id[:8]) == 0 {
		return hex.EncodeToString(id[8:])
	}
	return hex.EncodeToString(id[:])
}

// appendTrace appends a trace in the JSON of Jaeger's page.
func (a *API) appendTrace(dst []byte, s *signal.Spans, raw bool, partial string) []byte {
	v := newView(s, raw, a.opts.MaxClockSkew)
	processes, list := v.processes()
	dst = append(dst, `{"traceID":"`...)
	dst = append(dst, traceIDText(s.TraceIDs[0])...)
	dst = append(dst, `","spans":[`...)
	for i := range s.Len() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = v.appendSpan(dst, i, processes[s.Scopes[s.Scope[i]].Resource])
	}
	dst = append(dst, `],"processes":{`...)
	for i, p := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `"p`...)
		dst = strconv.AppendInt(dst, int64(i+1), 10)
		dst = append(dst, `":`...)
		dst = append(dst, p...)
	}
	dst = append(dst, `},"warnings":`...)
	var warnings []string
	if partial != "" {
		warnings = []string{partial}
	}
	dst = appendWarnings(dst, warnings)
	return append(dst, '}')
}

// processes returns the JSON of every process, and which one a resource is, from
// 1.
func (v *view) processes() (of []int, list [][]byte) {
	of = make([]int, len(v.Resources))
	known := make(map[string]int)
	for i := range v.Resources {
		p := v.appendProcess(nil, uint32(i))
		n, ok := known[string(p)]
		if !ok {
			list = append(list, p)
			n = len(list)
			known[string(p)] = n
		}
		of[i] = n
	}
	return of, list
}

// noService is what Jaeger calls a service that has no name.
const noService = "OTLPResourceNoServiceName"

func (v *view) appendProcess(dst []byte, resource uint32) []byte {
	attrs := traceapi.ResourceAttrs(v.Spans, resource)
	name, ok := traceapi.FindText(v.Spans, attrs, "service.name")
	if !ok {
		name = noService
	}
	dst = append(dst, `{"serviceName":`...)
	dst = traceapi.AppendJSONString(dst, name)
	dst = append(dst, `,"tags":`...)
	t := newTags(dst)
	for _, a := range attrs {
		if string(v.Bytes(a.Key)) != "service.name" {
			t.attr(v.Spans, a)
		}
	}
	return append(t.end(), '}')
}

func (v *view) appendSpan(dst []byte, i, process int) []byte {
	dst = append(dst, `{"traceID":"`...)
	dst = append(dst, traceIDText(v.TraceIDs[i])...)
	dst = append(dst, `","spanID":"`...)
	dst = hex.AppendEncode(dst, v.ids[i][:])
	dst = append(dst, '"')
	if v.Flags[i]&1 != 0 {
		dst = append(dst, `,"flags":1`...)
	}
	dst = append(dst, `,"operationName":`...)
	dst = traceapi.AppendJSONString(dst, v.Bytes(v.Names[i]))
	dst = append(dst, `,"references":`...)
	dst = v.appendReferences(dst, i)
	dst = append(dst, `,"startTime":`...)
	dst = appendMicros(dst, v.Starts[i]+int64(v.shift[i]))
	dst = append(dst, `,"duration":`...)
	dst = appendMicros(dst, v.Duration(i))
	dst = append(dst, `,"tags":`...)
	dst = v.appendTags(dst, i)
	dst = append(dst, `,"logs":`...)
	dst = v.appendLogs(dst, i)
	dst = append(dst, `,"processID":"p`...)
	dst = strconv.AppendInt(dst, int64(process), 10)
	dst = append(dst, `","warnings":`...)
	dst = appendWarnings(dst, v.warnings[i])
	return append(dst, '}')
}

func appendMicros(dst []byte, nanos int64) []byte {
	return strconv.AppendInt(dst, max(nanos, 0)/1000, 10)
}

func appendWarnings(dst []byte, warnings []string) []byte {
	if len(warnings) == 0 {
		return append(dst, "null"...)
	}
	for i, w := range warnings {
		dst = append(dst, "[,"[min(i, 1)])
		dst = traceapi.AppendJSONString(dst, w)
	}
	return append(dst, ']')
}

// appendReferences appends the parent and the links. A link to the parent says
// of what kind that is.
func (v *view) appendReferences(dst []byte, i int) []byte {
	dst = append(dst, '[')
	links := v.Links[v.LinkBegin[i]:v.LinkEnd[i]]
	isParent := func(l *signal.Link) bool { return l.TraceID == v.TraceIDs[i] && l.SpanID == v.parents[i] }
	first := true
	if !v.parents[i].IsZero() {
		kind := "CHILD_OF"
		for j := range links {
			if isParent(&links[j]) {
				kind = v.refType(&links[j])
			}
		}
		dst = appendReference(dst, kind, v.TraceIDs[i], v.parents[i])
		first = false
	}
	for j := range links {
		if !v.parents[i].IsZero() && isParent(&links[j]) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendReference(dst, v.refType(&links[j]), links[j].TraceID, links[j].SpanID)
	}
	return append(dst, ']')
}

func appendReference(dst []byte, kind string, trace signal.TraceID, span signal.SpanID) []byte {
	dst = append(dst, `{"refType":"`...)
	dst = append(dst, kind...)
	dst = append(dst, `","traceID":"`...)
	dst = append(dst, traceIDText(trace)...)
	dst = append(dst, `","spanID":"`...)
	dst = hex.AppendEncode(dst, span[:])
	return append(dst, `"}`...)
}

func (v *view) refType(l *signal.Link) string {
	if text, _ := traceapi.FindText(v.Spans, v.Attrs[l.AttrBegin:l.AttrEnd], "opentracing.ref_type"); text == "child_of" {
		return "CHILD_OF"
	}
	return "FOLLOWS_FROM"
}

// appendTags appends the attributes of a span, and tags for what Jaeger has no
// fields for.
func (v *view) appendTags(dst []byte, i int) []byte {
	t := newTags(dst)
	scope := &v.Scopes[v.Scope[i]]
	t.text("otel.scope.name", v.Bytes(scope.Name))
	t.text("otel.scope.version", v.Bytes(scope.Version))
	for _, a := range traceapi.ScopeAttrs(v.Spans, v.Scope[i]) {
		t.attr(v.Spans, a)
	}
	hasError := false
	for _, a := range v.SpanAttrs(i) {
		key := v.Bytes(a.Key)
		if isWarning(key) {
			continue
		}
		hasError = hasError || string(key) == "error"
		t.attr(v.Spans, a)
	}
	if k := int(v.Kinds[i]); k < len(kinds) {
		t.text("span.kind", []byte(kinds[k]))
	}
	switch v.Statuses[i] {
	case traceapi.StatusError:
		t.text("otel.status_code", []byte("ERROR"))
		if !hasError {
			t.raw("error", "bool", []byte("true"))
		}
	case 1:
		t.text("otel.status_code", []byte("OK"))
	}
	t.text("otel.status_description", v.Bytes(v.Messages[i]))
	t.text("w3c.tracestate", v.Bytes(v.States[i]))
	t.count("otel.dropped_attributes_count", v.DroppedAttrs[i])
	t.count("otel.dropped_events_count", v.DroppedEvents[i])
	t.count("otel.dropped_links_count", v.DroppedLinks[i])
	return t.end()
}

func (v *view) appendLogs(dst []byte, i int) []byte {
	dst = append(dst, '[')
	for j, e := range v.Events[v.EventBegin[i]:v.EventEnd[i]] {
		if j > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"timestamp":`...)
		dst = appendMicros(dst, e.Time+int64(v.shift[i]))
		dst = append(dst, `,"fields":`...)
		t := newTags(dst)
		attrs := v.Attrs[e.AttrBegin:e.AttrEnd]
		if _, ok := traceapi.Find(v.Spans, attrs, "event"); !ok {
			t.text("event", v.Bytes(e.Name))
		}
		for _, a := range attrs {
			t.attr(v.Spans, a)
		}
		dst = append(t.end(), '}')
	}
	return append(dst, ']')
}

// tags writes an array of tags.
type tags struct {
	dst   []byte
	empty bool
}

func newTags(dst []byte) *tags { return &tags{append(dst, '['), true} }

func (t *tags) end() []byte { return append(t.dst, ']') }

// raw adds a tag whose value is JSON already.
func (t *tags) raw(key, typ string, value []byte) {
	t.begin([]byte(key), typ)
	t.dst = append(append(t.dst, value...), '}')
}

// text adds a tag unless its value is empty.
func (t *tags) text(key string, value []byte) {
	if len(value) == 0 {
		return
	}
	t.begin([]byte(key), "string")
	t.dst = append(traceapi.AppendJSONString(t.dst, value), '}')
}

// count adds a tag unless its value is 0.
func (t *tags) count(key string, n uint32) {
	if n > 0 {
		t.raw(key, "int64", strconv.AppendUint(nil, uint64(n), 10))
	}
}

func (t *tags) begin(key []byte, typ string) {
	if !t.empty {
		t.dst = append(t.dst, ',')
	}
	t.empty = false
	t.dst = append(t.dst, `{"key":`...)
	t.dst = traceapi.AppendJSONString(t.dst, key)
	t.dst = append(t.dst, `,"type":"`...)
	t.dst = append(t.dst, typ...)
	t.dst = append(t.dst, `","value":`...)
}

// attr adds an attribute. Arrays and maps become text.
func (t *tags) attr(s *signal.Spans, a signal.Attr) {
	key := s.Bytes(a.Key)
	switch a.Type {
	case signal.AttrBool:
		t.begin(key, "bool")
		t.dst = strconv.AppendBool(t.dst, a.Bool())
	case signal.AttrInt:
		t.begin(key, "int64")
		if n := a.Int(); n > maxSafeInteger || n < -maxSafeInteger {
			t.dst = append(t.dst, '"')
			t.dst = strconv.AppendInt(t.dst, n, 10)
			t.dst = append(t.dst, '"')
		} else {
			t.dst = strconv.AppendInt(t.dst, n, 10)
		}
	case signal.AttrDouble:
		t.begin(key, "float64")
		t.dst = traceapi.AppendJSONDouble(t.dst, a.Double())
	case signal.AttrBytes:
		t.begin(key, "binary")
		t.dst = append(t.dst, '"')
		t.dst = base64.StdEncoding.AppendEncode(t.dst, s.Bytes(a.Range()))
		t.dst = append(t.dst, '"')
	case signal.AttrString:
		t.begin(key, "string")
		t.dst = traceapi.AppendJSONString(t.dst, s.Bytes(a.Range()))
	default:
		t.begin(key, "string")
		t.dst = traceapi.AppendJSONString(t.dst, traceapi.AppendText(nil, s, a))
	}
	t.dst = append(t.dst, '}')
}
