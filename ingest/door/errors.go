package door

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/tenant"
)

// PartialError says that a part of a request was refused and the rest written.
type PartialError struct {
	Refused int // samples, exemplars, metadata entries, spans and log records
	Samples int // of Refused, floats and histograms, or spans, or log records
	First   string
}

func (e *PartialError) Error() string {
	return fmt.Sprintf("write: %d refused, the rest is written; first: %s", e.Refused, e.First)
}

// OverloadError says that the door has no room for the request now.
type OverloadError struct {
	What       string
	RetryAfter time.Duration
}

func (e *OverloadError) Error() string {
	return fmt.Sprintf("write: %s; try again in %s", e.What, e.RetryAfter)
}

// RateError says that somebody sends more samples, spans or log records than
// allowed.
type RateError struct {
	Who, Verb  string // as in `tenant "a"`, "sends"
	What       string // "samples", "spans" or "log records"
	PerSecond  float64
	RetryAfter time.Duration
}

func (e *RateError) Error() string {
	return fmt.Sprintf("write: %s %s more than %g %s per second; try again in %s",
		e.Who, e.Verb, e.PerSecond, e.What, e.RetryAfter.Round(time.Millisecond))
}

// MediaError says that a request is in a form that is not understood.
type MediaError struct{ Header, Got, Want string }

func (e *MediaError) Error() string {
	return fmt.Sprintf("write: %s: got %.100q, want %s", e.Header, e.Got, e.Want)
}

// statusClientClosed is the customary code for a client that has gone.
const statusClientClosed = 499

// Status maps an error of an Entry to an HTTP status and, where trying again
// makes sense, the time after which.
func Status(err error) (code int, retryAfter time.Duration) {
	var (
		partial  *PartialError
		syntax   *wire.SyntaxError
		size     *wire.SizeError
		unnamed  *tenant.InvalidError
		media    *MediaError
		body     *http.MaxBytesError
		rate     *RateError
		overload *OverloadError
		full     *buffer.FullError
	)
	switch {
	case err == nil:
		return http.StatusNoContent, 0
	case errors.As(err, &partial), errors.As(err, &syntax), errors.As(err, &unnamed):
		return http.StatusBadRequest, 0
	case errors.As(err, &size), errors.As(err, &body), errors.Is(err, buffer.ErrTooLarge):
		return http.StatusRequestEntityTooLarge, 0
	case errors.As(err, &media):
		return http.StatusUnsupportedMediaType, 0
	case errors.Is(err, errCut):
		return http.StatusConflict, 0
	case errors.As(err, &rate):
		return http.StatusTooManyRequests, rate.RetryAfter
	case errors.As(err, &overload):
		return http.StatusServiceUnavailable, overload.RetryAfter
	case errors.As(err, &full):
		return http.StatusServiceUnavailable, max(full.RetryAfter, time.Second)
	case errors.Is(err, buffer.ErrClosed):
		return http.StatusServiceUnavailable, time.Second
	case errors.Is(err, context.Canceled):
		return statusClientClosed, 0
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable, time.Second
	}
	return http.StatusInternalServerError, 0
}
