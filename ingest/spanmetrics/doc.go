// Package spanmetrics counts spans as they are taken in and writes the counts as
// series: requests, errors and durations by service and operation, and the graph
// of which service calls which.
//
//	consumer ─ batch of a partition ─► shard: counts since the last flush ─┐
//	                                   └ pairs: spans that wait for the    │ flush
//	                                     other side of their edge          ▼
//	door.Entry ◄─ remote write, per tenant ◄─ registry: cumulative series, limits, staleness
//
// A partition's batches are observed in order by one goroutine, and a trace's
// spans are all in one partition, so that a shard sees both sides of an edge. A
// shard is locked once for a batch and once for a flush; the registry, which all
// shards share, is asked only about label sets that a shard has not seen.
// In the steady state a span allocates nothing.
//
// Invariants: a series' state is changed by a flush that drains the shards, never
// by the writing, so what the door refuses loses points in time but no counts.
// Memory is bounded: label sets by MaxSeries for each tenant, waiting spans by
// MaxPending for each partition and tenant, names by maxNames.
// Nothing is durable: a restart begins at zero with new start timestamps, a
// counter reset to every query.
package spanmetrics
