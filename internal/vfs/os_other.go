//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package vfs

import (
	"io"
	"os"
)

// lockFile does nothing: this system has no flock, so nothing guards a
// directory against a second process.
func lockFile(*os.File) error { return nil }

func mapOS(f *os.File, size int) (*Mapping, error) {
	data := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, int64(size)), data); err != nil {
		return nil, err
	}
	return &Mapping{data: data}, nil
}
