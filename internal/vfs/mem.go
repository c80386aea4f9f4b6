package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vedette-io/vedette/internal/invariants"
)

// Mem is a file system in memory that knows what a power failure would leave:
// it keeps, beside what readers see, the bytes of each file as of its last
// Sync and the names of each directory as of its last SyncDir. Paths with and
// without a leading slash are the same.
type Mem struct {
	mu    sync.Mutex // guards everything below, nodes included
	root  *memNode
	locks map[string]bool
}

// NewMem returns an empty file system.
func NewMem() *Mem {
	return &Mem{root: newMemDir(), locks: map[string]bool{}}
}

// memNode is a file or a directory.
type memNode struct {
	modTime time.Time

	// A file: data is what readers see; unsynced says, sector by sector, where the
	// disk differs from it, and diskSize how long the disk thinks the file is.
	data     []byte
	diskSize int64
	unsynced map[int64]memSector

	// A directory: entries is what readers see, onDisk what a crash leaves for
	// sure, and pending the changes between the two, oldest first.
	dir     bool
	entries map[string]*memNode
	onDisk  map[string]*memNode
	pending []*memChange
}

// sectorBytes is the unit that a disk writes whole.
const sectorBytes = 512

// memSector is what the disk holds of a sector whose newest bytes are not
// known to be on it.
type memSector struct {
	old  []byte // shorter than a sector where the file ended; zeros follow
	lost bool   // a failed sync dropped the new bytes: no later sync writes them
}

// memChange is one atomic change of names; a rename sets two.
type memChange struct{ sets []memName }

type memName struct {
	dir  *memNode
	name string
	node *memNode // nil: the name goes away
}

func newMemDir() *memNode {
	return &memNode{dir: true, modTime: time.Now(), entries: map[string]*memNode{}, onDisk: map[string]*memNode{}}
}

func memParts(name string) []string {
	name = strings.Trim(filepath.ToSlash(filepath.Clean(name)), "/")
	if name == "" || name == "." {
		return nil
	}
	return strings.Split(name, "/")
}

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// findLocked returns the node of that name.
func (m *Mem) findLocked(op, name string) (*memNode, error) {
	n := m.root
	for _, part := range memParts(name) {
		if !n.dir {
			return nil, pathError(op, name, syscall.ENOTDIR)
		}
		if n = n.entries[part]; n == nil {
			return nil, pathError(op, name, fs.ErrNotExist)
		}
	}
	return n, nil
}

// parentLocked returns the directory that holds name, and name's last part.
func (m *Mem) parentLocked(op, name string) (*memNode, string, error) {
	parts := memParts(name)
	if len(parts) == 0 {
		return nil, "", pathError(op, name, fs.ErrInvalid)
	}
	dir, err := m.findLocked(op, strings.Join(parts[:len(parts)-1], "/"))
	if err != nil {
		return nil, "", pathError(op, name, errors.Unwrap(err))
	}
	if !dir.dir {
		return nil, "", pathError(op, name, syscall.ENOTDIR)
	}
	return dir, parts[len(parts)-1], nil
}

// changeLocked makes the changes visible, to be made durable later.
func changeLocked(sets ...memName) {
	c := &memChange{sets}
	for _, s := range sets {
		if s.node == nil {
			delete(s.dir.entries, s.name)
		} else {
			s.dir.entries[s.name] = s.node
		}
		if !slices.Contains(s.dir.pending, c) {
			s.dir.pending = append(s.dir.pending, c)
		}
	}
}

// settleLocked makes c durable, after the older changes of the same names.
func settleLocked(c *memChange) {
	for _, s := range c.sets {
		for {
			i := slices.IndexFunc(s.dir.pending, func(p *memChange) bool { return p.touches(s) })
			if i < 0 || s.dir.pending[i] == c {
				break
			}
			settleLocked(s.dir.pending[i])
		}
	}
	for _, s := range c.sets {
		s.dir.pending = slices.DeleteFunc(s.dir.pending, func(p *memChange) bool { return p == c })
		if s.node == nil {
			delete(s.dir.onDisk, s.name)
		} else {
			s.dir.onDisk[s.name] = s.node
		}
	}
}

func (c *memChange) touches(n memName) bool {
	return slices.ContainsFunc(c.sets, func(s memName) bool { return s.dir == n.dir && s.name == n.name })
}

func settleDirLocked(dir *memNode) {
	for len(dir.pending) > 0 {
		settleLocked(dir.pending[0])
	}
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) {
	return m.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
}

// Open implements FS.
func (m *Mem) Open(name string) (File, error) { return m.OpenFile(name, os.O_RDONLY) }

