package log

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cespare/xxhash/v2"
)

// fileID names a file for as long as it exists.
type fileID struct{ Dev, Ino uint64 }

// idOf returns the id of a regular file; ok is false for anything else.
func idOf(info fs.FileInfo) (id fileID, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() {
		return id, false
	}
	return fileID{uint64(st.Dev), st.Ino}, true //nolint:unconvert // 32 bits on some systems
}

// mark is how the content of a file below an offset is told from another's.
type mark struct {
	HeadBytes int    `json:"head_bytes"` // of the beginning
	Head      uint64 `json:"head"`       // their sum
	Tail      uint64 `json:"tail"`       // sum of the last bytes below the offset
}

const (
	headBytes = 1 << 10
	tailBytes = 256
)

// file is a file that is read.
type file struct {
	source *source
	path   string // under which it was found, which its records tell
	place  string // where it was seen last, without symbolic links
	id     fileID
	origin origin
	seq    int // files of one path are read in this order

	f     *os.File // nil while it is closed
	size  int64    // at the last look
	mtime time.Time
	grown time.Time // when size or mtime changed last, as this process saw it

	done     int64 // what is below is in a request or was in one
	mid      bool  // done is within a line
	doneMark mark  // of done

	acked    int64 // what is below was acknowledged
	ackedMid bool
	mark     mark // of acked

	pending  time.Time // since when bytes behind done have waited for more; zero if none do
	gone     bool      // its path leads elsewhere
	finished bool      // and everything was read
}

// open opens the file at the given path, if it still is this one.
func (f *file) open(path string) error {
	h, err := openRegular(path)
	if err != nil {
		return err
	}
	info, err := h.Stat()
	if err == nil {
		if id, ok := idOf(info); !ok || id != f.id {
			err = fs.ErrNotExist
		}
	}
	if err != nil {
		return errors.Join(err, h.Close())
	}
	f.f, f.place = h, real(path)
	return nil
}

// real returns where a path leads.
func real(path string) string {
	if r, err := filepath.EvalSymlinks(path); err == nil {
		return r
	}
	return path
}

// openRegular opens a file without waiting, as a pipe would make it.
func openRegular(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

func (f *file) close() {
	if f.f != nil {
		_ = f.f.Close() // it was read only
		f.f = nil
	}
}

// sum returns the sum of the bytes [from, to) of a file.
func sum(r io.ReaderAt, from, to int64) (uint64, error) {
	var buf [headBytes]byte
	b := buf[:to-from]
	if n, err := r.ReadAt(b, from); n < len(b) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, err
	}
	return xxhash.Sum64(b), nil
}

// markAt computes the mark of an offset; have is that of a smaller one of the same
// content.
func markAt(r io.ReaderAt, offset int64, have mark) (m mark, err error) {
	m = have
	if m.HeadBytes < headBytes && int64(m.HeadBytes) < offset {
		m.HeadBytes = int(min(offset, headBytes))
		if m.Head, err = sum(r, 0, int64(m.HeadBytes)); err != nil {
			return have, err
		}
	}
	m.Tail, err = sum(r, max(0, offset-tailBytes), offset)
	return m, err
}

// holds reports whether a file has the content of a mark below an offset.
func (m mark) holds(r io.ReaderAt, offset int64) bool {
	head, err := sum(r, 0, int64(m.HeadBytes))
	if err != nil || head != m.Head && m.HeadBytes > 0 {
		return false
	}
	tail, err := sum(r, max(0, offset-tailBytes), offset)
	return err == nil && (tail == m.Tail || offset == 0)
}

// begins reports whether a file begins as the mark's does.
func (m mark) begins(r io.ReaderAt) bool {
	head, err := sum(r, 0, int64(m.HeadBytes))
	return err == nil && m.HeadBytes > 0 && head == m.Head
}

// isGeneration reports whether a name is one that a rotation gives to the file
// called base: base.1, base-20261121, ….
func isGeneration(name, base string) bool {
	rest, ok := strings.CutPrefix(name, base)
	if !ok || len(rest) < 2 || rest[0] != '.' && rest[0] != '-' {
		return false
	}
	for _, end := range append(compressed(), ".tmp", ".swp") { // wherever they stand
		if strings.Contains(rest, end) {
			return false
		}
	}
	return true
}

// neighbour is a file of a directory.
type neighbour struct {
	path string
	id   fileID
	info fs.FileInfo
}

// neighbours lists the regular files of a directory.
func neighbours(dir string) []neighbour {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var out []neighbour
	for _, e := range entries {
		if e.Type()&^fs.ModeSymlink != 0 {
			continue
		}
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		if id, ok := idOf(info); ok {
			out = append(out, neighbour{path, id, info})
		}
	}
	return out
}
