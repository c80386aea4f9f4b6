// Package api serves the Prometheus HTTP API, remote read and federation over
// the metric store.
//
//	request ─► metrics, span ─► tenant ─► gate ─► handler ─► query/promql ─► store
//
// Formats, parameters and error texts are those of Prometheus: most endpoints
// are its own handlers (web/api/v1) over our engine and queryable, and what
// they cannot know of tenants, cardinality, metadata and snapshots is answered
// here in the same form. docs/http-api.md lists every endpoint.
//
// Invariants:
//   - Every request belongs to one tenant, taken from its header, and sees no
//     other's data.
//   - Every endpoint that reads from the store waits for its turn in the engine's
//     gate and runs on a budget and a timeout; PromQL queries do so in the engine.
//   - The request's context ends the work when its client is gone.
//
// The package starts no goroutine.
package api
