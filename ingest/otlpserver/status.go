package otlpserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/door"
)

// requestError refuses a request before the door sees it.
type requestError struct {
	http       int
	grpc       codes.Code
	retryAfter time.Duration
	text       string
}

func (e *requestError) Error() string { return e.text }

func refuse(httpCode int, grpcCode codes.Code, format string, args ...any) error {
	return &requestError{http: httpCode, grpc: grpcCode, text: strings.ToValidUTF8(fmt.Sprintf(format, args...), "\uFFFD")}
}

// reply is how a request is answered.
type reply struct {
	http       int
	grpc       codes.Code
	retryAfter time.Duration      // 0 says nothing
	text       string             // of a failure
	partial    *door.PartialError // what was refused of a request that was taken
}

// replyTo maps the outcome of a request.
func replyTo(err error) reply {
	var (
		refused *requestError
		partial *door.PartialError
	)
	switch {
	case err == nil:
		return reply{http: http.StatusOK, grpc: codes.OK}
	case errors.As(err, &refused):
		return reply{http: refused.http, grpc: refused.grpc, retryAfter: refused.retryAfter, text: refused.text}
	case errors.As(err, &partial):
		return reply{http: http.StatusOK, grpc: codes.OK, partial: partial}
	}
	r := reply{text: validText(err)}
	r.http, r.retryAfter = door.Status(err)
	r.grpc = grpcCode(r.http, err)
	if r.http == http.StatusInternalServerError {
		// Of OTLP's clients only those that get one of a few codes try again, and
		// nothing is wrong with the data.
		r.http = http.StatusServiceUnavailable
	}
	return r
}

// grpcCode returns the code for an error of the door with an HTTP status.
func grpcCode(status int, err error) codes.Code {
	switch status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		// RESOURCE_EXHAUSTED, which is gRPC's own code for what is too large, makes
		// some clients try again for ever.
		return codes.InvalidArgument
	case http.StatusUnsupportedMediaType:
		return codes.Unimplemented
	case http.StatusTooManyRequests:
		return codes.ResourceExhausted
	case http.StatusServiceUnavailable:
		switch {
		case errors.Is(err, buffer.ErrClosed):
			return codes.Unavailable
		case errors.Is(err, context.DeadlineExceeded):
			return codes.DeadlineExceeded
		}
		return codes.ResourceExhausted
	case http.StatusInternalServerError:
		return codes.Unavailable
	}
	return codes.Canceled
}

// status returns the message that answers a failure.
func (r *reply) status() *spb.Status {
	return &spb.Status{Code: int32(r.grpc), Message: r.text}
}
