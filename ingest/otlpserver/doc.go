// Package otlpserver takes OTLP metrics, traces and logs in, over gRPC and over
// HTTP, and writes them through a door.
//
//	gRPC  :4317  HTTP/2 ─┐                                    ┌─► Entry.Write, as it came
//	HTTP  :4318  1.1, 2 ─┼─ token, ready, tenant ─ ReadBody ──┤        │ protobuf
//	mounted elsewhere   ─┘                        (limits)    └ JSON ──┘
//	answer ◄── partial success, retry delay ◄─────────────────── error
//
// The payload that goes to the buffer is the request's
// message, byte for byte, unless it came as JSON. Nothing
// here looks inside.
//
// gRPC is spoken on top of net/http's HTTP/2 server rather than by
// google.golang.org/grpc: that one reads a whole message, up to the largest one
// allowed on every stream, before anybody can be asked whether there is memory
// for it. Here a message is read as any other body: its length is known from its
// prefix, its memory and what it decompresses to are charged to the door's
// budget before they are taken, and a client that does not send holds nothing
// but its stream. One unary method and the health check need little more than
// the message prefix and the trailers.
//
// Errors follow the OTLP specification: what a client should send again is
// answered with RESOURCE_EXHAUSTED and a RetryInfo, UNAVAILABLE, or 429 and 503
// with Retry-After; what it should not with INVALID_ARGUMENT or 4xx; and a
// request of which a part was refused succeeds with a partial_success.
package otlpserver
