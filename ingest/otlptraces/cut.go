package otlptraces

import (
	"bytes"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/otlpspans"
	"github.com/vedette-io/vedette/internal/signal"
)

// Attributes that say what was done to a span, a resource or a scope. They do not
// count against limits.
const (
	AttrTruncated = "vedette.truncated"  // text: what was cut off
	AttrClockSkew = "vedette.clock_skew" // text: what is wrong with the clock
)

const (
	namedValues = 8   // cut values that a mark names
	keyFloor    = 256 // a key or mark of this length is never too long
	markFloor   = 64  // room that a mark has where there is little
	oldMark     = 512 // bytes of an earlier mark that a new one repeats
)

// bounds are the limits at which things are cut.
type bounds struct{ attrs, events, links, value, bytes int }

func boundsOf(l wire.Limits) bounds {
	or := func(n int) int {
		if n == 0 {
			return math.MaxInt
		}
		return n
	}
	return bounds{or(l.MaxAttrs), or(l.MaxEvents), or(l.MaxLinks), or(l.MaxAttrBytes), or(l.MaxSpanBytes)}
}

// upTo returns bounds that ask for a size only.
func upTo(size int) bounds {
	return bounds{math.MaxInt, math.MaxInt, math.MaxInt, math.MaxInt, size}
}

// cutter cuts one message at a time. It works on the columns, in place, since they
// only become shorter, from a copy of what they were.
type cutter struct {
	attrs  []signal.Attr // of the message and all in it, as they were
	events []signal.Event
	links  []signal.Link

	longest, most int // length of a value and number of attributes at one place

	done notes
	old  []byte // mark that the message had
	out  []byte // message under construction
	head []byte // the same and what stands beside it
	text []byte // mark under construction
	skew []byte // mark of the clock
}

func (c *cutter) capBytes() int {
	return attrBytes*cap(c.attrs) + eventBytes*cap(c.events) + linkBytes*cap(c.links) + cap(c.out) + cap(c.head) + cap(c.text) + cap(c.skew)
}

// notes say what was cut.
type notes struct {
	attrs, events, links  int // dropped
	eventAttrs, linkAttrs int
	unknown               bool // fields that no column holds
	values                int  // made shorter, the first of them named
	named                 [namedValues]shortened
}

type shortened struct {
	name     []byte
	from, to int
}

func (n *notes) any() bool {
	return n.attrs+n.events+n.links+n.eventAttrs+n.linkAttrs+n.values > 0 || n.unknown
}

func (n *notes) shortened(name []byte, from, to int) {
	if n.values < namedValues {
		n.named[n.values] = shortened{name, from, to}
	}
	n.values++
}

// appendText says it for a person.
func (n *notes) appendText(dst []byte) []byte {
	sep := "dropped "
	for _, d := range []struct {
		n    int
		what string
	}{
		{n.attrs, "attribute%s"}, {n.events, "event%s"}, {n.links, "link%s"},
		{n.eventAttrs, "attribute%s of events"}, {n.linkAttrs, "attribute%s of links"},
	} {
		if d.n > 0 {
			plural := "s"
			if d.n == 1 {
				plural = ""
			}
			dst = fmt.Appendf(dst, "%s%d "+d.what, sep, d.n, plural)
			sep = ", "
		}
	}
	if n.unknown {
		dst = append(dst, sep+"unknown fields"...)
		sep = ", "
	}
	if n.values == 0 {
		return dst
	}
	if sep == ", " {
		dst = append(dst, "; "...)
	}
	sep = "cut "
	for _, v := range n.named[:min(n.values, namedValues)] {
		dst = fmt.Appendf(dst, "%s%s from %d to %d bytes", sep, cutText(v.name, 64), v.from, v.to)
		sep = ", "
	}
	if more := n.values - namedValues; more > 0 {
		dst = fmt.Appendf(dst, " and %d more values", more)
	}
	return dst
}

// cutText returns the beginning of b, at most n bytes, that ends with a character.
func cutText(b []byte, n int) []byte {
	if len(b) <= n {
		return b
	}
	for n > 0 && !utf8.RuneStart(b[n]) {
		n--
	}
	return b[:n]
}

// cutState returns the beginning of a W3C trace state that ends with a member.
func cutState(b []byte, n int) []byte {
	if len(b) <= n {
		return b
	}
	return b[:max(bytes.LastIndexByte(b[:n+1], ','), 0)]
}

// cutList returns the beginning of an ArrayValue or KeyValueList that ends with an
// element.
func cutList(b []byte, n int) []byte {
	end := 0
	for end < len(b) {
		_, _, next := wire.Tagged(b, end)
		if next < 0 || next > n {
			break
		}
		end = next
	}
	return b[:end]
}

