// Package traces answers TraceQL over the columns of stored spans.
//
//	request ─► Engine ─► turn (gate), time, bytes ─► View: row groups by time
//	   │
//	   └─ traceql.Parse ─► plan: the condition that every span of an answer meets
//	                         │
//	       per Space         ▼            per Group
//	       compiled once ─► predicate ─► prune (bloom, minimum, maximum, sets)
//	                                      │
//	                                      ▼ bitmap of rows, && and || of bitmaps
//	          search: traces of the rows, newest first ─► traceql.Evaluator
//	          metrics: bins, dense ids of labels ─► traceql.Accumulator
//
// A condition is evaluated as high up as it goes: once per resource, once per
// shape (name, kind, instrumentation), once per code of a dictionary that occurs,
// else in a loop over a column's values.
//
// What holds:
//
//   - The evaluator of package traceql, which sees whole traces, decides which
//     traces a search finds. Columns only choose candidates, and choose all.
//   - A metrics query is computed from columns alone only where those say exactly
//     what the evaluator would; otherwise from whole traces.
//   - A span that was stored twice counts once.
//   - A View is open for one question. Nothing of it outlives the answer.
//   - Every goroutine ends before the method that began it returns.
package traces
