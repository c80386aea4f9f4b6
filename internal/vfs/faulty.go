package vfs

import (
	"io"
	"io/fs"
)

// OpKind says what an operation does.
type OpKind uint8

// The operations that Faulty announces. RemoveAll is an OpRemove, ReadAt an
// OpRead, WriteAt an OpWrite; OpenFile is an OpCreate if it may create.
const (
	OpCreate OpKind = iota + 1
	OpOpen
	OpMkdirAll
	OpRename
	OpRemove
	OpList
	OpStat
	OpLink
	OpSyncDir
	OpLock
	OpMap
	OpRead
	OpWrite
	OpSync
	OpTruncate
)

// Op is an operation that is about to happen.
type Op struct {
	Kind OpKind
	Name string // of the file or directory; the new name in a rename or link
	Len  int    // bytes of a read or write
}

// ShortWrite is an error for an injection to return at an OpWrite: the first N
// bytes are written, then Write returns Err.
type ShortWrite struct {
	N   int
	Err error
}

func (e *ShortWrite) Error() string { return "short write: " + e.Err.Error() }

func (e *ShortWrite) Unwrap() error { return e.Err }

// Faulty returns fsys with inject asked before every operation; an error that
// inject returns is the operation's, which then does not happen. inject may be
// called concurrently, and may look at fsys itself (take a crash clone, say).
//
// A sync that fails on a file of a Mem drops the file's unsynced bytes for
// ever, as the kernel does.
func Faulty(fsys FS, inject func(op Op) error) FS {
	return &faulty{fsys, inject}
}

type faulty struct {
	fs     FS
	inject func(op Op) error
}

func (f *faulty) Create(name string) (File, error) {
	if err := f.inject(Op{Kind: OpCreate, Name: name}); err != nil {
		return nil, pathError("open", name, err)
	}
	return f.wrap(f.fs.Create(name))
}

func (f *faulty) Open(name string) (File, error) {
	if err := f.inject(Op{Kind: OpOpen, Name: name}); err != nil {
		return nil, pathError("open", name, err)
	}
	return f.wrap(f.fs.Open(name))
}

func (f *faulty) OpenFile(name string, flag int) (File, error) {
	kind := OpOpen
	if flag&ReadWriteCreate == ReadWriteCreate {
		kind = OpCreate
	}
	if err := f.inject(Op{Kind: kind, Name: name}); err != nil {
		return nil, pathError("open", name, err)
	}
	return f.wrap(f.fs.OpenFile(name, flag))
}

func (f *faulty) wrap(file File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return &faultyFile{file, f.inject}, nil
}

func (f *faulty) MkdirAll(name string) error {
	if err := f.inject(Op{Kind: OpMkdirAll, Name: name}); err != nil {
		return pathError("mkdir", name, err)
	}
	return f.fs.MkdirAll(name)
}

func (f *faulty) Rename(oldName, newName string) error {
	if err := f.inject(Op{Kind: OpRename, Name: newName}); err != nil {
		return pathError("rename", newName, err)
	}
	return f.fs.Rename(oldName, newName)
}

func (f *faulty) Remove(name string) error {
	if err := f.inject(Op{Kind: OpRemove, Name: name}); err != nil {
		return pathError("remove", name, err)
	}
	return f.fs.Remove(name)
}

func (f *faulty) RemoveAll(name string) error {
	if err := f.inject(Op{Kind: OpRemove, Name: name}); err != nil {
		return pathError("remove", name, err)
	}
	return f.fs.RemoveAll(name)
}

func (f *faulty) List(name string) ([]string, error) {
	if err := f.inject(Op{Kind: OpList, Name: name}); err != nil {
		return nil, pathError("list", name, err)
	}
	return f.fs.List(name)
}

func (f *faulty) Stat(name string) (fs.FileInfo, error) {
	if err := f.inject(Op{Kind: OpStat, Name: name}); err != nil {
		return nil, pathError("stat", name, err)
	}
	return f.fs.Stat(name)
}

func (f *faulty) Link(oldName, newName string) error {
	if err := f.inject(Op{Kind: OpLink, Name: newName}); err != nil {
		return pathError("link", newName, err)
	}
	return f.fs.Link(oldName, newName)
}

func (f *faulty) SyncDir(name string) error {
	if err := f.inject(Op{Kind: OpSyncDir, Name: name}); err != nil {
		return pathError("sync", name, err)
	}
	return f.fs.SyncDir(name)
}

func (f *faulty) Lock(name string) (io.Closer, error) {
	if err := f.inject(Op{Kind: OpLock, Name: name}); err != nil {
		return nil, pathError("lock", name, err)
	}
	return f.fs.Lock(name)
}

func (f *faulty) mapFile(name string) (*Mapping, error) {
	if err := f.inject(Op{Kind: OpMap, Name: name}); err != nil {
		return nil, pathError("map", name, err)
	}
	return Map(f.fs, name)
}

type faultyFile struct {
	File
	inject func(op Op) error
}

func (f *faultyFile) Read(p []byte) (int, error) {
	if err := f.inject(Op{OpRead, f.Name(), len(p)}); err != nil {
		return 0, pathError("read", f.Name(), err)
	}
	return f.File.Read(p)
}

func (f *faultyFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.inject(Op{OpRead, f.Name(), len(p)}); err != nil {
		return 0, pathError("read", f.Name(), err)
	}
	return f.File.ReadAt(p, off)
}

func (f *faultyFile) Write(p []byte) (int, error) {
	return f.write(p, f.File.Write)
}

func (f *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	return f.write(p, func(p []byte) (int, error) { return f.File.WriteAt(p, off) })
}

func (f *faultyFile) write(p []byte, do func(p []byte) (int, error)) (int, error) {
	err := f.inject(Op{OpWrite, f.Name(), len(p)})
	if err == nil {
		return do(p)
	}
	n := 0
	if short, ok := err.(*ShortWrite); ok {
		err = short.Err
		var doErr error
		if n, doErr = do(p[:min(short.N, len(p))]); doErr != nil {
			return n, doErr
		}
	}
	return n, pathError("write", f.Name(), err)
}

func (f *faultyFile) Sync() error {
	if err := f.inject(Op{OpSync, f.Name(), 0}); err != nil {
		if m, ok := f.File.(*memFile); ok {
			m.failSync()
		}
		return pathError("sync", f.Name(), err)
	}
	return f.File.Sync()
}

func (f *faultyFile) Truncate(size int64) error {
	if err := f.inject(Op{OpTruncate, f.Name(), 0}); err != nil {
		return pathError("truncate", f.Name(), err)
	}
	return f.File.Truncate(size)
}
