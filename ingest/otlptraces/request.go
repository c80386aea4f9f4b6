package otlptraces

import (
	"fmt"
	"math"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/signal"
)

// Request is one OTLP request: the batch decoded from it and what was left out
// of the batch. It is meant to be reused and is used by one goroutine at a time.
type Request struct {
	wire.Decoded

	walk   wire.Walk
	limits bounds
	keep   func(signal.TraceID) bool
	latest int64 // newest start that is believed, unix nanoseconds; 0 asks for no check
	budget wire.Budget

	body    int  // Spans.Buf[:body] is the message as it came
	changed bool // parts are not what came

	resources []wire.Envelope // beside Spans.Resources
	scopes    []wire.Envelope // beside Spans.Scopes
	extras    wire.Extras
	messages  []signal.ByteRange // per span: its message in Buf

	sp            span
	longest, most int                // length of a value and number of attributes at one place, of the message at hand
	events, links []signal.ByteRange // of the span at hand

	envelope wire.Fault // of the resource or scope around the message at hand

	cut    cutter
	parter parter
}

// keepBytes is the memory that a Request keeps when it is reset.
const keepBytes = 8 << 20

const nanosPerMilli = 1_000_000

// New returns an empty Request.
func New() *Request { return &Request{} }

// Register makes f decode spans.
func Register(f *wire.Formats) {
	f.Register(func() wire.Decoder { return New() }, buffer.FormatOTLPTraces, buffer.FormatOTLPTracesSnappy)
}

// Decode implements wire.Decoder. Limits.MaxTime also asks for a look at the
// clock: without it nothing is marked. A span whose trace Limits.KeepTrace does
// not want is not looked into further, and KeepTrace is called once for a span.
func (r *Request) Decode(format buffer.Format, payload []byte, limits wire.Limits) error {
	r.begin(format, limits)
	if err := r.budget.Charge(r.capBytes()); err != nil {
		return err
	}
	if err := r.load(payload, wire.BodyLimit(limits.MaxDecodedBytes)); err != nil {
		return err
	}
	return r.request(0, r.body)
}

func (r *Request) begin(format buffer.Format, limits wire.Limits) {
	r.Reset()
	r.walk = wire.Walk{Format: format, TooDeep: wire.ReasonInvalidSpan}
	r.limits, r.keep = boundsOf(limits), limits.KeepTrace
	r.budget.Begin(limits.Reserve)
	r.latest = 0
	if limits.MaxTime != 0 {
		r.latest = min(max(limits.MaxTime, 1), math.MaxInt64/nanosPerMilli) * nanosPerMilli
	}
}

// load puts the message into Buf.
func (r *Request) load(payload []byte, limit int) (err error) {
	s := &r.Spans
	switch r.walk.Format {
	case buffer.FormatOTLPTraces:
		if len(payload) > limit {
			return &wire.SizeError{What: "body", Got: len(payload), Limit: limit}
		}
		if s.Buf, err = wire.GrowBuf(&r.budget, s.Buf, len(payload)); err != nil {
			return err
		}
		s.Buf = append(s.Buf, payload...)
	case buffer.FormatOTLPTracesSnappy:
		if s.Buf, err = wire.Uncompress(&r.budget, s.Buf, payload, limit); err != nil {
			return err
		}
	default:
		return &wire.SyntaxError{Message: "request", Detail: "unknown format"}
	}
	r.body = len(s.Buf)
	return nil
}

// Result implements wire.Decoder. Cut counts the resources and scopes of which
// something was cut off, too.
func (r *Request) Result() *wire.Decoded { return &r.Decoded }

// Reset empties r for reuse. Buffers that one large request has blown up are let
// go.
func (r *Request) Reset() {
	if r.capBytes() > keepBytes {
		*r = Request{}
		return
	}
	r.Spans.Reset()
	r.Decoded = wire.Decoded{Metrics: r.Metrics, Spans: r.Spans}
	r.limits, r.keep = bounds{}, nil
	r.body, r.changed = 0, false
	r.resources, r.scopes = r.resources[:0], r.scopes[:0]
	r.extras, r.messages = r.extras[:0], r.messages[:0]
	r.walk, r.envelope = wire.Walk{}, wire.Fault{}
	r.budget.Begin(nil)
	r.cut.begin() // it points into Buf
	r.parter.reset()
}

const (
	rowBytes   = 133 // of the columns that have an entry per span, and its message
	attrBytes  = 24
	eventBytes = 32
	linkBytes  = 48
)

// capBytes is the memory that r holds already.
func (r *Request) capBytes() int {
	s := &r.Spans
	return cap(s.Buf) + rowBytes*cap(s.SpanIDs) + attrBytes*cap(s.Attrs) + eventBytes*cap(s.Events) + linkBytes*cap(s.Links) +
		24*cap(s.Resources) + 40*cap(s.Scopes) + 16*(cap(r.resources)+cap(r.scopes)) + 8*(cap(r.extras)+cap(r.events)+cap(r.links)) +
		r.cut.capBytes() + r.parter.capBytes()
}

func detail(f wire.Fault) string {
	switch f.Reason {
	case wire.ReasonInvalidTraceID:
		if f.Got == idZero {
			return fmt.Sprintf("%s is missing or zero", f.What)
		}
		return fmt.Sprintf("%s has %d bytes, want 16", f.What, f.Got)
	case wire.ReasonInvalidSpanID:
		if f.Got == idZero {
			return fmt.Sprintf("%s is missing or zero", f.What)
		}
		return fmt.Sprintf("%s has %d bytes, want 8", f.What, f.Got)
	case wire.ReasonInvalidUTF8:
		return fmt.Sprintf("%s is not valid UTF-8", f.What)
	}
	return f.What
}

// idZero is what a fault has got if an id is zero rather than of another length.
const idZero = -1

// reject counts a span as refused.
func (r *Request) reject(f wire.Fault, name []byte) {
	r.Rejects.Spans++
	r.changed = true
	e := wire.InvalidError{Reason: f.Reason}
	if r.Rejects.First == nil {
		e.Detail = fmt.Sprintf("span %q: %s", cutText(name, 100), detail(f))
	}
	r.Rejects.Note(1, e)
}

// growRows makes room for one more span.
func (r *Request) growRows() error {
	s := &r.Spans
	n := len(s.SpanIDs)
	if n < cap(s.SpanIDs) && n < cap(r.messages) {
		return nil
	}
	room := max(2*n, 64)
	if err := r.budget.Charge((room - cap(s.SpanIDs)) * rowBytes); err != nil {
		return err
	}
	growColumns(s, room)
	r.messages = append(make([]signal.ByteRange, 0, room), r.messages...)
	return nil
}
