package otlptraces

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/signal"
)

// span is what is known of the span at hand.
type span struct {
	trace                                     signal.TraceID
	id, parent                                signal.SpanID
	name, message, state                      signal.ByteRange
	start, end                                uint64
	kind, status                              uint64
	flags                                     uint32
	droppedAttrs, droppedEvents, droppedLinks uint32
}

// span decodes a Span message into a row, or counts why there is none.
func (r *Request) span(off, end int) error {
	s := &r.Spans
	asked := false
	var id signal.TraceID
	if b := s.Buf[off:end]; r.keep != nil && r.envelope.Reason == wire.ReasonNone && len(b) >= 18 && b[0] == 1<<3|wire.Bytes && b[1] == 16 {
		id = signal.TraceID(b[2:18])
		if id != (signal.TraceID{}) {
			if !r.keep(id) {
				r.drop()
				return nil
			}
			asked = true
		}
	}
	attrs, events, links := len(s.Attrs), len(s.Events), len(s.Links)
	if err := r.decodeSpan(off, end, uint32(len(r.scopes)-1)); err != nil {
		return err
	}
	f := r.walk.Fault
	if r.envelope.Reason != wire.ReasonNone {
		f = r.envelope
	}
	row := len(s.SpanIDs) - 1
	switch {
	case f.Reason != wire.ReasonNone:
		r.reject(f, s.Bytes(s.Names[row]))
	case r.keep != nil && (!asked || s.TraceIDs[row] != id) && !r.keep(s.TraceIDs[row]):
		r.drop()
	case r.longest > r.limits.value || r.most > r.limits.attrs || len(r.events) > r.limits.events || len(r.links) > r.limits.links ||
		end-off > r.limits.bytes || r.latest != 0 && isSkewed(s.Starts[row], s.Ends[row], r.latest):
		return r.rewriteSpan(row, r.limits, r.latest, true)
	default:
		return nil
	}
	r.pop(row)
	s.Attrs, s.Events, s.Links = s.Attrs[:attrs], s.Events[:events], s.Links[:links]
	return nil
}

// drop counts a span that is not wanted.
func (r *Request) drop() {
	r.NotKept++
	r.changed = true
}

// pop takes the last row away again.
func (r *Request) pop(row int) {
	truncateRows(&r.Spans, row)
	r.messages = r.messages[:row]
}

// decodeSpan appends the row of a Span message of the given scope; what is wrong
// with it is in r.walk.Fault. Attributes of the span come first in Attrs, then those of
// its events, then those of its links.
func (r *Request) decodeSpan(off, end int, scope uint32) error {
	r.beginMessage()
	r.sp = span{}
	r.events, r.links = r.events[:0], r.links[:0]
	s := &r.Spans
	attrs, events, links := len(s.Attrs), len(s.Events), len(s.Links)
	if err := r.spanFields(off, end); err != nil {
		return err
	}
	attrsEnd := len(s.Attrs)
	r.most = max(r.most, attrsEnd-attrs)
	for _, e := range r.events {
		if err := r.event(int(e.Off), int(e.Off+e.Len)); err != nil {
			return err
		}
	}
	for _, l := range r.links {
		if err := r.link(int(l.Off), int(l.Off+l.Len)); err != nil {
			return err
		}
	}
	if err := r.growRows(); err != nil {
		return err
	}
	sp := &r.sp
	if sp.trace == (signal.TraceID{}) {
		r.walk.Refuse(wire.ReasonInvalidTraceID, "trace id", idZero)
	}
	if sp.id.IsZero() {
		r.walk.Refuse(wire.ReasonInvalidSpanID, "span id", idZero)
	}
	s.Scope = append(s.Scope, scope)
	s.TraceIDs = append(s.TraceIDs, sp.trace)
	s.SpanIDs = append(s.SpanIDs, sp.id)
	s.Parents = append(s.Parents, sp.parent)
	s.Starts = append(s.Starts, int64(sp.start))
	s.Ends = append(s.Ends, int64(sp.end))
	s.Names = append(s.Names, sp.name)
	s.Kinds = append(s.Kinds, enum(sp.kind))
	s.Statuses = append(s.Statuses, enum(sp.status))
	s.Messages = append(s.Messages, sp.message)
	s.States = append(s.States, sp.state)
	s.Flags = append(s.Flags, sp.flags)
	s.DroppedAttrs = append(s.DroppedAttrs, sp.droppedAttrs)
	s.DroppedEvents = append(s.DroppedEvents, sp.droppedEvents)
	s.DroppedLinks = append(s.DroppedLinks, sp.droppedLinks)
	s.AttrBegin = append(s.AttrBegin, uint32(attrs))
	s.AttrEnd = append(s.AttrEnd, uint32(attrsEnd))
	s.EventBegin = append(s.EventBegin, uint32(events))
	s.EventEnd = append(s.EventEnd, uint32(len(s.Events)))
	s.LinkBegin = append(s.LinkBegin, uint32(links))
	s.LinkEnd = append(s.LinkEnd, uint32(len(s.Links)))
	r.messages = append(r.messages, signal.RangeOf(off, end))
	return nil
}

