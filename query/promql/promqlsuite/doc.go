// Package promqlsuite holds the tests that any store behind query/promql must
// pass: the reference engine's own test suite, and a differential test against
// the reference storage. It is imported by tests alone.
//
//	RunReference ─► Backend ◄─ RunDifferential ─► Prometheus's tsdb
//	                   │
//	          Sink (append batches), Store (read)
//
// Memory is the naive model: maps and slices, the simplest store that passes.
package promqlsuite
