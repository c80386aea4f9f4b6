package component

import (
	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/otlp"
	"github.com/vedette-io/vedette/ingest/otlplogs"
	"github.com/vedette-io/vedette/ingest/otlptraces"
	"github.com/vedette-io/vedette/ingest/wire"
)

// Formats are those in which the exporters write.
func Formats() *wire.Formats {
	f := &wire.Formats{}
	f.Register(func() wire.Decoder { return otlp.New(otlp.DefaultConfig()) }, buffer.FormatOTLP, buffer.FormatOTLPSnappy)
	otlptraces.Register(f)
	otlplogs.Register(f)
	return f
}