// note returns what is left of the range of some text, which cut has shortened.
func (c *cutter) note(s *signal.Spans, name string, r signal.ByteRange, n int, cut func([]byte, int) []byte) signal.ByteRange {
	if int(r.Len) <= n {
		return r
	}
	left := cut(s.Bytes(r), n)
	c.done.shortened([]byte(name), int(r.Len), len(left))
	r.Len = uint32(len(left))
	return r
}

// value shortens the value of an attribute.
func (c *cutter) value(s *signal.Spans, a signal.Attr, n int) signal.Attr {
	if !a.Type.InBuf() || int(a.Range().Len) <= n {
		return a
	}
	v := a.Range()
	b := s.Bytes(v)
	switch a.Type {
	case signal.AttrString:
		b = cutText(b, n)
	case signal.AttrBytes:
		b = b[:n]
	default:
		b = cutList(b, n)
	}
	c.done.shortened(s.Bytes(a.Key), int(v.Len), len(b))
	v.Len = uint32(len(b))
	a.Num = signal.PackRange(v)
	return a
}

// attributes writes those of the given attributes that stay to s.Attrs[w:] and
// returns where they end and how many do not.
func (c *cutter) attributes(s *signal.Spans, w uint32, attrs []signal.Attr, lim bounds) (end uint32, dropped int) {
	kept := 0
	for _, a := range attrs {
		key := s.Bytes(a.Key)
		switch {
		case string(key) == AttrTruncated && a.Type == signal.AttrString:
			c.old = s.Bytes(a.Range())
			continue
		case string(key) == AttrClockSkew:
			s.Attrs[w] = c.value(s, a, max(lim.value, keyFloor))
			w++
			continue
		case kept >= lim.attrs, len(key) > max(lim.value, keyFloor):
			dropped++
			continue
		default:
			kept++
		}
		s.Attrs[w] = c.value(s, a, lim.value)
		w++
	}
	return w, dropped
}

// save keeps what attributes are, of which there are so many at one place.
func (c *cutter) save(attrs []signal.Attr, most int) {
	c.attrs = append(c.attrs[:0], attrs...)
	c.longest, c.most = 0, most
	for _, a := range attrs {
		c.longest = max(c.longest, int(a.Key.Len))
		if a.Type.InBuf() {
			c.longest = max(c.longest, int(a.Range().Len))
		}
	}
}

// begin forgets what an earlier try has done.
func (c *cutter) begin() {
	c.done = notes{}
	c.old, c.out = nil, c.out[:0]
}

// marks appends the marks as attributes in the given field of a message that may
// have so many bytes, and returns whether there is a reason to write it anew.
func (c *cutter) marks(fieldNumber byte, size int) bool {
	c.text = append(c.text[:0], c.old...)
	if c.done.any() {
		c.text = append(c.text[:0], cutText(c.old, oldMark)...)
		if len(c.text) > 0 {
			c.text = append(c.text, "; "...)
		}
		c.text = cutText(c.done.appendText(c.text), max(size/4, markFloor))
	}
	for _, m := range []struct {
		key  string
		text []byte
	}{{AttrTruncated, c.text}, {AttrClockSkew, c.skew}} {
		if len(m.text) > 0 {
			c.out = otlpspans.AppendAttr(c.out, fieldNumber, []byte(m.key), otlpspans.Value{Type: signal.AttrString, Bytes: m.text})
		}
	}
	return c.done.any() || len(c.skew) > 0
}

// tighten makes bounds narrower when a message is still too large: first what is
// very long or very many, then all that can be spared. It reports false if
// nothing is left.
func (c *cutter) tighten(lim *bounds) bool {
	lim.value, lim.attrs = min(lim.value, c.longest), min(lim.attrs, c.most)
	lim.events, lim.links = min(lim.events, len(c.events)), min(lim.links, len(c.links))
	for _, step := range []struct {
		what  *int
		floor int
	}{
		{&lim.value, 1024}, {&lim.events, 64}, {&lim.links, 64}, {&lim.attrs, 64},
		{&lim.value, 64}, {&lim.events, 0}, {&lim.links, 0}, {&lim.attrs, 0},
	} {
		if *step.what > step.floor {
			*step.what = max(*step.what/2, step.floor)
			return true
		}
	}
	return false
}

// tooLarge is for limits that are too small for anything.
func tooLarge(what string, got int, lim bounds) error {
	return &wire.SizeError{What: what + " of which all is cut that can be", Got: got, Limit: lim.bytes}
}
