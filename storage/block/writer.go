package block

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"github.com/vedette-io/vedette/internal/vfs"
)

// tmpPrefix begins the name of a directory that a Writer has not published;
// RemoveTemporary deletes what a crash left.
const tmpPrefix = ".tmp-"

// writeBuffer is how many bytes gather before they go to the file. The buffer
// begins small: blocks of tenants with little are many.
const (
	writeBuffer = 1 << 20
	firstBuffer = 16 << 10
)

// Writer writes one block. Errors stick: Page may be called without looking,
// and Close reports the first.
type Writer struct {
	fs   vfs.FS
	dir  string // final
	tmp  string
	file vfs.File
	buf  []byte
	off  int64 // file offset of the end of buf

	sections []section
	byName   map[string]int
	encoder  *zstd.Encoder
	err      error
}

// Encoders are shared: EncodeAll is safe for concurrent use and keeps no state.
var (
	denseEncoder = newEncoder(zstd.SpeedDefault)
	quickEncoder = newEncoder(zstd.SpeedFastest)
)

func newEncoder(level zstd.EncoderLevel) *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(2), zstd.WithEncoderLevel(level),
		zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(1<<20))
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return e
}

// Options say how a block is written.
type Options struct {
	Quick bool // compress less hard: the block will soon be merged away
}

// Create starts a block that Close will publish as dir. Its parent exists.
func Create(fs vfs.FS, dir string, o Options) (*Writer, error) {
	w := &Writer{fs: fs, dir: dir, tmp: filepath.Join(filepath.Dir(dir), tmpPrefix+filepath.Base(dir)), byName: make(map[string]int), encoder: denseEncoder}
	if o.Quick {
		w.encoder = quickEncoder
	}
	if err := fs.RemoveAll(w.tmp); err != nil {
		return nil, fmt.Errorf("create block %s: %w", dir, err)
	}
	if err := fs.MkdirAll(w.tmp); err != nil {
		return nil, fmt.Errorf("create block %s: %w", dir, err)
	}
	f, err := fs.Create(filepath.Join(w.tmp, columnsFile))
	if err != nil {
		return nil, fmt.Errorf("create block %s: %w", dir, err)
	}
	w.file = f
	w.buf = make([]byte, 0, firstBuffer)
	w.buf = append(w.buf, magic...)
	w.off = int64(len(magic))
	return w, nil
}

// Page appends a page to a section, stored as it is, and returns its number in
// the section.
func (w *Writer) Page(name string, payload []byte) int {
	w.buf = append(w.buf, payload...)
	return w.finishPage(name, len(payload), len(payload), false)
}

// CompressedPage appends a page that is compressed if that saves an eighth.
func (w *Writer) CompressedPage(name string, payload []byte) int {
	start := len(w.buf)
	w.buf = w.encoder.EncodeAll(payload, w.buf)
	stored := len(w.buf) - start
	if stored > len(payload)-len(payload)/8 {
		w.buf = append(w.buf[:start], payload...)
		return w.finishPage(name, len(payload), len(payload), false)
	}
	return w.finishPage(name, stored, len(payload), true)
}

func (w *Writer) finishPage(name string, stored, raw int, compressed bool) int {
	crc := crc32.Checksum(w.buf[len(w.buf)-stored:], castagnoli)
	w.buf = binary.LittleEndian.AppendUint32(w.buf, crc)
	i, ok := w.byName[name]
	if !ok {
		i = len(w.sections)
		w.byName[name] = i
		w.sections = append(w.sections, section{name: name})
	}
	s := &w.sections[i]
	s.pages = append(s.pages, page{offset: w.off, stored: stored, raw: raw, compressed: compressed})
	w.off += int64(stored) + crcSize
	if len(w.buf) >= writeBuffer {
		w.flush()
	}
	return len(s.pages) - 1
}

func (w *Writer) flush() {
	if w.err == nil {
		_, w.err = w.file.Write(w.buf)
	}
	w.buf = w.buf[:0]
}

// Size returns how many bytes have been written so far.
func (w *Writer) Size() int64 { return w.off }

// Close writes directory and meta, makes the block durable and publishes it.
// After an error nothing stands under the block's name.
func (w *Writer) Close(meta []byte) error {
	err := w.close(meta)
	if err != nil {
		_ = w.fs.RemoveAll(w.tmp)
		return fmt.Errorf("write block %s: %w", w.dir, err)
	}
	return nil
}

func (w *Writer) close(meta []byte) error {
	start := len(w.buf)
	w.buf = appendDirectory(w.buf, w.sections)
	dirLen := len(w.buf) - start
	w.buf = append(w.buf, meta...)
	crc := crc32.Checksum(w.buf[start:], castagnoli)
	w.buf = appendFooter(w.buf, footer{dirOffset: w.off, dirLen: dirLen, metaLen: len(meta), crc: crc, version: currentVersion})
	w.off += int64(len(w.buf) - start)
	w.flush()
	if w.err == nil {
		w.err = w.file.Sync()
	}
	if err := w.file.Close(); w.err == nil {
		w.err = err
	}
	if w.err != nil {
		return w.err
	}
	if err := w.fs.SyncDir(w.tmp); err != nil {
		return err
	}
	if err := w.fs.Rename(w.tmp, w.dir); err != nil {
		return err
	}
	err := w.fs.SyncDir(filepath.Dir(w.dir))
	if err != nil {
		// Take it back: whoever tries again uses the same name.
		err = errors.Join(err, w.fs.Rename(w.dir, w.tmp))
	}
	return err
}

// Abort drops the block.
func (w *Writer) Abort() {
	_ = w.file.Close()
	_ = w.fs.RemoveAll(w.tmp)
}

// RemoveTemporary deletes what unfinished writers left in parent.
func RemoveTemporary(fs vfs.FS, parent string) error {
	names, err := fs.List(parent)
	if err != nil {
		return fmt.Errorf("remove unfinished blocks: %w", err)
	}
	for _, n := range names {
		if len(n) > len(tmpPrefix) && n[:len(tmpPrefix)] == tmpPrefix {
			if err := fs.RemoveAll(filepath.Join(parent, n)); err != nil {
				return fmt.Errorf("remove unfinished block: %w", err)
			}
		}
	}
	return nil
}

// Remove deletes the block in dir, so that a crash leaves either all of it or
// something that RemoveTemporary deletes.
func Remove(fs vfs.FS, dir string) error {
	parent := filepath.Dir(dir)
	tmp := filepath.Join(parent, tmpPrefix+"deleted-"+filepath.Base(dir))
	if err := fs.Rename(dir, tmp); err != nil {
		return fmt.Errorf("remove block: %w", err)
	}
	if err := fs.SyncDir(parent); err != nil {
		return fmt.Errorf("remove block: %w", err)
	}
	if err := fs.RemoveAll(tmp); err != nil {
		return fmt.Errorf("remove block: %w", err)
	}
	return nil
}
