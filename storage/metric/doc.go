// Package metric is the column store for time series: floats, native
// histograms, start timestamps, exemplars and metadata of many tenants.
//
// A tenant's data lies in windows of time (24 h by default). A window has an
// index of its series, a head and blocks:
//
//	AppendMetrics ─► table (rows as they arrive, by reference)
//	                   │ flush: sort by counting, encode columns
//	                   ▼
//	                 block ─ block ─ block ─ …      merge: eight of a level make one of the next
//
//	Select ─► index ─► references ─► blocks by flush number, then tables ─► columns of one series
//
// What holds:
//
//   - The log that feeds AppendMetrics is the write-ahead log. Durable says up
//     to where it is no longer needed. Every block carries the offsets whose
//     data it has, and a window skips what its blocks hold, so a replay from any
//     committed offset doubles nothing and misses nothing.
//   - A sample is found from the moment AppendMetrics returns: in the table,
//     then in the table that is being flushed, then in the block. The switch from
//     one to the next happens under the window's lock.
//   - Of two samples with the same series and timestamp the first one counts:
//     tables refuse the second where they see it, and flush, merge and read
//     prefer the lower flush number.
//   - A block that is damaged is set aside (renamed, logged, counted); the rest
//     keeps serving.
//
// Files are described in docs/format/metric.md.
package metric
