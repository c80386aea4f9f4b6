package forward

import (
	"context"
	"fmt"
	"time"

	"github.com/vedette-io/vedette/ingest/buffer"
)

// Destination is what a Forwarder ships to. Send is called by several goroutines,
// one for each partition of a topic.
type Destination interface {
	// Choose returns how many of the first messages are sent together, at least one.
	Choose(messages []buffer.Message) int

	// Send returns nil once the batch is acknowledged. Errors are a *RetryError, for
	// which it is called again with the same batch; a *PermanentError; a *HeldError; a
	// *CutError; or the context's. Any other is as a *RetryError.
	Send(ctx context.Context, b *Batch) (Receipt, error)

	// Close releases connections.
	Close() error
}

// Receipt is what a destination says of a batch that it has taken.
type Receipt struct {
	Refused int64  // samples, spans or log records that it left out
	Message string // why
}

// RetryError says that a batch is to be sent again, later.
type RetryError struct {
	Reason string        // short, for a metric: "network", "503"
	After  time.Duration // that the destination has asked for; 0 if it did not
	Unsent bool          // nothing of the batch has left
	Err    error
}

func (e *RetryError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *RetryError) Unwrap() error { return e.Err }

// PermanentError says that the same batch will never be taken.
type PermanentError struct {
	Status int // of HTTP; 0 if there is none
	Reason string
}

func (e *PermanentError) Error() string {
	if e.Status == 0 {
		return "refused: " + e.Reason
	}
	return fmt.Sprintf("refused with status %d: %s", e.Status, e.Reason)
}

// HeldError says that the destination has the batch's first messages already, up to
// and with the one at offset UpTo, and wants the others without them.
type HeldError struct{ UpTo int64 }

func (e *HeldError) Error() string {
	return fmt.Sprintf("the destination has everything up to offset %d", e.UpTo)
}

// CutError says that the destination wants the batch in two: the messages up to and
// with the one at offset At first.
type CutError struct{ At int64 }

func (e *CutError) Error() string {
	return fmt.Sprintf("the destination wants what is behind offset %d by itself", e.At)
}
