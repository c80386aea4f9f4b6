package block

import (
	"errors"
	"io"
	"sync/atomic"

	"github.com/vedette-io/vedette/internal/vfs"
)

// Shared counts who uses an open block. The last one to unpin it closes the file,
// and deletes the directory if the block was dropped meanwhile. Whoever opened the
// block has pinned it.
type Shared struct {
	fs   vfs.FS
	dir  string
	file io.Closer

	others  atomic.Int32 // pins but for the first
	dropped atomic.Bool
}

// Share begins with one pin of the block in dir, which is open in file.
func (s *Shared) Share(fs vfs.FS, dir string, file io.Closer) { s.fs, s.dir, s.file = fs, dir, file }

// Dir returns the block's directory.
func (s *Shared) Dir() string { return s.dir }

// Pin keeps the block open until Unpin.
func (s *Shared) Pin() { s.others.Add(1) }

// Unpin ends one use of the block.
func (s *Shared) Unpin() error {
	if s.others.Add(-1) >= 0 {
		return nil
	}
	err := s.file.Close()
	if s.dropped.Load() {
		err = errors.Join(err, Remove(s.fs, s.dir))
	}
	return err
}

// Drop is Unpin for a block that nothing refers to any more: it is deleted once
// nobody uses it.
func (s *Shared) Drop() error {
	s.dropped.Store(true)
	return s.Unpin()
}
