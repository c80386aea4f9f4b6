// Package traceql finds traces with TraceQL.
//
// Parse turns the text of a query into a Query: a Pipeline of stages that select
// spans of one trace at a time and, for a metrics query, a Metrics stage that
// makes series of them. Every error is a *ParseError that points at a place in
// the text. Query.String writes canonical TraceQL; parsing that gives an equal
// Query.
//
//	text ── Parse ──► Query ── Evaluator (one whole trace at a time) ──► []Set
//	                    │                                                  │
//	                    └── column engine ── batches of observations ──► Accumulator ──► series
//
// The Evaluator is the reference: it sees all spans of a trace at once as a
// Trace, which is prepared once per trace (parents, children, nested sets), so
// that every stage costs time in proportion to the spans. An engine that
// evaluates columns must give the same answers. Accumulators turn observations
// (time, value, labels) into series; both feed the same ones.
//
// Querier is what APIs ask; an engine over stored spans implements it.
//
// Invariants: a Query is not changed after Parse and may be shared between
// goroutines. Evaluators, traces and accumulators belong to one goroutine.
package traceql
