// Package stream is the feature stream: it follows what TCP connections of
// certain protocols carry, and counts their requests.
//
//	tracepoints ─► classify by the first bytes ─► head and tail of each I/O ─► ring buffer
//	Run         ─► Table: a protocol.Parser per connection ─► Request ─► histograms, feature.Call
//	Collect     ─► fold processes into services ─► rpc_*, http_*, db_*, messaging_*
//
// The ring is read in batches, for wake-ups are what it costs. Table is also fed
// by what sees connections inside TLS.
//
// Invariants: connections and series are bounded, and what finds no room is
// counted; a connection that is not of a protocol that is followed is forgotten
// after its first I/Os; bytes that were not seen are told to the parser, which
// finds its place again; in steady state a request allocates nothing.
package stream
