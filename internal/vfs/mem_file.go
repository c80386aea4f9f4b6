package vfs

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// memFile is an open file of a Mem. Its node outlives its name.
type memFile struct {
	fs     *Mem
	node   *memNode
	name   string
	flag   int
	offset int64 // of Read and Write
	closed bool
}

func (f *memFile) Name() string { return f.name }

// lock takes the file system's lock and returns its release.
func (f *memFile) lock(op string) (func(), error) {
	f.fs.mu.Lock()
	if f.closed {
		f.fs.mu.Unlock()
		return nil, pathError(op, f.name, fs.ErrClosed)
	}
	return f.fs.mu.Unlock, nil
}

func (f *memFile) Read(p []byte) (int, error) {
	unlock, err := f.lock("read")
	if err != nil {
		return 0, err
	}
	defer unlock()
	n, err := f.node.readAt(p, f.offset)
	f.offset += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	unlock, err := f.lock("read")
	if err != nil {
		return 0, err
	}
	defer unlock()
	return f.node.readAt(p, off)
}

func (f *memFile) Write(p []byte) (int, error) {
	unlock, err := f.lock("write")
	if err != nil {
		return 0, err
	}
	defer unlock()
	if f.flag&os.O_APPEND != 0 {
		f.offset = int64(len(f.node.data))
	}
	if err := f.writeAt(p, f.offset); err != nil {
		return 0, err
	}
	f.offset += int64(len(p))
	return len(p), nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	unlock, err := f.lock("write")
	if err != nil {
		return 0, err
	}
	defer unlock()
	if err := f.writeAt(p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f *memFile) writeAt(p []byte, off int64) error {
	if f.flag&(os.O_RDWR|os.O_WRONLY) == 0 {
		return pathError("write", f.name, fs.ErrPermission)
	}
	if off < 0 {
		return pathError("write", f.name, fs.ErrInvalid)
	}
	f.node.writeAt(p, off)
	return nil
}

func (f *memFile) Stat() (fs.FileInfo, error) {
	unlock, err := f.lock("stat")
	if err != nil {
		return nil, err
	}
	defer unlock()
	return f.node.info(f.name), nil
}

func (f *memFile) Sync() error {
	unlock, err := f.lock("sync")
	if err != nil {
		return err
	}
	defer unlock()
	f.node.sync()
	return nil
}

// failSync does what a failed fsync does on Linux: readers still see the bytes
// since the last sync, the disk never gets them.
func (f *memFile) failSync() {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	for i, s := range f.node.unsynced {
		s.lost = true
		f.node.unsynced[i] = s
	}
}

func (f *memFile) Truncate(size int64) error {
	unlock, err := f.lock("truncate")
	if err != nil {
		return err
	}
	defer unlock()
	if size < 0 || f.flag&(os.O_RDWR|os.O_WRONLY) == 0 {
		return pathError("truncate", f.name, fs.ErrInvalid)
	}
	f.node.truncate(size)
	return nil
}

func (f *memFile) Close() error {
	unlock, err := f.lock("close")
	if err != nil {
		return err
	}
	defer unlock()
	f.closed = true
	return nil
}

func (n *memNode) readAt(p []byte, off int64) (int, error) {
	if n.dir || off < 0 {
		return 0, fs.ErrInvalid
	}
	if off >= int64(len(n.data)) {
		return 0, io.EOF
	}
	c := copy(p, n.data[off:])
	if c < len(p) {
		return c, io.EOF
	}
	return c, nil
}

func (n *memNode) writeAt(p []byte, off int64) {
	if len(p) == 0 {
		return
	}
	end := off + int64(len(p))
	from := min(off, int64(len(n.data)))
	n.touch(from, end)
	if grow := end - int64(len(n.data)); grow > 0 {
		n.data = append(n.data, make([]byte, grow)...)
	}
	copy(n.data[off:], p)
	n.modTime = time.Now()
}

func (n *memNode) truncate(size int64) {
	old := int64(len(n.data))
	n.touch(min(size, old), max(size, old))
	if size <= old {
		// The bytes beyond are copied away by touch; a later growth must read zeros.
		clear(n.data[size:])
		n.data = n.data[:size]
	} else {
		n.data = append(n.data, make([]byte, size-old)...)
	}
	n.modTime = time.Now()
}

// touch remembers what the disk holds in the sectors of [from, to), which are
// about to change.
func (n *memNode) touch(from, to int64) {
	for i := from / sectorBytes; i*sectorBytes < to; i++ {
		s, ok := n.unsynced[i]
		if !ok {
			start := min(i*sectorBytes, int64(len(n.data)))
			end := min(start+sectorBytes, int64(len(n.data)))
			s.old = append([]byte(nil), n.data[start:end]...)
		}
		s.lost = false
		n.unsynced[i] = s
	}
}

// sync makes the bytes durable, except where an earlier sync lost them.
func (n *memNode) sync() {
	for i, s := range n.unsynced {
		if !s.lost || i*sectorBytes >= int64(len(n.data)) {
			delete(n.unsynced, i)
		}
	}
	n.diskSize = int64(len(n.data))
	if n.dir {
		settleDirLocked(n)
	}
}

type memInfo struct {
	name    string
	size    int64
	dir     bool
	modTime time.Time
}

func (n *memNode) info(name string) fs.FileInfo {
	return memInfo{filepath.Base(name), int64(len(n.data)), n.dir, n.modTime}
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) ModTime() time.Time { return i.modTime }
func (i memInfo) IsDir() bool        { return i.dir }
func (i memInfo) Sys() any           { return nil }

func (i memInfo) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | dirMode
	}
	return fileMode
}
