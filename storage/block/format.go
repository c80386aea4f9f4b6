package block

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	magic      = "VEDBLOCK"
	footerSize = 32
	crcSize    = 4

	version1       = 1
	currentVersion = version1

	// columnsFile is the container's file in a block's directory.
	columnsFile = "columns"

	// maxPage bounds what a damaged directory can make a reader allocate.
	maxPage = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrCorruption is what every CorruptionError is.
var ErrCorruption = errors.New("corrupt block")

// ErrVersion reports a block written by a newer Vedette.
var ErrVersion = errors.New("block version is not supported")

// CorruptionError says which bytes of which block are damaged.
type CorruptionError struct {
	Block   string // directory
	Section string // "" outside of pages
	Page    int
	Offset  int64 // in the file; of the page, or of what is named by Reason
	Reason  string
}

func (e *CorruptionError) Error() string {
	if e.Section == "" {
		return fmt.Sprintf("corrupt block %s: offset %d: %s", e.Block, e.Offset, e.Reason)
	}
	return fmt.Sprintf("corrupt block %s: section %s, page %d, offset %d: %s", e.Block, e.Section, e.Page, e.Offset, e.Reason)
}

// Is makes errors.Is(err, ErrCorruption) true.
func (e *CorruptionError) Is(target error) bool { return target == ErrCorruption }

// page is one entry of the directory.
type page struct {
	offset     int64
	stored     int // bytes in the file, without the checksum
	raw        int // bytes after decompression
	compressed bool
}

type section struct {
	name  string
	pages []page
}

func appendDirectory(dst []byte, sections []section) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(sections)))
	for _, s := range sections {
		dst = binary.AppendUvarint(dst, uint64(len(s.name)))
		dst = append(dst, s.name...)
		dst = binary.AppendUvarint(dst, uint64(len(s.pages)))
		end := int64(len(magic))
		for _, p := range s.pages {
			dst = binary.AppendUvarint(dst, uint64(p.offset-end))
			end = p.offset + int64(p.stored) + crcSize
			if p.compressed {
				dst = binary.AppendUvarint(dst, uint64(p.stored)<<1|1)
				dst = binary.AppendUvarint(dst, uint64(p.raw))
			} else {
				dst = binary.AppendUvarint(dst, uint64(p.stored)<<1)
			}
		}
	}
	return dst
}

var errDirectory = errors.New("directory is damaged")

// decodeDirectory reads a directory whose pages lie before limit.
func decodeDirectory(b []byte, limit int64) ([]section, error) {
	d := directoryDecoder{b: b}
	n := d.uvarint()
	if d.err != nil || n > uint64(len(b)) {
		return nil, errDirectory
	}
	sections := make([]section, 0, n)
	for range n {
		s := section{name: d.string()}
		pages := d.uvarint()
		if d.err != nil || pages > uint64(len(d.b)) {
			return nil, errDirectory
		}
		s.pages = make([]page, 0, pages)
		end := uint64(len(magic))
		for range pages {
			p, e := d.page(end, uint64(limit))
			if d.err != nil {
				return nil, d.err
			}
			end = e
			s.pages = append(s.pages, p)
		}
		sections = append(sections, s)
	}
	if len(d.b) != 0 {
		return nil, errDirectory
	}
	return sections, nil
}

type directoryDecoder struct {
	b   []byte
	err error
}

func (d *directoryDecoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.err = errDirectory
		d.b = nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *directoryDecoder) string() string {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.err = errDirectory
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *directoryDecoder) page(end, limit uint64) (page, uint64) {
	gap, size := d.uvarint(), d.uvarint()
	stored, compressed := size>>1, size&1 == 1
	raw := stored
	if compressed {
		raw = d.uvarint()
	}
	if d.err != nil || gap > limit || stored > maxPage || raw > maxPage || end+gap+stored+crcSize > limit {
		d.err = errDirectory
		return page{}, 0
	}
	p := page{offset: int64(end + gap), stored: int(stored), raw: int(raw), compressed: compressed}
	return p, end + gap + stored + crcSize
}

type footer struct {
	dirOffset int64
	dirLen    int
	metaLen   int
	crc       uint32
	version   uint32
}

func appendFooter(dst []byte, f footer) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(f.dirOffset))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(f.dirLen))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(f.metaLen))
	dst = binary.LittleEndian.AppendUint32(dst, f.crc)
	dst = binary.LittleEndian.AppendUint32(dst, f.version)
	return append(dst, magic...)
}

// decodeFooter reads the footer of a file of size bytes, of which b is the end.
func decodeFooter(b []byte, size int64) (footer, error) {
	if len(b) < footerSize || size < int64(len(magic)+footerSize) {
		return footer{}, fmt.Errorf("file has %d bytes, want at least %d", size, len(magic)+footerSize)
	}
	b = b[len(b)-footerSize:]
	if string(b[24:]) != magic {
		return footer{}, fmt.Errorf("footer ends with %q, want %q", b[24:], magic)
	}
	f := footer{
		dirOffset: int64(binary.LittleEndian.Uint64(b)),
		dirLen:    int(binary.LittleEndian.Uint32(b[8:])),
		metaLen:   int(binary.LittleEndian.Uint32(b[12:])),
		crc:       binary.LittleEndian.Uint32(b[16:]),
		version:   binary.LittleEndian.Uint32(b[20:]),
	}
	if f.dirOffset < int64(len(magic)) || f.dirOffset+int64(f.dirLen)+int64(f.metaLen)+footerSize != size {
		return footer{}, fmt.Errorf("directory at %d+%d and meta of %d bytes do not end at the footer of a file of %d bytes", f.dirOffset, f.dirLen, f.metaLen, size)
	}
	return f, nil
}