// OpenFile implements FS.
func (m *Mem) OpenFile(name string, flag int) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parentLocked("open", name)
	if err != nil {
		return nil, err
	}
	n := dir.entries[base]
	switch {
	case n == nil && flag&os.O_CREATE == 0:
		return nil, pathError("open", name, fs.ErrNotExist)
	case n == nil:
		n = &memNode{modTime: time.Now(), unsynced: map[int64]memSector{}}
		changeLocked(memName{dir, base, n})
	case flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		return nil, pathError("open", name, fs.ErrExist)
	case n.dir && flag&(os.O_RDWR|os.O_WRONLY) != 0:
		return nil, pathError("open", name, syscall.EISDIR)
	}
	if flag&os.O_TRUNC != 0 {
		n.truncate(0)
	}
	return &memFile{fs: m, node: n, name: name, flag: flag}, nil
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.root
	for _, part := range memParts(name) {
		next := n.entries[part]
		if next == nil {
			next = newMemDir()
			changeLocked(memName{n, part, next})
			settleDirLocked(n)
		}
		if !next.dir {
			return pathError("mkdir", name, syscall.ENOTDIR)
		}
		n = next
	}
	return nil
}

// Rename implements FS.
func (m *Mem) Rename(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	oldDir, oldBase, err := m.parentLocked("rename", oldName)
	if err != nil {
		return err
	}
	newDir, newBase, err := m.parentLocked("rename", newName)
	if err != nil {
		return err
	}
	n, target := oldDir.entries[oldBase], newDir.entries[newBase]
	switch {
	case n == nil:
		return pathError("rename", oldName, fs.ErrNotExist)
	case target == n:
		return nil
	case target != nil && target.dir && !n.dir:
		return pathError("rename", newName, syscall.EISDIR)
	case target != nil && !target.dir && n.dir:
		return pathError("rename", newName, syscall.ENOTDIR)
	case target != nil && target.dir && len(target.entries) > 0:
		return pathError("rename", newName, syscall.ENOTEMPTY)
	}
	changeLocked(memName{oldDir, oldBase, nil}, memName{newDir, newBase, n})
	return nil
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parentLocked("remove", name)
	if err != nil {
		return err
	}
	n := dir.entries[base]
	if n == nil {
		return pathError("remove", name, fs.ErrNotExist)
	}
	if n.dir && len(n.entries) > 0 {
		return pathError("remove", name, syscall.ENOTEMPTY)
	}
	changeLocked(memName{dir, base, nil})
	return nil
}

// RemoveAll implements FS. Like the real thing it removes names one by one, so
// a crash may leave some of them.
func (m *Mem) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parentLocked("remove", name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if n := dir.entries[base]; n != nil {
		removeTreeLocked(n)
		changeLocked(memName{dir, base, nil})
	}
	return nil
}

func removeTreeLocked(n *memNode) {
	for name, child := range n.entries {
		removeTreeLocked(child)
		changeLocked(memName{n, name, nil})
	}
}

// List implements FS.
func (m *Mem) List(name string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.findLocked("list", name)
	if err != nil {
		return nil, err
	}
	if !n.dir {
		return nil, pathError("list", name, syscall.ENOTDIR)
	}
	return sortedNames(n.entries), nil
}

func sortedNames(entries map[string]*memNode) []string {
	names := make([]string, 0, len(entries))
	for name := range entries {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Stat implements FS.
func (m *Mem) Stat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.findLocked("stat", name)
	if err != nil {
		return nil, err
	}
	return n.info(name), nil
}

// Link implements FS.
func (m *Mem) Link(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.findLocked("link", oldName)
	if err != nil {
		return err
	}
	dir, base, err := m.parentLocked("link", newName)
	if err != nil {
		return err
	}
	if n.dir {
		return pathError("link", oldName, syscall.EPERM)
	}
	if dir.entries[base] != nil {
		return pathError("link", newName, fs.ErrExist)
	}
	changeLocked(memName{dir, base, n})
	return nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.findLocked("sync", name)
	if err != nil {
		return err
	}
	if !n.dir {
		return pathError("sync", name, syscall.ENOTDIR)
	}
	settleDirLocked(n)
	return nil
}

// Lock implements FS.
func (m *Mem) Lock(name string) (io.Closer, error) {
	f, err := m.OpenFile(name, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	key := strings.Join(memParts(name), "/")
	if m.locks[key] {
		return nil, pathError("lock", name, ErrLocked)
	}
	m.locks[key] = true
	return &memLock{m, key, f}, nil
}

type memLock struct {
	fs  *Mem
	key string
	f   File
}

func (l *memLock) Close() error {
	l.fs.mu.Lock()
	delete(l.fs.locks, l.key)
	l.fs.mu.Unlock()
	return l.f.Close()
}

func (m *Mem) mapFile(name string) (*Mapping, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.findLocked("map", name)
	if err != nil {
		return nil, err
	}
	if n.dir {
		return nil, pathError("map", name, syscall.EISDIR)
	}
	data := slices.Clone(n.data)
	return &Mapping{data: data, unmap: func() error {
		invariants.Mangle(data)
		return nil
	}}, nil
}
