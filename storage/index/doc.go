// Package index finds the series of one time window: by identity when samples
// arrive, by label matchers when a query asks.
//
// A series is a reference: a number that counts up from 0 in the order in which
// series first appear in the window. A label pair (name and value together) is
// numbered the same way. Both numberings are what blocks store, so an index is
// rebuilt from the blocks of its window by adding their pairs and series in
// order.
//
//	label bytes ─ hash ─► slots ─► ref ─► pair ids of the series ─► pair bytes
//	                                ▲
//	matchers ─► name ─► pairs ─► postings (ascending refs)
//
// All arrays are dense and free of pointers where they are long, so that the
// garbage collector has nothing to walk in half a million series.
//
// Index has no locks: one writer at a time, and readers only while nobody
// writes. The window that owns it holds the lock.
package index
