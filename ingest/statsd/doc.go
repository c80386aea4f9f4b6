// Package statsd takes StatsD and DogStatsD events in, adds them up, and writes
// the sums as series at every flush.
//
//	UDP, unixgram ─ packets ─┐
//	unix, TCP ─ frames, lines ┴─► lines ─parse─► table: one entry per series ─flush─► door.Entry
//
// Counters become cumulative with a start timestamp, gauges keep their last
// value, sets are counted per interval, and timers, histograms and
// distributions become summaries, classic or native histograms. A series is
// written at every flush, whether it had events or not, until it has had none
// for ttl; then a staleness marker ends it.
//
// One goroutine reads each socket or connection and one flushes; the table is
// behind one lock, which a flush holds for a bounded number of series at a time.
// In the steady state an event allocates nothing: the raw bytes of name and tags
// are looked up by their hash, and only a new spelling is parsed.
//
// Invariants: the state of cumulative series is changed by events alone, never
// by a flush, so a flush that the door refuses loses points in time but no
// counts. Memory is bounded by max_series, by the sizes of packets, and by
// maxSketchBytes and maxSetMembers over all series.
package statsd
