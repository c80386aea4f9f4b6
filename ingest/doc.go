// Package ingest moves telemetry from the buffer into a store.
//
// A door (ingest/door) decodes and validates a request, appends its payload to
// the buffer with the decoded batch attached as a Delivery, and may then tell
// its client that the data is safe. The Consumer reads the buffer in order, one
// goroutine per partition, and hands every batch with its position to a Sink:
//
//	door ──payload + Delivery──► buffer ──► Consumer ──batch, offset──► Sink
//	  ▲                                        │  ▲                        │
//	  └──────────── AppendResult ──────────────┘  └── Durable: commit ─────┘
//
// A message that comes back from disk has no Delivery; its payload is decoded
// again, without limits, and yields the same samples. The buffer is the store's
// write-ahead log, so an offset is committed only after the Sink has called
// everything below it durable, and reading begins where that ends. A payload
// that cannot be decoded is set aside and named; the rest goes on.
//
// A graceful stop is: close the doors, Drain, flush the store, Commit, and then
// end the context of Run.
package ingest