// enum returns the value of an enumeration, of which protobuf takes 32 bits; one
// that a column does not hold is 0.
func enum(v uint64) uint8 {
	if v = uint64(uint32(v)); v > 255 {
		return 0
	}
	return uint8(v)
}

// spanFields reads the fields of a Span message; events and links are only noted.
func (r *Request) spanFields(off, end int) error {
	const what = "span"
	sp := &r.sp
	b := r.Spans.Buf[:end]
	for i := off; i < end; {
		tag, s, e := wire.Tagged(b, i)
		if e < 0 {
			return r.walk.Malformed(b, i, what)
		}
		var err error
		switch tag {
		case 9<<3 | wire.Bytes:
			err = r.attribute(b, s, e)
		case 1<<3 | wire.Bytes:
			sp.trace = r.traceID(b[s:e], "trace id")
		case 2<<3 | wire.Bytes:
			sp.id = r.spanID(b[s:e], "span id")
		case 3<<3 | wire.Bytes:
			sp.state = r.text(b, s, e, "trace state")
		case 4<<3 | wire.Bytes:
			sp.parent = r.spanID(b[s:e], "parent's span id")
		case 5<<3 | wire.Bytes:
			sp.name = r.text(b, s, e, "name")
		case 6<<3 | wire.Varint:
			sp.kind = varintAt(b, s)
		case 7<<3 | wire.Fixed64:
			sp.start = binary.LittleEndian.Uint64(b[s:])
		case 8<<3 | wire.Fixed64:
			sp.end = binary.LittleEndian.Uint64(b[s:])
		case 10<<3 | wire.Varint:
			sp.droppedAttrs = uint32(varintAt(b, s))
		case 11<<3 | wire.Bytes:
			if r.events, err = wire.Grow(&r.budget, r.events, 8); err == nil {
				r.events = append(r.events, signal.RangeOf(s, e))
			}
		case 12<<3 | wire.Varint:
			sp.droppedEvents = uint32(varintAt(b, s))
		case 13<<3 | wire.Bytes:
			if r.links, err = wire.Grow(&r.budget, r.links, 8); err == nil {
				r.links = append(r.links, signal.RangeOf(s, e))
			}
		case 14<<3 | wire.Varint:
			sp.droppedLinks = uint32(varintAt(b, s))
		case 15<<3 | wire.Bytes:
			err = r.status(s, e)
		case 16<<3 | wire.Fixed32:
			sp.flags = binary.LittleEndian.Uint32(b[s:])
		default:
			err = r.walk.Unknown(i, what, tag, 16)
		}
		if err != nil {
			return err
		}
		i = e
	}
	return nil
}

// status decodes a Status message, or one of several pieces.
func (r *Request) status(off, end int) error {
	const what = "status"
	b := r.Spans.Buf[:end]
	for i := off; i < end; {
		tag, s, e := wire.Tagged(b, i)
		if e < 0 {
			return r.walk.Malformed(b, i, what)
		}
		switch {
		case tag == 2<<3|wire.Bytes:
			r.sp.message = r.text(b, s, e, "status message")
		case tag == 3<<3|wire.Varint:
			r.sp.status = varintAt(b, s)
		case tag>>3 != 1: // 1 was a code once, and no more
			if err := r.walk.Unknown(i, what, tag, 3); err != nil {
				return err
			}
		}
		i = e
	}
	return nil
}

