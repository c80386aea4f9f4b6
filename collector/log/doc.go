// Package log tails files and writes their lines as OTLP log records.
//
//	globs ─scan─► files (device, inode, first and last bytes) ─visit─► window of bytes
//	                    ▲                                                  │ lines, partial lines,
//	                    │ offsets                                          ▼ groups of lines
//	checkpoint ◄─ acknowledged ◄─ Writer ◄─ request (OTLP) ◄─────────── records
//
// One goroutine does everything, so that an offset moves only after the Writer has
// acknowledged what lies below it: it looks at the files in turn, reads at most one
// window of each, and hands the requests on. A Writer that is away or refuses
// makes it wait: nothing is dropped, files stay open and are read later.
//
// Of a file nothing is kept in memory but its offset. A visit begins where the
// last whole record ended, and what is not whole yet (a line without its end, a
// stack trace that may go on) is read again at the next one. Memory is a window and
// a request, however many files there are, and a restart goes on exactly there.
//
// A file is its device and inode, together with sums of its first bytes and of
// those before its offset. So a file that was renamed is read to its end under its
// old name, one that was truncated or whose inode has become another file's is
// begun anew, and of one that was copied and truncated the copy is read to its
// end first.
//
// Invariants: every line is written at least once if its file can still be read
// when its turn comes; after Run has ended without a Writer that refused, exactly
// once. After a kill, what was acknowledged since the last checkpoint comes
// again. Records of one file keep their order.
package log
