// Package http1 reads HTTP/1.x off a connection in user space, where the
// kernel's own parser cannot, as inside TLS.
//
//	Piece ─► half (one per direction: lines, lengths, chunks) ─► exchange ─► Request
//
// A start line of a request opens an exchange and queues it; a start line of a
// response takes the oldest; the end of the response's body ends it. Bytes that
// were not copied pass as long as they lie within a body; where they hide the end
// of a message, the parser waits for the next piece that begins like one.
//
// Invariants: see package protocol. A connection costs at most 1 kB for lines
// and maxQueue exchanges of at most 600 bytes.
package http1
