// Package encoding turns columns of floats, times, unsigned integers and native
// histograms into bytes and back.
//
// A chunk is up to MaxValues values of one series, typically 1 to 120, and can
// be decoded alone. Its Codec and its number of values are stored outside, by
// the block, so that a payload repeats neither. Every column goes the same way:
//
//	floats ── scale ──► integers ── shift, differences ──► residuals ── coder ──► bytes
//	          decimal,              power of two,                       packed, class,
//	          binary, bits          order 0, 1 or 2                     sparse, varint
//
// Append functions choose the smallest form at bounded cost and only grow dst;
// Decode functions read nothing outside src, allocate in proportion to the
// count they are given, and answer bad bytes with an error that wraps
// ErrCorruption. Floats round-trip bit for bit. The bytes are described in
// docs/format/encoding.md.
//
// The package has no goroutines, no locks and no mutable state; a Scratch
// belongs to one goroutine at a time.
package encoding
