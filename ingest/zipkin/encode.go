package zipkin

import (
	"bytes"
	"fmt"
	"math"

	"github.com/vedette-io/vedette/ingest/spanbuild"
)

// encoder writes spans as OTLP.
type encoder struct {
	build spanbuild.Builder
	now   int64 // microseconds; of spans that have no time at all

	scratch []byte
	last    map[string]int // of many tags, where each stands last
}

// maxMicros is the last time that fits into nanoseconds.
const maxMicros = math.MaxInt64 / 1000

// invalid is a field and what is wrong with it.
type invalid struct{ field, detail string }

// check returns what is wrong with s, having taken out what Zipkin takes out.
func (s *span) check() *invalid {
	switch {
	case s.traceHigh|s.traceLow == 0:
		return &invalid{"traceId", "Missing : traceId"}
	case s.id == 0:
		return &invalid{"id", "Missing : id"}
	case s.time > maxMicros:
		return &invalid{"timestamp", fmt.Sprintf("timestamp %d is no time in microseconds", s.time)}
	case s.duration > maxMicros-max(s.time, 0):
		return &invalid{"duration", fmt.Sprintf("duration %d is too long in microseconds", s.duration)}
	}
	for i := range s.annotations {
		if s.annotations[i].time > maxMicros {
			return &invalid{"annotations", fmt.Sprintf("timestamp %d is no time in microseconds", s.annotations[i].time)}
		}
	}
	s.time, s.duration = max(s.time, 0), max(s.duration, 0)
	if s.parent == s.id {
		s.parent = 0
	}
	if s.kind == spanbuild.KindClient {
		s.shared = false // that is the server's
	}
	return nil
}

// encode writes s, which is checked.
func (e *encoder) encode(s *span) error {
	g := e.group(s)
	w := &g.Writer
	w.Open(spanbuild.FieldSpan)
	w.TraceID(spanbuild.FieldTraceID, s.traceHigh, s.traceLow)
	w.ID(spanbuild.FieldSpanID, s.id)
	w.ID(spanbuild.FieldParentID, s.parent)
	w.String(spanbuild.FieldName, s.name)
	w.Varint(spanbuild.FieldKind, uint64(s.kind))
	start, known := s.start(e.now)
	w.Fixed64(spanbuild.FieldStart, uint64(start)*1000)
	w.Fixed64(spanbuild.FieldEnd, uint64(min(start+s.duration, maxMicros))*1000)
	e.tags(w, s)
	e.endpoints(w, s)
	flag(w, attrDebug, s.debug)
	flag(w, attrShared, s.shared)
	flag(w, attrNoStart, !known)
	if s.hasNetworkTime {
		w.IntAttr(spanbuild.FieldAttr, []byte(attrNetworkTime), s.networkTime)
	}
	for i := range s.annotations {
		a := &s.annotations[i]
		w.Open(spanbuild.FieldEvent)
		w.Fixed64(spanbuild.FieldEventTime, uint64(max(a.time, 0))*1000)
		w.String(spanbuild.FieldEventName, a.value)
		w.Close()
	}
	e.status(w, s)
	w.Close()
	return e.build.Added(g)
}

// start returns when s started. Zipkin takes spans without a time, which is then
// that of the first annotation, or now.
func (s *span) start(now int64) (start int64, known bool) {
	if s.time > 0 {
		return s.time, true
	}
	first := int64(math.MaxInt64)
	for i := range s.annotations {
		if t := s.annotations[i].time; t > 0 {
			first = min(first, t)
		}
	}
	if first == math.MaxInt64 {
		first = now
	}
	return first, false
}

func flag(w *spanbuild.Writer, key string, v bool) {
	if v {
		w.BoolAttr(spanbuild.FieldAttr, []byte(key), true)
	}
}

// group returns the group of spans with the same local endpoint and scope.
func (e *encoder) group(s *span) *spanbuild.Group {
	first, second := s.local.address()
	name, version := s.tag(tagScopeName), s.tag(tagScopeVersion)
	key := e.scratch[:0]
	for _, part := range [...][]byte{s.local.service, name, version} {
		key = append(key, byte(len(part)), byte(len(part)>>8), byte(len(part)>>16), byte(len(part)>>24))
		key = append(key, part...)
	}
	if first.IsValid() {
		key = append(key, first.AsSlice()...)
	}
	if second.IsValid() {
		key = append(key, second.AsSlice()...)
	}
	e.scratch = key
	g, isNew := e.build.Group(key)
	if !isNew {
		return g
	}
	const field = spanbuild.FieldResourceAttr
	if len(s.local.service) > 0 {
		g.Resource.StringAttr(field, []byte(attrService), s.local.service)
	}
	if first.IsValid() {
		g.Resource.StringAttr(field, []byte(attrLocalAddress), []byte(first.String()))
	}
	if second.IsValid() {
		g.Resource.StringAttr(field, []byte(attrLocalIPv6), []byte(second.String()))
	}
	// The tags' bytes may be gone when the payload is written.
	g.ScopeName, g.ScopeVersion = bytes.Clone(spanbuild.Valid(name)), bytes.Clone(spanbuild.Valid(version))
	return g
}

