package block

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"

	"github.com/vedette-io/vedette/internal/vfs"
)

// Reader reads one block.
type Reader struct {
	dir      string
	mapping  *vfs.Mapping
	data     []byte
	sections map[string]*readSection
	meta     []byte
}

type readSection struct {
	pages []page
	ok    []atomic.Bool // the page's checksum has been found right
}

// decoder is shared: DecodeAll is safe for concurrent use and keeps no state.
var decoder = func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxPage))
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return d
}()

// Open opens the block in dir. The error is a CorruptionError if its bytes are
// damaged, ErrVersion if it was written by a newer Vedette.
func Open(fsys vfs.FS, dir string) (*Reader, error) {
	m, err := vfs.Map(fsys, filepath.Join(dir, columnsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &CorruptionError{Block: dir, Reason: "there is no file " + columnsFile}
	}
	if err != nil {
		return nil, fmt.Errorf("open block %s: %w", dir, err)
	}
	r, err := parse(dir, m.Bytes())
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	r.mapping = m
	return r, nil
}

func parse(dir string, data []byte) (r *Reader, err error) {
	defer guard(&err, func(fault error) error { return &CorruptionError{Block: dir, Reason: fault.Error()} })()
	size := int64(len(data))
	corrupt := func(off int64, reason string) error {
		return &CorruptionError{Block: dir, Offset: off, Reason: reason}
	}
	f, err := decodeFooter(data[max(0, size-footerSize):], size)
	if err != nil {
		return nil, corrupt(max(0, size-footerSize), err.Error())
	}
	if f.version > currentVersion || f.version == 0 {
		return nil, fmt.Errorf("open block %s: version %d, want at most %d: %w", dir, f.version, currentVersion, ErrVersion)
	}
	if string(data[:len(magic)]) != magic {
		return nil, corrupt(0, fmt.Sprintf("file begins with %q, want %q", data[:len(magic)], magic))
	}
	tail := data[f.dirOffset : size-footerSize]
	if got := crc32.Checksum(tail, castagnoli); got != f.crc {
		return nil, corrupt(f.dirOffset, fmt.Sprintf("checksum of directory and meta is %08x, want %08x", got, f.crc))
	}
	sections, err := decodeDirectory(tail[:f.dirLen], f.dirOffset)
	if err != nil {
		return nil, corrupt(f.dirOffset, err.Error())
	}
	r = &Reader{dir: dir, data: data, sections: make(map[string]*readSection, len(sections)), meta: tail[f.dirLen:]}
	for _, s := range sections {
		r.sections[s.name] = &readSection{pages: s.pages, ok: make([]atomic.Bool, len(s.pages))}
	}
	return r, nil
}

// Dir returns the block's directory.
func (r *Reader) Dir() string { return r.dir }

// Size returns the bytes of the block's columns file.
func (r *Reader) Size() int64 { return int64(len(r.data)) }

// Meta returns the meta that the writer gave to Close.
func (r *Reader) Meta() []byte { return r.meta }

// Pages returns how many pages a section has; 0 if there is no such section.
func (r *Reader) Pages(name string) int {
	if s := r.sections[name]; s != nil {
		return len(s.pages)
	}
	return 0
}

// Sections calls f for every section with its pages and its stored bytes.
func (r *Reader) Sections(f func(name string, pages int, bytes int64)) {
	for name, s := range r.sections {
		var n int64
		for _, p := range s.pages {
			n += int64(p.stored) + crcSize
		}
		f(name, len(s.pages), n)
	}
}

// Locate returns where the stored bytes of a page lie in the file.
func (r *Reader) Locate(name string, i int) (offset, size int64, ok bool) {
	s := r.sections[name]
	if s == nil || i < 0 || i >= len(s.pages) {
		return 0, 0, false
	}
	return s.pages[i].offset, int64(s.pages[i].stored), true
}

// Page returns a page, and the buffer to pass for the next one. A plain page is
// a part of the mapping, valid until Close; a compressed one is decoded into
// buf, which may be nil, or into a larger one, and valid until that is reused.
func (r *Reader) Page(name string, i int, buf []byte) (data, next []byte, err error) {
	s := r.sections[name]
	if s == nil || i < 0 || i >= len(s.pages) {
		return nil, buf, &CorruptionError{Block: r.dir, Section: name, Page: i, Reason: "no such page"}
	}
	p := s.pages[i]
	b := r.data[p.offset : p.offset+int64(p.stored) : p.offset+int64(p.stored)]
	if !s.ok[i].Load() {
		if err := check(b, r.data[p.offset+int64(p.stored):]); err != nil {
			return nil, buf, &CorruptionError{Block: r.dir, Section: name, Page: i, Offset: p.offset, Reason: err.Error()}
		}
		s.ok[i].Store(true)
	}
	if !p.compressed {
		return b, buf, nil
	}
	out, err := decoder.DecodeAll(b, buf[:0])
	if err != nil || len(out) != p.raw {
		return nil, buf, &CorruptionError{Block: r.dir, Section: name, Page: i, Offset: p.offset, Reason: fmt.Sprintf("zstd frame of %d bytes, want %d: %v", len(out), p.raw, err)}
	}
	return out, out, nil
}

// check compares a page with the checksum behind it.
func check(b, behind []byte) (err error) {
	defer guard(&err, func(fault error) error { return fault })()
	want := binary.LittleEndian.Uint32(behind)
	if got := crc32.Checksum(b, castagnoli); got != want {
		return fmt.Errorf("checksum is %08x, want %08x", got, want)
	}
	return nil
}

// guard turns a fault in the memory of a mapped file, which would end the process,
// into an error: the disk cannot read the file, or it was cut short. What it
// returns is to be deferred.
func guard(err *error, wrap func(fault error) error) func() {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		switch r := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }: // a runtime.Error of a fault
			*err = wrap(errors.New("the file cannot be read"))
		default:
			panic(r)
		}
	}
}

// Verify reads every page and returns what is damaged.
func (r *Reader) Verify() []error {
	var errs []error
	var buf []byte
	for name, s := range r.sections {
		for i := range s.pages {
			s.ok[i].Store(false)
			var err error
			if _, buf, err = r.Page(name, i, buf); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errs
}

// Close releases the mapping; pages that alias it must not be used afterwards.
func (r *Reader) Close() error {
	r.data = nil
	return r.mapping.Close()
}
