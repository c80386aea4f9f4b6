package wire

import (
	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/internal/signal"
)

// Limits bound what a decode accepts. A zero field is no limit, and a replay
// uses none of them.
type Limits struct {
	MaxDecodedBytes    int   // size of the uncompressed body
	MaxLabels          int   // labels of a series, the name included
	MaxLabelNameBytes  int   // length of a label's name
	MaxLabelValueBytes int   // length of a label's value
	MaxTime            int64 // newest accepted timestamp, unix milliseconds; a span that begins later is marked

	// Spans beyond these are cut rather than refused.
	MaxAttrs     int // attributes of a span, event, link, resource or scope
	MaxEvents    int // of a span
	MaxLinks     int // of a span
	MaxAttrBytes int // length of an attribute's value
	MaxSpanBytes int // size of a span's message

	// MaxLogBytes is the largest log record, with the resource and the scope that
	// it needs beside it; larger ones are refused.
	MaxLogBytes int

	// KeepTrace says whether a trace's spans are wanted; nil wants all.
	KeepTrace func(id signal.TraceID) bool

	// Reserve is asked before the decode takes more memory; an error ends the
	// decode and is returned as it is. What was granted counts until the decoder
	// is reset.
	Reserve func(sizeBytes int) error
}

// Decoder turns payloads into batches. It is meant to be reused and is used by
// one goroutine at a time.
type Decoder interface {
	// Decode decodes a payload of the given format. The error is a *SyntaxError, a
	// *SizeError or what Limits.Reserve returned, and then nothing of the payload
	// may be used. A nil error says that the payload was well-formed; what of
	// it was left out is told by Result. The payload must not change before Parts has
	// returned; the batch of Result does not alias it.
	Decode(format buffer.Format, payload []byte, limits Limits) error

	// Result returns what the last Decode has made; it is valid until Reset.
	Result() *Decoded

	// Parts divides what Decode has accepted. payload is what was decoded; it
	// becomes a part's payload as it is where nothing has to be taken out of it.
	// Parts without content are left out. They are valid until Reset.
	Parts(payload []byte, o PartOptions) ([]Part, error)

	// Reset empties the decoder for reuse. Buffers that one large payload has
	// blown up are let go.
	Reset()
}

// Decoded is what a payload held: metrics, spans or log records, by its format.
type Decoded struct {
	Metrics signal.Metrics
	Spans   signal.Spans
	Logs    signal.Logs
	Rejects Rejects // what was left out of them

	Cut     int // spans of which something was cut off
	Skewed  int // spans whose clock was found to be wrong
	NotKept int // spans that Limits.KeepTrace did not want
}

// PartOptions says how to divide.
type PartOptions struct {
	Partitions int // of the topic
	MaxBytes   int // largest payload that the buffer takes; 0 is no limit

	// Plain asks for payloads that others can read, where the format has a
	// compressed form for ourselves: the buffer compresses.
	Plain bool
}
