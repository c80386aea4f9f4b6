package vfs

import (
	"os"
	"syscall"
)

// syncData uses fdatasync: it writes the size with the bytes but spares the
// journal a commit for the modification time alone.
func syncData(f *os.File) error { return control(f, syscall.Fdatasync) }
