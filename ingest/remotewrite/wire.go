package remotewrite

import (
	"errors"
	"fmt"

	"github.com/vedette-io/vedette/ingest/wire"
)

// errNotContiguous makes the fast path of a 1.0 series start over.
var errNotContiguous = errors.New("labels are not contiguous")

// syntax builds the error for the bytes at offset off of the body.
func (r *Request) syntax(off int, format string, args ...any) error {
	return &wire.SyntaxError{Message: wire.MessageName(r.format), Offset: off, Detail: fmt.Sprintf(format, args...)}
}
