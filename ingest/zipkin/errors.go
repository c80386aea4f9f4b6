package zipkin

import (
	"strconv"
	"strings"

	"github.com/vedette-io/vedette/ingest/wire"
)

// FormatError says why a request was refused, in the words of Zipkin's server.
type FormatError struct {
	Format string // "json", "proto3" or "TBinary"
	Index  int    // of the span in the request; -1 if it is none's fault
	Field  string // of the span, or empty
	Detail string

	reason wire.Reason
}

func (e *FormatError) Error() string {
	var b strings.Builder
	b.WriteString(e.Detail)
	if e.Index >= 0 {
		b.WriteString(" at $[" + strconv.Itoa(e.Index) + "]")
		if e.Field != "" {
			b.WriteString("." + e.Field)
		}
	}
	b.WriteString(" reading List<Span> from " + e.Format)
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

// Unwrap makes the door answer as it does to every request that is not
// understood.
func (e *FormatError) Unwrap() error {
	return &wire.SyntaxError{Message: "List<Span>", Detail: e.Detail}
}
