package traceapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/vedette-io/vedette/query/promql"
	"github.com/vedette-io/vedette/query/traceql"
)

// statusClientGone is what is noted when the client left before its answer.
const statusClientGone = 499

// Error is an error with the status that it is answered with.
type Error struct {
	Code int
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the error below.
func (e *Error) Unwrap() error { return e.Err }

// BadRequest returns an error that is answered with 400.
func BadRequest(format string, args ...any) error {
	return &Error{Code: http.StatusBadRequest, Err: fmt.Errorf(format, args...)}
}

// NotFound returns an error that is answered with 404.
func NotFound(format string, args ...any) error {
	return &Error{Code: http.StatusNotFound, Err: fmt.Errorf(format, args...)}
}

// Status returns the status that err is answered with.
func Status(err error) int {
	var own *Error
	var queue *promql.QueueError
	var query *traceql.ParseError
	var busy interface{ Busy() bool }      // of the engine: a later try may succeed
	var bad interface{ BadRequest() bool } // the asker's fault
	switch {
	case errors.As(err, &own):
		return own.Code
	case errors.As(err, &query), errors.As(err, &bad) && bad.BadRequest():
		return http.StatusBadRequest
	case errors.As(err, &queue), errors.As(err, &busy) && busy.Busy():
		return http.StatusTooManyRequests
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable
	case errors.Is(err, context.Canceled):
		return statusClientGone
	case promql.IsLimit(err):
		return http.StatusUnprocessableEntity
	}
	return http.StatusInternalServerError
}
