// Package report runs the benchmark scenarios against each peer and renders
// what was measured.
//
// One run of one peer in one scenario:
//
//	start on an empty directory
//	 └ first scrape of every target   ─ settle, flush, settle ─► CPU of creation
//	   └ the other scrapes            ─ settle, flush, settle ─► CPU of steady ingest, memory
//	     └ queries, count, size of the store
//	       └ two more scrapes, kill -9 at the last acknowledgement
//	         └ restart ─► time until it answers, samples lost
//
// OTLP is sent to one start of each peer in phases, each with a settling of its
// own. Kafka is compared with the embedded buffer on the same load, and is filled
// with an hour's samples for a store to catch up with.
//
// Settling means: until the process uses less than 2% of a core over eight
// seconds, twice, but no longer than a bound; so background merging is charged to the
// peer that does it. Absolute figures move with the machine; the ratios within
// one run are what counts.
package report