// tag returns the value of a tag; the last of a name counts.
func (s *span) tag(key string) []byte {
	for i := len(s.tags) - 1; i >= 0; i-- {
		if string(s.tags[i].key) == key {
			return s.tags[i].value
		}
	}
	return nil
}

func (s *span) hasTag(key string) bool {
	for i := range s.tags {
		if string(s.tags[i].key) == key {
			return true
		}
	}
	return false
}

// tags writes the tags, but those that became the scope. Of a name that comes
// twice the last one counts.
func (e *encoder) tags(w *spanbuild.Writer, s *span) {
	const few = 24
	if len(s.tags) > few {
		if e.last == nil {
			e.last = map[string]int{}
		}
		for i := range s.tags {
			e.last[string(s.tags[i].key)] = i
		}
		defer clear(e.last)
	}
	for i := range s.tags {
		t := &s.tags[i]
		if len(s.tags) > few {
			if e.last[string(t.key)] != i {
				continue
			}
		} else if s.comesAgain(i) {
			continue
		}
		if k := string(t.key); len(t.value) > 0 && (k == tagScopeName || k == tagScopeVersion) {
			continue
		}
		w.StringAttr(spanbuild.FieldAttr, t.key, t.value)
	}
}

// comesAgain reports whether a later tag has the name of tag i.
func (s *span) comesAgain(i int) bool {
	for j := i + 1; j < len(s.tags); j++ {
		if bytes.Equal(s.tags[i].key, s.tags[j].key) {
			return true
		}
	}
	return false
}

// endpoints writes what of the endpoints is not in the resource.
func (e *encoder) endpoints(w *spanbuild.Writer, s *span) {
	const field = spanbuild.FieldAttr
	if s.local.port != 0 && !s.hasTag(attrLocalPort) {
		w.IntAttr(field, []byte(attrLocalPort), int64(s.local.port))
	}
	if s.remote.isEmpty() {
		return
	}
	if len(s.remote.service) > 0 {
		e.peer(w, s, attrPeerService, attrRemoteService, s.remote.service)
	}
	first, second := s.remote.address()
	if first.IsValid() {
		e.scratch = first.AppendTo(e.scratch[:0])
		e.peer(w, s, attrPeerAddress, attrRemoteAddress, e.scratch)
	}
	if second.IsValid() {
		e.scratch = second.AppendTo(e.scratch[:0])
		w.StringAttr(field, []byte(attrPeerIPv6), e.scratch)
	}
	if s.remote.port != 0 {
		key := attrPeerPort
		if s.hasTag(key) {
			key = attrRemotePort
		}
		w.IntAttr(field, []byte(key), int64(s.remote.port))
	}
}

// peer writes one part of the remote endpoint, under another name if a tag has
// taken the usual one.
func (e *encoder) peer(w *spanbuild.Writer, s *span, key, other string, value []byte) {
	if s.hasTag(key) {
		if bytes.Equal(s.tag(key), value) {
			return
		}
		key = other
	}
	w.StringAttr(spanbuild.FieldAttr, []byte(key), value)
}

// status writes what tags say of the outcome. An error tag, whatever its value,
// is Zipkin's sign of a failure.
func (e *encoder) status(w *spanbuild.Writer, s *span) {
	code, message := uint64(0), []byte(nil)
	switch string(s.tag(tagStatusCode)) {
	case "OK":
		code = spanbuild.StatusOK
	case "ERROR":
		code, message = spanbuild.StatusError, s.tag(tagStatusDescription)
	}
	if s.hasTag(tagError) {
		code = spanbuild.StatusError
		if v := s.tag(tagError); len(message) == 0 && string(v) != "true" {
			message = v
		}
	}
	if code == 0 {
		return
	}
	w.Open(spanbuild.FieldStatus)
	w.String(spanbuild.FieldStatusMessage, message)
	w.Varint(spanbuild.FieldStatusCode, code)
	w.Close()
}
