// Package spanbuild writes OTLP trace requests for doors whose clients speak
// something else: spans are encoded one by one, straight from the client's
// bytes, and grouped by what produced them.
//
//	span ──► Group(key).Open(FieldSpan) … fields … Close ──► Payload: an ExportTraceServiceRequest
//
// A group is one resource with one scope. Every group has one buffer that its
// spans are appended to; the lengths of nested messages are put in when they
// are closed, so nothing is copied but for the shift by the length's extra
// bytes. Memory is accounted for by Builder.Reserve. Strings that are not
// UTF-8 are made so, since OTLP has no others.
package spanbuild

import "slices"

// Fields of OTLP's messages.
const (
	resourceSpans = 1 // of the request

	resource   = 1 // of ResourceSpans
	scopeSpans = 2

	FieldResourceAttr = 1 // of Resource

	scope        = 1 // of ScopeSpans
	FieldSpan    = 2
	scopeName    = 1 // of InstrumentationScope
	scopeVersion = 2

	FieldTraceID    = 1 // of Span
	FieldSpanID     = 2
	FieldTraceState = 3
	FieldParentID   = 4
	FieldName       = 5
	FieldKind       = 6
	FieldStart      = 7
	FieldEnd        = 8
	FieldAttr       = 9
	FieldEvent      = 11
	FieldLink       = 13
	FieldStatus     = 15
	FieldFlags      = 16

	FieldEventTime = 1 // of Event
	FieldEventName = 2
	FieldEventAttr = 3

	FieldLinkTraceID = 1 // of Link
	FieldLinkSpanID  = 2
	FieldLinkAttr    = 4

	FieldStatusMessage = 2 // of Status
	FieldStatusCode    = 3
)

// Codes of a span's status.
const (
	StatusOK    = 1
	StatusError = 2
)

// Kinds of spans.
const (
	KindInternal = 1
	KindServer   = 2
	KindClient   = 3
	KindProducer = 4
	KindConsumer = 5
)

// Builder collects spans in groups. The zero value is ready; it is not safe for
// concurrent use.
type Builder struct {
	// Reserve, if set, is asked for memory before more of it is used. Its error
	// ends the request.
	Reserve func(n int) error

	groups map[string]*Group
	order  []*Group
	spare  []*Group
	used   int // bytes of all groups, and what they will take as a payload
	got    int // by Reserve
	spans  int
}

// Group is a resource with a scope, and their spans. A new one is given its
// resource by attributes of Resource and its scope's name and version.
type Group struct {
	Writer          // spans
	Resource Writer // its attributes, in FieldResourceAttr

	ScopeName, ScopeVersion []byte // are kept until Payload

	counted int // bytes that are in the builder's used
}

// Reset empties b and keeps its memory, unless that is more than a usual
// request needs.
func (b *Builder) Reset() {
	const keepGroups, keepBytes = 64, 4 << 20
	kept := 0
	for _, g := range b.spare {
		kept += cap(g.buf)
	}
	for _, g := range b.order {
		if kept += cap(g.buf); len(b.spare) == keepGroups || kept > keepBytes {
			break
		}
		g.reset()
		b.spare = append(b.spare, g)
	}
	clear(b.order)
	clear(b.groups)
	if len(b.order) > 1000 {
		b.groups, b.order = nil, nil
	}
	b.order = b.order[:0]
	b.used, b.got, b.spans, b.Reserve = 0, 0, 0, nil
}

func (g *Group) reset() {
	*g = Group{Writer: Writer{buf: g.buf[:0]}, Resource: Writer{buf: g.Resource.buf[:0]}}
}

// Group returns the group with a key, which is whatever tells it from others.
func (b *Builder) Group(key []byte) (g *Group, isNew bool) {
	if g, ok := b.groups[string(key)]; ok {
		return g, false
	}
	if n := len(b.spare); n > 0 {
		g, b.spare = b.spare[n-1], b.spare[:n-1]
	} else {
		g = &Group{}
	}
	if b.groups == nil {
		b.groups = map[string]*Group{}
	}
	b.groups[string(key)] = g
	b.order = append(b.order, g)
	const groupBytes = 400 // with its place in the map
	b.used += groupBytes + len(key)
	return g, true
}

// Added counts a span that is now complete in g, and reserves memory for it.
func (b *Builder) Added(g *Group) error {
	b.spans++
	now := len(g.buf) + len(g.Resource.buf)
	b.used += 2 * (now - g.counted) // the payload is as large again
	g.counted = now
	if b.used <= b.got || b.Reserve == nil {
		return nil
	}
	const step = 256 << 10
	n := max(step, b.used-b.got)
	b.got += n
	return b.Reserve(n)
}

// Expect reserves memory before the first span, for what n bytes of input will
// become at least.
func (b *Builder) Expect(n int) error {
	if b.Reserve == nil {
		return nil
	}
	b.got += n
	return b.Reserve(n)
}

// Spans returns how many spans were added.
func (b *Builder) Spans() int { return b.spans }

// Payload appends the request to dst.
func (b *Builder) Payload(dst []byte) []byte {
	size := 0
	for _, g := range b.order {
		const heads = 40 // tags and lengths
		size += heads + len(g.Resource.buf) + len(g.ScopeName) + len(g.ScopeVersion) + len(g.buf)
	}
	w := Writer{buf: slices.Grow(dst, size)}
	for _, g := range b.order {
		if len(g.buf) == 0 {
			continue
		}
		scopeLen := 0
		if n := len(g.ScopeName) + len(g.ScopeVersion); n > 0 {
			scopeLen = lengthOf(g.ScopeName) + lengthOf(g.ScopeVersion)
		}
		inner := len(g.buf)
		if scopeLen > 0 {
			inner += 1 + varintLen(scopeLen) + scopeLen
		}
		outer := 1 + varintLen(inner) + inner
		if n := len(g.Resource.buf); n > 0 {
			outer += 1 + varintLen(n) + n
		}
		w.length(resourceSpans, outer)
		if n := len(g.Resource.buf); n > 0 {
			w.length(resource, n)
			w.buf = append(w.buf, g.Resource.buf...)
		}
		w.length(scopeSpans, inner)
		if scopeLen > 0 {
			w.length(scope, scopeLen)
			w.raw(scopeName, g.ScopeName)
			w.raw(scopeVersion, g.ScopeVersion)
		}
		w.buf = append(w.buf, g.buf...)
	}
	return w.buf
}

// lengthOf returns the bytes of a field with a small number that raw writes.
func lengthOf(value []byte) int {
	if len(value) == 0 {
		return 0
	}
	return 1 + varintLen(len(value)) + len(value)
}
