// Package vfs is the file system as Vedette's storage sees it: few operations,
// each with a stated durability, so that the same code runs on the operating
// system's files, on a memory file system that can lose power, and under
// injected faults.
//
// What flows in and out: whoever keeps files takes an [FS] and passes paths to
// it. [OS] is the real thing. [Mem] keeps files in memory and [Mem.CrashClone]
// returns them as they could look after a power failure. [Faulty] wraps any FS
// and lets a test fail operations: a full disk, an fsync that returns EIO, a
// short write.
//
// # Durability rules
//
// A crash may lose everything that these rules do not name, in any order.
//
//   - Bytes are durable once File.Sync has returned nil after they were written.
//   - A new, renamed or removed name is durable once FS.SyncDir has returned nil
//     for the directory (for a rename across directories: either) afterwards.
//   - Rename replaces its target atomically: after a crash the name holds either
//     the old file or the new one.
//   - MkdirAll is durable when it returns; it syncs the parents of what it makes.
//   - After File.Sync has failed, the bytes written since the last successful
//     Sync are lost, whatever a later Sync returns: the kernel may have dropped
//     the dirty pages and marked them clean. Write the data again, elsewhere.
//
// So a file or directory is published in four steps: write it under a
// temporary name, Sync the files (and SyncDir the new directory), Rename, SyncDir
// the parent. [WriteFile] does that for small files.
//
// # Mappings
//
// [Map] gives read-only bytes, by mmap where the FS can. Bytes of a Mapping
// must not be used after its Close. Truncating a mapped file, or a disk that
// fails to read a mapped page, raises SIGBUS in the reader; map files that are
// finished.
package vfs
