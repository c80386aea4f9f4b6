package jaeger

import (
	"bytes"
	"math"

	"github.com/vedette-io/vedette/ingest/spanbuild"
)

// encoder writes spans as OTLP.
type encoder struct {
	build   spanbuild.Builder
	process process // of the spans to come
	scratch []byte
}

// special are the tags of a span that are more than attributes; nil are not
// there. Of a key that comes twice the last one counts.
type special struct {
	kind, failed, statusCode, description, http, httpMessage, state, scope, version *tag
}

func (s *span) special() (p special) {
	for i := range s.tags[:s.own] {
		t := &s.tags[i]
		switch string(t.key) {
		case tagKind:
			p.kind = t
		case tagError:
			p.failed = t
		case tagStatusCode:
			p.statusCode = t
		case tagStatusDescription:
			p.description = t
		case tagHTTPStatus, tagHTTPStatusNew:
			p.http = t
		case tagHTTPMessage:
			p.httpMessage = t
		case tagTraceState:
			p.state = t
		case tagScopeName:
			p.scope = t
		case tagScopeVersion:
			p.version = t
		}
	}
	for _, t := range [...]**tag{&p.state, &p.scope, &p.version, &p.description, &p.httpMessage} {
		if *t != nil && (*t).kind != typeString {
			*t = nil
		}
	}
	if p.scope == nil {
		p.version = nil
	}
	return p
}

// status is the outcome of a span. said reports whether it was told by tags that
// need not be kept beside it.
type status struct {
	code    int
	message []byte

	dropError, dropCode, dropDescription bool
}

func (p *special) status(kind int) (s status) {
	if p.statusCode != nil && (p.statusCode.isText("OK") || p.statusCode.isText("ERROR") || p.statusCode.isText("UNSET")) {
		s.dropCode = true
	}
	switch {
	case p.failed != nil && (p.failed.kind == typeBool && p.failed.bits != 0 || p.failed.isText("true")):
		s.code, s.dropError = spanbuild.StatusError, p.failed.kind == typeBool
		if p.description == nil && p.httpMessage != nil {
			s.message = p.httpMessage.text
		}
	case p.statusCode != nil && p.statusCode.isText("ERROR"):
		s.code = spanbuild.StatusError
	case p.statusCode != nil && p.statusCode.isText("OK"):
		s.code = spanbuild.StatusOK
	case p.statusCode == nil && p.http != nil:
		if n, ok := p.http.number(); ok && failedHTTP(n, kind) {
			s.code = spanbuild.StatusError
			if p.httpMessage != nil {
				s.message = p.httpMessage.text
			}
		}
		return s
	}
	if s.code != 0 && p.description != nil {
		s.message, s.dropDescription = p.description.text, true
	}
	return s
}

// failedHTTP reports whether a status of HTTP is a failure of the span: an error
// of the client is none of the server.
func failedHTTP(code int64, kind int) bool {
	if code >= 400 && code < 500 {
		return kind != spanbuild.KindServer
	}
	return code < 100 || code >= 400
}

// kindOf maps the tag span.kind; known is false if it has to be kept.
func kindOf(t *tag) (kind int, known bool) {
	if t == nil || t.kind != typeString {
		return 0, false
	}
	switch string(t.text) {
	case "client":
		return spanbuild.KindClient, true
	case "server":
		return spanbuild.KindServer, true
	case "producer":
		return spanbuild.KindProducer, true
	case "consumer":
		return spanbuild.KindConsumer, true
	case "internal":
		return spanbuild.KindInternal, true
	}
	return 0, false
}

