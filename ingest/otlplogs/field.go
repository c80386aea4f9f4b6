package otlplogs

import (
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/signal"
)

// Tags of fields: the number, shifted, and the wire type.
const (
	asVarint  = wire.Varint
	asFixed64 = wire.Fixed64
	asBytes   = wire.Bytes
	asFixed32 = wire.Fixed32
)

func rangeOf(off, end int) signal.ByteRange {
	return signal.ByteRange{Off: uint32(off), Len: uint32(end - off)}
}

// malformed builds the error for the field at b[i:], which wire.Tagged has refused.
func (r *Request) malformed(b []byte, i int, what string) error {
	return r.syntax(i, "%s: %s", what, wire.TaggedFault(b, i))
}

// unknown passes over a field that is no known one; one whose number is known, up
// to the given one, has the wrong wire type.
func (r *Request) unknown(i int, what string, tag, known uint64) error {
	if tag>>3 <= known {
		return r.syntax(i, "%s: field %d has wire type %d", what, tag>>3, tag&7)
	}
	return nil
}
