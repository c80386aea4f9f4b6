// Package signal holds the column batches in which telemetry moves between
// packages: decoded once from a wire format, appended to the store as columns,
// never as one struct per sample.
//
// A batch is filled by a decoder in ingest, handed to a store, and then reset
// and reused by its owner. It has no goroutines and no locks.
package signal