// event decodes an Event message.
func (r *Request) event(off, end int) (err error) {
	const what = "event"
	s := &r.Spans
	if s.Events, err = wire.Grow(&r.budget, s.Events, eventBytes); err != nil {
		return err
	}
	ev := signal.Event{AttrBegin: uint32(len(s.Attrs))}
	b := s.Buf[:end]
	for i := off; i < end; {
		tag, c, e := wire.Tagged(b, i)
		if e < 0 {
			return r.walk.Malformed(b, i, what)
		}
		switch tag {
		case 1<<3 | wire.Fixed64:
			ev.Time = int64(binary.LittleEndian.Uint64(b[c:]))
		case 2<<3 | wire.Bytes:
			ev.Name = r.text(b, c, e, "name of an event")
		case 3<<3 | wire.Bytes:
			err = r.attribute(b, c, e)
		case 4<<3 | wire.Varint:
			ev.DroppedAttrs = uint32(varintAt(b, c))
		default:
			err = r.walk.Unknown(i, what, tag, 4)
		}
		if err != nil {
			return err
		}
		i = e
	}
	ev.AttrEnd = uint32(len(s.Attrs))
	r.most = max(r.most, int(ev.AttrEnd-ev.AttrBegin))
	s.Events = append(s.Events, ev)
	return nil
}

// link decodes a Link message.
func (r *Request) link(off, end int) (err error) {
	const what = "link"
	s := &r.Spans
	if s.Links, err = wire.Grow(&r.budget, s.Links, linkBytes); err != nil {
		return err
	}
	l := signal.Link{AttrBegin: uint32(len(s.Attrs))}
	b := s.Buf[:end]
	for i := off; i < end; {
		tag, c, e := wire.Tagged(b, i)
		if e < 0 {
			return r.walk.Malformed(b, i, what)
		}
		switch tag {
		case 1<<3 | wire.Bytes:
			l.TraceID = r.traceID(b[c:e], "trace id of a link")
		case 2<<3 | wire.Bytes:
			l.SpanID = r.spanID(b[c:e], "span id of a link")
		case 3<<3 | wire.Bytes:
			l.State = r.text(b, c, e, "trace state of a link")
		case 4<<3 | wire.Bytes:
			err = r.attribute(b, c, e)
		case 5<<3 | wire.Varint:
			l.DroppedAttrs = uint32(varintAt(b, c))
		case 6<<3 | wire.Fixed32:
			l.Flags = binary.LittleEndian.Uint32(b[c:])
		default:
			err = r.walk.Unknown(i, what, tag, 6)
		}
		if err != nil {
			return err
		}
		i = e
	}
	l.AttrEnd = uint32(len(s.Attrs))
	r.most = max(r.most, int(l.AttrEnd-l.AttrBegin))
	s.Links = append(s.Links, l)
	return nil
}

// traceID reads an id; one without bytes is zero.
func (r *Request) traceID(b []byte, what string) (id signal.TraceID) {
	if len(b) == len(id) {
		return signal.TraceID(b)
	}
	if len(b) != 0 {
		r.walk.Refuse(wire.ReasonInvalidTraceID, what, len(b))
	}
	return id
}

// spanID reads an id; one without bytes is zero.
func (r *Request) spanID(b []byte, what string) (id signal.SpanID) {
	if len(b) == len(id) {
		return signal.SpanID(b)
	}
	if len(b) != 0 {
		r.walk.Refuse(wire.ReasonInvalidSpanID, what, len(b))
	}
	return id
}

// text notes the string at b[s:e].
func (r *Request) text(b []byte, s, e int, what string) signal.ByteRange {
	if !utf8.Valid(b[s:e]) {
		r.walk.Refuse(wire.ReasonInvalidUTF8, what, 0)
	}
	r.longest = max(r.longest, e-s)
	return signal.RangeOf(s, e)
}
