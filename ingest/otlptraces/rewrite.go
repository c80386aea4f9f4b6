package otlptraces

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/otlpspans"
	"github.com/vedette-io/vedette/internal/signal"
)

// rewriteSpan cuts what of a row is beyond the bounds and marks it, also if its
// clock is off; latest is the newest start that is believed, and 0 believes
// all. isLast says that nothing follows the row's attributes in Attrs.
func (r *Request) rewriteSpan(row int, lim bounds, latest int64, isLast bool) error {
	s, c := &r.Spans, &r.cut
	c.skew = c.skew[:0]
	if latest != 0 {
		c.skew = appendSkew(c.skew, s, row, latest)
	}
	was := c.saveSpan(s, row)
	size := int(r.messages[row].Len)
	rewrite := false
	for {
		c.begin()
		c.span(s, row, &was, lim)
		c.out = otlpspans.AppendSpan(c.out, s, row)
		c.done.unknown = !c.done.any() && size > lim.bytes
		rewrite = c.marks(9, lim.bytes)
		if len(c.out) <= lim.bytes {
			break
		}
		if !c.tighten(&lim) {
			return tooLarge("span", len(c.out), lim)
		}
	}
	if !rewrite {
		c.restore(s, row, &was)
		return nil
	}
	off, err := r.appendMessage(c.out)
	if err != nil {
		return err
	}
	r.changed = true
	if c.done.any() {
		r.Cut++
	}
	if len(c.skew) > 0 {
		r.Skewed++
	}
	scope := s.Scope[row]
	if isLast {
		r.pop(row)
		s.Attrs, s.Events, s.Links = s.Attrs[:was.attrBegin], s.Events[:was.eventBegin], s.Links[:was.linkBegin]
		return r.decodeSpan(off, len(s.Buf), scope)
	}
	if err := r.decodeSpan(off, len(s.Buf), scope); err != nil {
		return err
	}
	k := len(s.SpanIDs) - 1
	copyRow(s, row, k)
	r.messages[row] = r.messages[k]
	r.pop(k)
	return nil
}

// appendMessage puts a message into Buf.
func (r *Request) appendMessage(b []byte) (off int, err error) {
	s := &r.Spans
	if s.Buf, err = wire.GrowBuf(&r.budget, s.Buf, len(b)); err != nil {
		return 0, err
	}
	off = len(s.Buf)
	s.Buf = append(s.Buf, b...)
	return off, nil
}

// row is what the columns said of a span, but for what is in the cutter.
type row struct {
	attrBegin, attrEnd, eventBegin, linkBegin uint32
	name, message, state                      signal.ByteRange
	droppedAttrs, droppedEvents, droppedLinks uint32
}

func (c *cutter) saveSpan(s *signal.Spans, i int) row {
	was := row{
		s.AttrBegin[i], s.AttrEnd[i], s.EventBegin[i], s.LinkBegin[i], s.Names[i], s.Messages[i], s.States[i],
		s.DroppedAttrs[i], s.DroppedEvents[i], s.DroppedLinks[i],
	}
	c.events = append(c.events[:0], s.Events[was.eventBegin:s.EventEnd[i]]...)
	c.links = append(c.links[:0], s.Links[was.linkBegin:s.LinkEnd[i]]...)
	end, most := was.attrEnd, was.attrEnd-was.attrBegin
	longest := max(was.name.Len, was.message.Len, was.state.Len)
	for _, e := range c.events {
		end, most, longest = e.AttrEnd, max(most, e.AttrEnd-e.AttrBegin), max(longest, e.Name.Len)
	}
	for _, l := range c.links {
		end, most, longest = l.AttrEnd, max(most, l.AttrEnd-l.AttrBegin), max(longest, l.State.Len)
	}
	c.save(s.Attrs[was.attrBegin:end], int(most))
	c.longest = max(c.longest, int(longest))
	return was
}

// restore undoes what span has done.
func (c *cutter) restore(s *signal.Spans, i int, was *row) {
	copy(s.Attrs[was.attrBegin:], c.attrs)
	copy(s.Events[was.eventBegin:], c.events)
	copy(s.Links[was.linkBegin:], c.links)
	s.AttrEnd[i] = was.attrEnd
}

