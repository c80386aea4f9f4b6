// Package block is the container that the store's immutable blocks share: named
// sections of checksummed pages in one file, published by one rename.
//
//	Writer: Create ─ Page* ─ Close(meta)      temp directory, fsync, rename
//	Reader: Open ─ Meta, Pages, Page ─ Close  mapping, checksum on first use
//
// What the sections hold is for the packages above. The bytes are described in
// docs/format/block.md; format.go is the only file that knows their offsets.
//
// Flushes, Source and Shared are what the stores of these packages have in common
// besides: how blocks are named and ordered, which offsets of a log they cover, who
// has one open, and how one is linked, set aside and dropped.
//
// A Writer is used by one goroutine, a Reader by many.
package block
