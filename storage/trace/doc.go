// Package trace is the column store for spans of many tenants.
//
// A tenant has a head and blocks, both made of row groups (package rows):
//
//	AppendSpans ─► head (rows.Table)
//	                │ flush: every 128k spans, 32 MB or minute
//	                ▼
//	              level 0 ─ level 0 ─ …     merge, once: blocks of 1.5 million spans, traces joined
//	                                 └────► level 1 ─ level 1 ─ …
//
//	View ─► head, the head being flushed, blocks ─► row groups by time, traces by id
//
// What holds:
//
//   - The log that feeds AppendSpans is the write-ahead log. Durable says up to
//     where it is no longer needed. Every block carries the offsets whose spans
//     it has, and a tenant skips what its blocks hold, so a replay from any
//     committed offset doubles nothing and misses nothing.
//   - A span is found from the moment AppendSpans returns: in the head, then in
//     the head that is being flushed, then in blocks. Every switch from one to
//     the next happens under the tenant's lock, and a View sees one side of it.
//   - Blocks never change. A block that has been merged away, or is past its
//     retention, is deleted when the last View that reads it closes.
//   - Retention counts from arrival, not from the spans' own times, so that old
//     traces can be loaded, and blocks are ordered by arrival.
//   - A block that is damaged is set aside (renamed, logged, counted); the rest
//     keeps serving.
//
// Files are described in docs/format/trace.md.
package trace
