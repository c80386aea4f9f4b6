package wire

import (
	"slices"

	"github.com/vedette-io/vedette/ingest/buffer"
)

// Formats knows how the payloads of each format are decoded. It is filled before
// anything decodes and not changed afterwards.
type Formats struct{ kinds []kind }

type kind struct {
	formats []buffer.Format
	make    func() Decoder
}

// Register says that a decoder of the kind that newDecoder makes understands the
// given formats.
func (f *Formats) Register(newDecoder func() Decoder, formats ...buffer.Format) {
	f.kinds = append(f.kinds, kind{formats, newDecoder})
}

// Decoders holds one decoder of every kind, made when it is first needed. It is
// used by one goroutine at a time.
type Decoders struct {
	formats *Formats
	made    []Decoder
}

// Decoders returns an empty set.
func (f *Formats) Decoders() *Decoders {
	return &Decoders{formats: f, made: make([]Decoder, len(f.kinds))}
}

// For returns the decoder of a format; a format that nobody has registered is a
// *SyntaxError.
func (d *Decoders) For(format buffer.Format) (Decoder, error) {
	for i, k := range d.formats.kinds {
		if !slices.Contains(k.formats, format) {
			continue
		}
		if d.made[i] == nil {
			d.made[i] = k.make()
		}
		return d.made[i], nil
	}
	return nil, &SyntaxError{Message: MessageName(format), Detail: "unknown format"}
}
