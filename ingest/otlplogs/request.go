package otlplogs

import (
	"fmt"
	"math"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/signal"
)

// Request is one OTLP request: what was found in it and what was left out. It is
// meant to be reused and is used by one goroutine at a time.
type Request struct {
	wire.Decoded

	walk     wire.Walk
	maxBytes int // of a record with its resource and scope
	budget   wire.Budget

	body         []byte // the message: the payload itself, or in uncompressed
	uncompressed []byte
	changed      bool // parts are not what came

	resources []envelope
	scopes    []scopeEnvelope
	extras    wire.Extras // of body
	records   []record

	service  []byte     // service.name of the resource at hand
	envelope wire.Fault // of the resource or scope around the message at hand

	parter parter
}

// record is where a LogRecord message lies in the body, and its scope.
type record struct {
	at       signal.ByteRange
	scope    uint32
	severity signal.SeverityClass
	time     int64
}

// envelope is what surrounds messages.
type envelope struct {
	wire.Envelope
	hash uint64 // of its extras
}

// scopeEnvelope is that of a scope, within a resource.
type scopeEnvelope struct {
	envelope
	resource uint32
}

// keepBytes is the memory that a Request keeps when it is reset.
const keepBytes = 8 << 20

const nanosPerMilli = 1_000_000

// New returns an empty Request.
func New() *Request { return &Request{} }

// Register makes f decode log records.
func Register(f *wire.Formats) {
	f.Register(func() wire.Decoder { return New() }, buffer.FormatOTLPLogs, buffer.FormatOTLPLogsSnappy)
}

// Decode implements wire.Decoder. Of limits it knows MaxDecodedBytes, MaxLogBytes
// and Reserve.
func (r *Request) Decode(format buffer.Format, payload []byte, limits wire.Limits) error {
	r.Reset()
	r.walk = wire.Walk{Format: format, TooDeep: wire.ReasonInvalidRecord}
	r.budget.Begin(limits.Reserve)
	r.maxBytes = math.MaxInt
	if limits.MaxLogBytes > 0 {
		r.maxBytes = limits.MaxLogBytes
	}
	if err := r.budget.Charge(r.capBytes()); err != nil {
		return err
	}
	if err := r.load(payload, wire.BodyLimit(limits.MaxDecodedBytes)); err != nil {
		return err
	}
	return r.request()
}

// load makes body the message.
func (r *Request) load(payload []byte, limit int) (err error) {
	switch r.walk.Format {
	case buffer.FormatOTLPLogs:
		if len(payload) > limit {
			return &wire.SizeError{What: "body", Got: len(payload), Limit: limit}
		}
		r.body = payload
	case buffer.FormatOTLPLogsSnappy:
		if r.uncompressed, err = wire.Uncompress(&r.budget, r.uncompressed[:0], payload, limit); err != nil {
			return err
		}
		r.body = r.uncompressed
	default:
		return &wire.SyntaxError{Message: "request", Detail: "unknown format"}
	}
	return nil
}

// Result implements wire.Decoder.
func (r *Request) Result() *wire.Decoded { return &r.Decoded }

// Reset empties r for reuse. Buffers that one large request has blown up are let
// go.
func (r *Request) Reset() {
	if r.capBytes() > keepBytes {
		*r = Request{}
		return
	}
	r.Logs.Reset()
	r.Decoded = wire.Decoded{Logs: r.Logs}
	r.body, r.changed = nil, false
	r.resources, r.scopes = r.resources[:0], r.scopes[:0]
	r.extras, r.records = r.extras[:0], r.records[:0]
	r.service = nil
	r.walk, r.envelope = wire.Walk{}, wire.Fault{}
	r.budget.Begin(nil)
	r.parter.reset()
}

const (
	recordBytes   = 24
	envelopeBytes = 24
	scopeBytes    = 32
	serviceBytes  = 72
)

// capBytes is the memory that r holds already.
func (r *Request) capBytes() int {
	return cap(r.uncompressed) + cap(r.Logs.Buf) + serviceBytes*cap(r.Logs.Services) + recordBytes*cap(r.records) +
		envelopeBytes*cap(r.resources) + scopeBytes*cap(r.scopes) + 8*cap(r.extras) + r.parter.capBytes()
}

func (r *Request) detail(f wire.Fault) string {
	switch f.Reason {
	case wire.ReasonInvalidTraceID:
		return fmt.Sprintf("%s has %d bytes, want 16 or none", f.What, f.Got)
	case wire.ReasonInvalidSpanID:
		return fmt.Sprintf("%s has %d bytes, want 8 or none", f.What, f.Got)
	case wire.ReasonInvalidUTF8:
		return f.What + " is not valid UTF-8"
	case wire.ReasonRecordTooLarge:
		return fmt.Sprintf("%s has %d bytes, want <= %d", f.What, f.Got, r.maxBytes)
	}
	return f.What
}

// reject counts a record as refused.
func (r *Request) reject(f wire.Fault) {
	r.Rejects.Records++
	r.changed = true
	e := wire.InvalidError{Reason: f.Reason}
	if r.Rejects.First == nil {
		e.Detail = fmt.Sprintf("log record %d of the request: %s", len(r.records)+r.Rejects.Records, r.detail(f))
	}
	r.Rejects.Note(1, e)
}