// span cuts the columns of row i to the bounds.
func (c *cutter) span(s *signal.Spans, i int, was *row, lim bounds) {
	n := &c.done
	saved := func(begin, end uint32) []signal.Attr { return c.attrs[begin-was.attrBegin : end-was.attrBegin] }
	s.Names[i] = c.note(s, "name", was.name, lim.value, cutText)
	s.Messages[i] = c.note(s, "status message", was.message, lim.value, cutText)
	s.States[i] = c.note(s, "trace state", was.state, lim.value, cutState)
	w, dropped := c.attributes(s, was.attrBegin, saved(was.attrBegin, was.attrEnd), lim)
	s.AttrEnd[i], s.DroppedAttrs[i], n.attrs = w, plus(was.droppedAttrs, dropped), dropped

	keep := min(len(c.events), lim.events)
	n.events = len(c.events) - keep
	s.EventEnd[i], s.DroppedEvents[i] = was.eventBegin+uint32(keep), plus(was.droppedEvents, n.events)
	for k, e := range c.events[:keep] {
		attrs := saved(e.AttrBegin, e.AttrEnd)
		e.Name = c.note(s, "name of an event", e.Name, lim.value, cutText)
		e.AttrBegin = w
		w, dropped = c.attributes(s, w, attrs, lim)
		e.AttrEnd, e.DroppedAttrs = w, plus(e.DroppedAttrs, dropped)
		n.eventAttrs += dropped
		s.Events[int(was.eventBegin)+k] = e
	}

	keep = min(len(c.links), lim.links)
	n.links = len(c.links) - keep
	s.LinkEnd[i], s.DroppedLinks[i] = was.linkBegin+uint32(keep), plus(was.droppedLinks, n.links)
	for k, l := range c.links[:keep] {
		attrs := saved(l.AttrBegin, l.AttrEnd)
		l.State = c.note(s, "trace state of a link", l.State, lim.value, cutState)
		l.AttrBegin = w
		w, dropped = c.attributes(s, w, attrs, lim)
		l.AttrEnd, l.DroppedAttrs = w, plus(l.DroppedAttrs, dropped)
		n.linkAttrs += dropped
		s.Links[int(was.linkBegin)+k] = l
	}
}

// plus adds without running over.
func plus(a uint32, n int) uint32 {
	return uint32(min(uint64(a)+uint64(n), math.MaxUint32))
}

// isSkewed reports whether a span's clock cannot be right: it begins after the
// newest start that is believed, or ends before it begins, or has no time.
func isSkewed(start, end, latest int64) bool {
	return start <= 0 || start > latest || uint64(end) < uint64(start)
}

// appendSkew says for a person what is wrong with the clock of a row, or nothing if
// that is right or has been said before.
func appendSkew(dst []byte, s *signal.Spans, i int, latest int64) []byte {
	start, end := s.Starts[i], s.Ends[i]
	if !isSkewed(start, end, latest) {
		return dst
	}
	for _, a := range s.SpanAttrs(i) {
		if string(s.Bytes(a.Key)) == AttrClockSkew {
			return dst
		}
	}
	say := func(text string) {
		if len(dst) > 0 {
			dst = append(dst, "; "...)
		}
		dst = append(dst, text...)
	}
	switch {
	case start == 0:
		say("start is not set")
	case start < 0:
		say("start is beyond the year 2262")
	case start > latest:
		say(fmt.Sprintf("start is %s beyond the newest time accepted", time.Duration(start-latest)))
	}
	switch {
	case end == 0 && start != 0:
		say("end is not set")
	case uint64(end) < uint64(start):
		say(fmt.Sprintf("end is %s before the start", time.Duration(min(uint64(start)-uint64(end), math.MaxInt64))))
	}
	return dst
}

// head is what a resource or scope is. Its texts are the schema URL, the name and
// the version.
type head struct {
	begin, end uint32 // attributes
	dropped    uint32
	texts      [3]signal.ByteRange
}

