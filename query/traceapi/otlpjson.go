package traceapi

import (
	"encoding/base64"
	"encoding/hex"
	"strconv"

	"github.com/vedette-io/vedette/internal/otlpspans"
	"github.com/vedette-io/vedette/internal/signal"
)

// JSONForm says how ids and enumerations are written in the JSON of a trace.
type JSONForm uint8

// Forms of JSON.
const (
	// OTLP writes ids in hexadecimal and enumerations as numbers, as the OTLP
	// specification wants it.
	OTLP JSONForm = iota
	// ProtoJSON writes ids in base64 and enumerations by name, as protobuf's own
	// JSON does.
	ProtoJSON
)

var kindNames = [...]string{
	"SPAN_KIND_UNSPECIFIED", "SPAN_KIND_INTERNAL", "SPAN_KIND_SERVER", "SPAN_KIND_CLIENT", "SPAN_KIND_PRODUCER", "SPAN_KIND_CONSUMER",
}

var statusNames = [...]string{"STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"}

// AppendResourceSpans appends spans of s as a JSON array of OTLP ResourceSpans:
// those of some rows, ascending, or all if rows is nil. Fields that are zero are
// left out.
func AppendResourceSpans(dst []byte, s *signal.Spans, rows []uint32, form JSONForm) []byte {
	n := s.Len()
	if rows != nil {
		n = len(rows)
	}
	row := func(i int) int {
		if rows != nil {
			return int(rows[i])
		}
		return i
	}
	scopeOf := func(i int) uint32 { return s.Scope[row(i)] }
	dst = append(dst, '[')
	for i := 0; i < n; {
		if i > 0 {
			dst = append(dst, ',')
		}
		resource := s.Scopes[scopeOf(i)].Resource
		dst = appendResource(dst, s, resource)
		dst = append(dst, `"scopeSpans":[`...)
		first := true
		for i < n && s.Scopes[scopeOf(i)].Resource == resource {
			if !first {
				dst = append(dst, ',')
			}
			first = false
			scope := scopeOf(i)
			dst = appendScope(dst, s, scope)
			dst = append(dst, `"spans":[`...)
			for begin := i; i < n && scopeOf(i) == scope; i++ {
				if i > begin {
					dst = append(dst, ',')
				}
				dst = appendSpan(dst, s, row(i), form)
			}
			dst = append(dst, ']')
			dst = appendText(dst, "schemaUrl", s.Bytes(s.Scopes[scope].SchemaURL))
			dst = append(dst, '}')
		}
		dst = append(dst, ']')
		dst = appendText(dst, "schemaUrl", s.Bytes(s.Resources[resource].SchemaURL))
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// appendResource appends the beginning of a ResourceSpans.
func appendResource(dst []byte, s *signal.Spans, resource uint32) []byte {
	dst = append(dst, `{"resource":{`...)
	r := &s.Resources[resource]
	dst = appendAttrs(dst, s, s.Attrs[r.AttrBegin:r.AttrEnd])
	dst = appendCount(dst, "droppedAttributesCount", r.DroppedAttrs)
	return append(dst, "},"...)
}

// appendScope appends the beginning of a ScopeSpans.
func appendScope(dst []byte, s *signal.Spans, scope uint32) []byte {
	dst = append(dst, `{"scope":{`...)
	c := &s.Scopes[scope]
	dst = appendText(dst, "name", s.Bytes(c.Name))
	dst = appendText(dst, "version", s.Bytes(c.Version))
	dst = appendAttrs(dst, s, s.Attrs[c.AttrBegin:c.AttrEnd])
	dst = appendCount(dst, "droppedAttributesCount", c.DroppedAttrs)
	return append(dst, "},"...)
}

func appendSpan(dst []byte, s *signal.Spans, i int, form JSONForm) []byte {
	dst = append(dst, '{')
	dst = appendID(dst, "traceId", s.TraceIDs[i][:], form)
	dst = appendID(dst, "spanId", s.SpanIDs[i][:], form)
	dst = appendText(dst, "traceState", s.Bytes(s.States[i]))
	if !s.Parents[i].IsZero() {
		dst = appendID(dst, "parentSpanId", s.Parents[i][:], form)
	}
	dst = appendCount(dst, "flags", s.Flags[i])
	dst = appendText(dst, "name", s.Bytes(s.Names[i]))
	dst = appendEnum(dst, "kind", s.Kinds[i], kindNames[:], form)
	dst = appendNanos(dst, "startTimeUnixNano", s.Starts[i])
	dst = appendNanos(dst, "endTimeUnixNano", s.Ends[i])
	dst = appendAttrs(dst, s, s.SpanAttrs(i))
	dst = appendCount(dst, "droppedAttributesCount", s.DroppedAttrs[i])
	if events := s.Events[s.EventBegin[i]:s.EventEnd[i]]; len(events) > 0 {
		dst = appendKey(dst, "events")
		dst = append(dst, '[')
		for j := range events {
			if j > 0 {
				dst = append(dst, ',')
			}
			dst = appendEvent(dst, s, &events[j])
		}
		dst = append(dst, ']')
	}
	dst = appendCount(dst, "droppedEventsCount", s.DroppedEvents[i])
	if links := s.Links[s.LinkBegin[i]:s.LinkEnd[i]]; len(links) > 0 {
		dst = appendKey(dst, "links")
		dst = append(dst, '[')
		for j := range links {
			if j > 0 {
				dst = append(dst, ',')
			}
			dst = appendLink(dst, s, &links[j], form)
		}
		dst = append(dst, ']')
	}
	dst = appendCount(dst, "droppedLinksCount", s.DroppedLinks[i])
	dst = appendKey(dst, "status")
	dst = append(dst, '{')
	dst = appendText(dst, "message", s.Bytes(s.Messages[i]))
	dst = appendEnum(dst, "code", s.Statuses[i], statusNames[:], form)
	return append(dst, "}}"...)
}

func appendEvent(dst []byte, s *signal.Spans, e *signal.Event) []byte {
	dst = append(dst, '{')
	dst = appendNanos(dst, "timeUnixNano", e.Time)
	dst = appendText(dst, "name", s.Bytes(e.Name))
	dst = appendAttrs(dst, s, s.Attrs[e.AttrBegin:e.AttrEnd])
	dst = appendCount(dst, "droppedAttributesCount", e.DroppedAttrs)
	return append(dst, '}')
}

func appendLink(dst []byte, s *signal.Spans, l *signal.Link, form JSONForm) []byte {
	dst = append(dst, '{')
	dst = appendID(dst, "traceId", l.TraceID[:], form)
	dst = appendID(dst, "spanId", l.SpanID[:], form)
	dst = appendText(dst, "traceState", s.Bytes(l.State))
	dst = appendAttrs(dst, s, s.Attrs[l.AttrBegin:l.AttrEnd])
	dst = appendCount(dst, "droppedAttributesCount", l.DroppedAttrs)
	dst = appendCount(dst, "flags", l.Flags)
	return append(dst, '}')
}

// appendAttrs appends the field "attributes" unless there are none.
func appendAttrs(dst []byte, s *signal.Spans, attrs []signal.Attr) []byte {
	if len(attrs) == 0 {
		return dst
	}
	dst = appendKey(dst, "attributes")
	dst = append(dst, '[')
	for i, a := range attrs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"key":`...)
		dst = AppendJSONString(dst, s.Bytes(a.Key))
		dst = append(dst, `,"value":`...)
		dst = AppendAnyValue(dst, otlpspans.ValueOf(s, a))
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// appendKey appends a field's name, after a comma unless it is the first one of
// its object.
func appendKey(dst []byte, key string) []byte {
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	dst = append(dst, '"')
	dst = append(dst, key...)
	return append(dst, '"', ':')
}

func appendText(dst []byte, key string, value []byte) []byte {
	if len(value) == 0 {
		return dst
	}
	return AppendJSONString(appendKey(dst, key), value)
}

func appendCount(dst []byte, key string, n uint32) []byte {
	if n == 0 {
		return dst
	}
	return strconv.AppendUint(appendKey(dst, key), uint64(n), 10)
}

func appendNanos(dst []byte, key string, t int64) []byte {
	if t == 0 {
		return dst
	}
	dst = append(appendKey(dst, key), '"')
	dst = strconv.AppendUint(dst, uint64(t), 10)
	return append(dst, '"')
}

func appendEnum(dst []byte, key string, v uint8, names []string, form JSONForm) []byte {
	if v == 0 {
		return dst
	}
	dst = appendKey(dst, key)
	if form == ProtoJSON && int(v) < len(names) {
		dst = append(dst, '"')
		dst = append(dst, names[v]...)
		return append(dst, '"')
	}
	return strconv.AppendUint(dst, uint64(v), 10)
}

func appendID(dst []byte, key string, id []byte, form JSONForm) []byte {
	dst = append(appendKey(dst, key), '"')
	if form == ProtoJSON {
		dst = base64.StdEncoding.AppendEncode(dst, id)
	} else {
		dst = hex.AppendEncode(dst, id)
	}
	return append(dst, '"')
}
