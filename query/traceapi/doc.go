// Package traceapi holds what the HTTP APIs for traces share: those of Tempo,
// Jaeger and Zipkin in the folders beside it.
//
//	request ─► metrics, span ─► tenant ─► gate, timeout ─► handler ─► traceql.Querier
//	                                                          │
//	              answer ◄─ gzip ◄─ OTLP JSON, UI JSON, … ◄─── signal.Spans
//
// It knows how to run a handler (Base, Route), how errors become statuses, how
// ids and attribute values are read and written, how a trace becomes OTLP JSON,
// how text is quoted in TraceQL, and where the edges of the service graph come
// from (Dependencies).
//
// Invariants:
//   - Every request belongs to one tenant, taken from its header.
//   - Every route that reads spans waits for its turn in the gate that it was
//     given and runs under the timeout; the client's departure ends the work.
//   - An answer that leaves something out says so in the header
//     X-Vedette-Partial, beside what the API itself has for that.
//   - Nothing that a client sent becomes part of a TraceQL query unquoted.
//
// The package starts no goroutine.
package traceapi
