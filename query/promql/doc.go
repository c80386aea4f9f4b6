// Package promql runs PromQL over the metric store.
//
//	HTTP API ─► Engine ──► Gate (fair queue) ──► activity log ─► reference engine
//	                                                                   │ Select(hints, matchers)
//	                Store ◄── Querier, ChunkQuerier, ExemplarQuerier ◄─┘
//	                  │
//	                  └─► SeriesSet ─► Samples (columns) ─► columnIterator ─► one sample at a time
//
// In come query strings and times, out go values of the reference engine's
// types. The store is reached through the interfaces of this package, which it
// satisfies unknowingly; the tenant travels in the context (internal/tenant).
//
// Invariants:
//   - A series' samples are decoded in one batch when its iterator is made, into
//     buffers that the iterator it replaces has left behind; nothing is decoded
//     for a lookup that needs labels alone.
//   - Every decoded byte is charged to the query's Budget; a query over its limit
//     ends with a *LimitError, never by taking more.
//   - A query whose context has ended decodes no further series.
//   - No more than Config.MaxConcurrent queries run; those that wait do so in one
//     line per tenant, and lines take turns.
//   - Close of a querier closes every series set that it has opened.
//
// Engine is the seam for a columnar executor: it decides per query who runs it,
// and today always picks the reference engine.
package promql
