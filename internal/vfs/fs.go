package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// FS is a file system. Flags and errors are those of package os: a missing
// file satisfies errors.Is(err, fs.ErrNotExist). All methods may be called
// concurrently.
type FS interface {
	// Create opens name for reading and writing, and empties it if it exists.
	Create(name string) (File, error)

	// Open opens name for reading.
	Open(name string) (File, error)

	// OpenFile opens name with the os.O_* flags.
	OpenFile(name string, flag int) (File, error)

	// MkdirAll creates the directory and its parents, durably.
	MkdirAll(name string) error

	// Rename moves a file or directory and replaces a file of the new name.
	Rename(oldName, newName string) error

	// Remove deletes a file or an empty directory.
	Remove(name string) error

	// RemoveAll deletes a file or a directory with all it holds; a name that does
	// not exist is not an error.
	RemoveAll(name string) error

	// List returns the names in a directory, sorted.
	List(name string) ([]string, error)

	// Stat describes a file or directory.
	Stat(name string) (fs.FileInfo, error)

	// Link gives the file oldName a second name (a hard link).
	Link(oldName, newName string) error

	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error

	// Lock creates name if need be and locks it against every other holder, in
	// this process and in others, until the Closer is closed or the process ends.
	// It does not wait: a lock that is held elsewhere gives ErrLocked.
	Lock(name string) (io.Closer, error)
}

// File is an open file. ReadAt and WriteAt may be called concurrently.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.WriterAt
	io.Closer

	// Name returns the path with which the file was opened.
	Name() string

	// Stat describes the file.
	Stat() (fs.FileInfo, error)

	// Sync makes the file's bytes and size durable.
	Sync() error

	// Truncate sets the file's size.
	Truncate(size int64) error
}

// ErrLocked is returned by FS.Lock while someone else holds the lock.
var ErrLocked = errors.New("locked by another process")

// Mapping is a file's content as bytes, until Close.
type Mapping struct {
	data  []byte
	unmap func() error
}

// Bytes returns the content. It must not be written to, nor used after Close.
func (m *Mapping) Bytes() []byte { return m.data }

// Close releases the bytes. A second Close does nothing.
func (m *Mapping) Close() error {
	unmap := m.unmap
	m.data, m.unmap = nil, nil
	if unmap == nil {
		return nil
	}
	return unmap()
}

// mapper is what an FS has that can map files without copying them.
type mapper interface {
	mapFile(name string) (*Mapping, error)
}

// Map returns the content of the file: an mmap where fsys can, a copy elsewhere.
// The mapping is as long as the file is now.
func Map(fsys FS, name string) (*Mapping, error) {
	if m, ok := fsys.(mapper); ok {
		return m.mapFile(name)
	}
	data, err := ReadFile(fsys, name)
	if err != nil {
		return nil, err
	}
	return &Mapping{data: data}, nil
}

// ReadFile returns the content of the file in new memory.
func ReadFile(fsys FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("is a directory")}
	}
	data := make([]byte, info.Size())
	n, err := f.ReadAt(data, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return data[:n], nil
}

// WriteFile publishes data under name, atomically and durably, replacing what
// was there. It uses the temporary name name+".tmp", so one name has one
// writer at a time.
func WriteFile(fsys FS, name string, data []byte) error {
	tmp := name + ".tmp"
	if err := writeSynced(fsys, tmp, data); err != nil {
		// The error at hand matters; the leftover is replaced by the next attempt.
		_ = fsys.Remove(tmp)
		return fmt.Errorf("write %s: %w", tmp, err)
	}
	if err := fsys.Rename(tmp, name); err != nil {
		return fmt.Errorf("publish %s: %w", name, err)
	}
	if err := fsys.SyncDir(filepath.Dir(name)); err != nil {
		return fmt.Errorf("publish %s: %w", name, err)
	}
	return nil
}

func writeSynced(fsys FS, name string, data []byte) error {
	f, err := fsys.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Exists reports whether there is a file or directory of that name.
func Exists(fsys FS, name string) (bool, error) {
	_, err := fsys.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Flags of OpenFile that every FS here understands, for callers that would
// otherwise import os for nothing else.
const (
	ReadWrite       = os.O_RDWR
	ReadWriteCreate = os.O_RDWR | os.O_CREATE
	CreateNew       = os.O_RDWR | os.O_CREATE | os.O_EXCL
)