// cutHead writes a resource or scope anew, cut to the bounds and with a mark, with
// what stands beside it but for the spans, whose size was the given one. append
// adds the message, the attributes of which are in the given field. It returns the
// place in Buf, and false if there was nothing to cut.
func (r *Request) cutHead(h head, size int, lim bounds, attrField byte, appendTo func(dst []byte, h *head) []byte) (off int, rewritten bool, err error) {
	s, c := &r.Spans, &r.cut
	c.skew, c.events, c.links = c.skew[:0], c.events[:0], c.links[:0]
	c.save(s.Attrs[h.begin:h.end], int(h.end-h.begin))
	for _, t := range h.texts {
		c.longest = max(c.longest, int(t.Len))
	}
	for {
		c.begin()
		short := h
		for i, name := range [...]string{"schema URL", "name", "version"} {
			short.texts[i] = c.note(s, name, h.texts[i], lim.value, cutText)
		}
		short.end, c.done.attrs = c.attributes(s, h.begin, c.attrs, lim)
		short.dropped = plus(h.dropped, c.done.attrs)
		c.out = appendTo(c.out, &short)
		c.done.unknown = !c.done.any() && size > lim.bytes
		rewritten = c.marks(attrField, lim.bytes)
		c.head = append(c.head[:0], 1<<3|wire.Bytes)
		c.head = binary.AppendUvarint(c.head, uint64(len(c.out)))
		c.head = append(c.head, c.out...)
		if url := s.Bytes(short.texts[0]); len(url) > 0 {
			c.head = append(c.head, 3<<3|wire.Bytes)
			c.head = binary.AppendUvarint(c.head, uint64(len(url)))
			c.head = append(c.head, url...)
		}
		if len(c.head) <= lim.bytes {
			break
		}
		if !c.tighten(&lim) {
			return 0, false, tooLarge("resource or scope", len(c.head), lim)
		}
	}
	copy(s.Attrs[h.begin:], c.attrs)
	if !rewritten {
		return 0, false, nil
	}
	r.changed = true
	r.Cut++
	off, err = r.appendMessage(c.head)
	return off, true, err
}

// cutResource cuts resource k. isLast says that nothing follows its attributes in
// Attrs.
func (r *Request) cutResource(k int, lim bounds, isLast bool) error {
	s := &r.Spans
	res := s.Resources[k]
	h := head{begin: res.AttrBegin, end: res.AttrEnd, dropped: res.DroppedAttrs, texts: [3]signal.ByteRange{res.SchemaURL}}
	off, rewritten, err := r.cutHead(h, int(r.resources[k].Size), lim, 1, func(dst []byte, h *head) []byte {
		return otlpspans.AppendResource(dst, s, &signal.Resource{AttrBegin: h.begin, AttrEnd: h.end, DroppedAttrs: h.dropped})
	})
	if err != nil || !rewritten {
		return err
	}
	if isLast {
		s.Attrs = s.Attrs[:res.AttrBegin]
	}
	s.Resources[k], r.resources[k], _, err = r.resourceHead(off, len(s.Buf))
	return err
}

// cutScope cuts scope k, as cutResource does with a resource.
func (r *Request) cutScope(k int, lim bounds, isLast bool) error {
	s := &r.Spans
	scope := s.Scopes[k]
	h := head{
		begin: scope.AttrBegin, end: scope.AttrEnd, dropped: scope.DroppedAttrs,
		texts: [3]signal.ByteRange{scope.SchemaURL, scope.Name, scope.Version},
	}
	off, rewritten, err := r.cutHead(h, int(r.scopes[k].Size), lim, 3, func(dst []byte, h *head) []byte {
		return otlpspans.AppendScope(dst, s, &signal.Scope{
			Name: h.texts[1], Version: h.texts[2], AttrBegin: h.begin, AttrEnd: h.end, DroppedAttrs: h.dropped,
		})
	})
	if err != nil || !rewritten {
		return err
	}
	if isLast {
		s.Attrs = s.Attrs[:scope.AttrBegin]
	}
	s.Scopes[k], r.scopes[k], err = r.scopeHead(off, len(s.Buf), scope.Resource)
	return err
}