// encode writes s as a span of process p.
func (e *encoder) encode(s *span, p *process) error {
	sp := s.special()
	kind, knownKind := kindOf(sp.kind)
	if !knownKind {
		sp.kind = nil
	}
	st := sp.status(kind)
	g := e.group(p, &sp)
	w := &g.Writer
	w.Open(spanbuild.FieldSpan)
	w.TraceID(spanbuild.FieldTraceID, s.traceHigh, s.traceLow)
	w.ID(spanbuild.FieldSpanID, s.id)
	if sp.state != nil {
		w.String(spanbuild.FieldTraceState, sp.state.text)
	}
	parent := s.parentID()
	w.ID(spanbuild.FieldParentID, parent)
	w.String(spanbuild.FieldName, s.name)
	w.Varint(spanbuild.FieldKind, uint64(kind))
	w.Fixed64(spanbuild.FieldStart, uint64(s.start))
	w.Fixed64(spanbuild.FieldEnd, uint64(s.end))
	for i := range s.tags[:s.own] {
		t := &s.tags[i]
		if t == sp.kind || t == sp.state || t == sp.scope || t == sp.version || st.dropError && t == sp.failed ||
			st.dropCode && t == sp.statusCode || st.dropDescription && t == sp.description {
			continue
		}
		attr(w, spanbuild.FieldAttr, t)
	}
	if s.flags&^flagSampled != 0 {
		w.IntAttr(spanbuild.FieldAttr, []byte(attrFlags), int64(s.flags))
	}
	if len(s.warnings) > 0 {
		w.StringsAttr(spanbuild.FieldAttr, []byte(attrWarnings), s.warnings)
	}
	events(w, s)
	links(w, s, parent)
	if st.code != 0 {
		w.Open(spanbuild.FieldStatus)
		w.String(spanbuild.FieldStatusMessage, st.message)
		w.Varint(spanbuild.FieldStatusCode, uint64(st.code))
		w.Close()
	}
	w.Fixed32(spanbuild.FieldFlags, s.flags&flagSampled)
	w.Close()
	return e.build.Added(g)
}

// group returns the group of a process's spans of one scope.
func (e *encoder) group(p *process, sp *special) *spanbuild.Group {
	key := e.scratch[:0]
	var name, version []byte
	if sp.scope != nil {
		name = sp.scope.text
		if sp.version != nil {
			version = sp.version.text
		}
	}
	for _, part := range [...][]byte{name, version} {
		key = append(key, byte(len(part)), byte(len(part)>>8), byte(len(part)>>16), byte(len(part)>>24))
		key = append(key, part...)
	}
	key = append(key, p.key...)
	e.scratch = key
	g, isNew := e.build.Group(key)
	if !isNew {
		return g
	}
	const field = spanbuild.FieldResourceAttr
	if len(p.service) > 0 {
		g.Resource.StringAttr(field, []byte(attrService), p.service)
	}
	hasHost := false
	for i := range p.tags {
		hasHost = hasHost || string(p.tags[i].key) == attrHost
	}
	for i := range p.tags {
		t := p.tags[i]
		if !hasHost && string(t.key) == tagHost {
			t.key, hasHost = []byte(attrHost), true
		}
		attr(&g.Resource, field, &t)
	}
	g.ScopeName, g.ScopeVersion = bytes.Clone(spanbuild.Valid(name)), bytes.Clone(spanbuild.Valid(version))
	return g
}

// attr writes a tag as an attribute.
func attr(w *spanbuild.Writer, field int, t *tag) {
	switch t.kind {
	case typeBool:
		w.BoolAttr(field, t.key, t.bits != 0)
	case typeInt:
		w.IntAttr(field, t.key, int64(t.bits))
	case typeDouble:
		w.DoubleAttr(field, t.key, math.Float64frombits(t.bits))
	case typeBinary:
		w.BytesAttr(field, t.key, t.text)
	default:
		w.StringAttr(field, t.key, t.text)
	}
}

// events writes the logs; the field "event" is the name.
func events(w *spanbuild.Writer, s *span) {
	for i := range s.logs {
		l := &s.logs[i]
		fields := s.tags[l.begin:l.end]
		var name *tag
		for j := range fields {
			if fields[j].kind == typeString && string(fields[j].key) == tagEvent {
				name = &fields[j]
				break
			}
		}
		w.Open(spanbuild.FieldEvent)
		w.Fixed64(spanbuild.FieldEventTime, uint64(l.nanos))
		if name != nil {
			w.String(spanbuild.FieldEventName, name.text)
		}
		for j := range fields {
			if &fields[j] != name {
				attr(w, spanbuild.FieldEventAttr, &fields[j])
			}
		}
		w.Close()
	}
}

// links writes the references, but the one that only names the parent.
func links(w *spanbuild.Writer, s *span, parent uint64) {
	for i := range s.references {
		r := &s.references[i]
		if !r.follows && r.id == parent && r.traceHigh == s.traceHigh && r.traceLow == s.traceLow {
			continue
		}
		w.Open(spanbuild.FieldLink)
		w.TraceID(spanbuild.FieldLinkTraceID, r.traceHigh, r.traceLow)
		w.ID(spanbuild.FieldLinkSpanID, r.id)
		kind := childOf
		if r.follows {
			kind = followsFrom
		}
		w.StringAttr(spanbuild.FieldLinkAttr, []byte(attrReference), []byte(kind))
		w.Close()
	}
}
