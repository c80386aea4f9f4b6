package symbol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Bounds of what is believed of an ELF file.
const (
	maxSections = 4096
	maxSegments = 256
	maxNames    = 256 << 10 // bytes of the section names
	maxNote     = 64 << 10
	maxSymbols  = 1 << 20 // of one file: 12 MiB of table
)

// Numbers of the ELF format that matter here.
const (
	elfHeaderSize  = 64
	segmentSize    = 56
	sectionSize    = 64
	symbolSize     = 24
	relocationSize = 24

	segmentLoad  = 1
	sectionNoBit = 8
	typeFunc     = 2
	typeGNUIFunc = 10
)

var errNotELF = errors.New("not a little-endian 64-bit ELF file")

type section struct {
	name         string
	kind         uint32
	addr         uint64
	offset, size uint64
	link         uint32
}

// segment is a part of a file that is loaded.
type segment struct {
	offset, size uint64 // in the file
	addr         uint64
}

// image is what is read of an ELF file before its tables.
type image struct {
	r        io.ReaderAt
	size     int64
	segments []segment
	sections []section
	buildID  string
}

// readImage reads the headers.
func readImage(r io.ReaderAt, size int64) (*image, error) {
	var h [elfHeaderSize]byte
	if _, err := r.ReadAt(h[:], 0); err != nil {
		return nil, fmt.Errorf("read the ELF header: %w", err)
	}
	if string(h[:4]) != "\x7fELF" || h[4] != 2 || h[5] != 1 {
		return nil, errNotELF
	}
	le := binary.LittleEndian
	im := &image{r: r, size: size}
	if n := int(le.Uint16(h[56:])); n > 0 && le.Uint16(h[54:]) == segmentSize {
		b, err := im.bytes(le.Uint64(h[32:]), uint64(min(n, maxSegments))*segmentSize, maxSegments*segmentSize)
		if err != nil {
			return nil, fmt.Errorf("read the ELF program headers: %w", err)
		}
		for ; len(b) >= segmentSize; b = b[segmentSize:] {
			if le.Uint32(b) == segmentLoad {
				im.segments = append(im.segments, segment{offset: le.Uint64(b[8:]), addr: le.Uint64(b[16:]), size: le.Uint64(b[32:])})
			}
		}
	}
	if n := int(le.Uint16(h[60:])); n > 0 && n <= maxSections && le.Uint16(h[58:]) == sectionSize {
		if err := im.readSections(le.Uint64(h[40:]), n, int(le.Uint16(h[62:]))); err != nil {
			return nil, err
		}
	}
	im.readBuildID()
	return im, nil
}

func (im *image) readSections(offset uint64, n, names int) error {
	b, err := im.bytes(offset, uint64(n)*sectionSize, maxSections*sectionSize)
	if err != nil {
		return fmt.Errorf("read the ELF section headers: %w", err)
	}
	le := binary.LittleEndian
	im.sections = make([]section, n)
	nameAt := make([]uint32, n)
	for i := range im.sections {
		s := b[i*sectionSize:]
		nameAt[i] = le.Uint32(s)
		im.sections[i] = section{
			kind: le.Uint32(s[4:]), addr: le.Uint64(s[16:]), offset: le.Uint64(s[24:]), size: le.Uint64(s[32:]), link: le.Uint32(s[40:]),
		}
	}
	if names >= n {
		return nil
	}
	all, err := im.bytes(im.sections[names].offset, im.sections[names].size, maxNames)
	if err != nil {
		return nil // without names there is nothing to be found, but segments
	}
	for i, at := range nameAt {
		if int(at) < len(all) {
			name, _, _ := bytes.Cut(all[at:], []byte{0})
			im.sections[i].name = string(name)
		}
	}
	return nil
}

// bytes reads a part of the file, of at most limit bytes.
func (im *image) bytes(offset, size, limit uint64) ([]byte, error) {
	if size > limit || offset > uint64(im.size) || size > uint64(im.size)-offset {
		return nil, fmt.Errorf("%d bytes at %d: not within the file's %d, or more than %d", size, offset, im.size, limit)
	}
	b := make([]byte, size)
	_, err := im.r.ReadAt(b, int64(offset))
	if err == io.EOF {
		err = nil
	}
	return b, err
}

// section finds the first section of one of the names that the file has bytes of.
func (im *image) section(names ...string) *section {
	for i := range im.sections {
		s := &im.sections[i]
		for _, n := range names {
			if s.name == n && s.kind != sectionNoBit && s.offset <= uint64(im.size) && s.size <= uint64(im.size)-s.offset {
				return s
			}
		}
	}
	return nil
}

func (im *image) readBuildID() {
	s := im.section(".note.gnu.build-id")
	if s == nil {
		return
	}
	b, err := im.bytes(s.offset, s.size, maxNote)
	if err != nil || len(b) < 16 {
		return
	}
	le := binary.LittleEndian
	name, desc := uint64(le.Uint32(b)), uint64(le.Uint32(b[4:]))
	begin := 12 + (name+3)&^3
	if le.Uint32(b[8:]) == 3 && begin+desc <= uint64(len(b)) && desc >= 2 && desc <= 64 {
		im.buildID = fmt.Sprintf("%x", b[begin:begin+desc])
	}
}

// debugLink gives the file name and checksum of .gnu_debuglink.
func (im *image) debugLink() (name string, sum uint32, ok bool) {
	s := im.section(".gnu_debuglink")
	if s == nil {
		return "", 0, false
	}
	b, err := im.bytes(s.offset, s.size, 4096)
	if err != nil {
		return "", 0, false
	}
	n, _, found := bytes.Cut(b, []byte{0})
	at := (len(n) + 4) &^ 3
	if !found || len(n) == 0 || bytes.IndexByte(n, '/') >= 0 || at+4 > len(b) {
		return "", 0, false
	}
	return string(n), binary.LittleEndian.Uint32(b[at:]), true
}

// checksum is what .gnu_debuglink keeps of the file it means.
func (im *image) checksum() (uint32, error) {
	h := crc32.NewIEEE()
	_, err := io.Copy(h, io.NewSectionReader(im.r, 0, im.size))
	return h.Sum32(), err
}

// address gives where the file wants an offset to be.
func (im *image) address(offset uint64) (uint64, bool) { return addressOf(im.segments, offset) }

func addressOf(segments []segment, offset uint64) (uint64, bool) {
	for _, s := range segments {
		if offset >= s.offset && offset-s.offset < s.size {
			return offset - s.offset + s.addr, true
		}
	}
	return 0, false
}

// pointer reads the word at an address, or, where that is zero, what a relative
// relocation puts there.
func (im *image) pointer(addr uint64) (uint64, bool) {
	for _, s := range im.segments {
		if addr < s.addr || addr-s.addr >= s.size {
			continue
		}
		b, err := im.bytes(s.offset+addr-s.addr, 8, 8)
		if err != nil {
			return 0, false
		}
		if v := binary.LittleEndian.Uint64(b); v != 0 {
			return v, true
		}
	}
	s := im.section(".rela.dyn", ".rela")
	if s == nil {
		return 0, false
	}
	var found uint64
	err := im.each(s, relocationSize, func(b []byte) bool {
		if binary.LittleEndian.Uint64(b) == addr {
			found = binary.LittleEndian.Uint64(b[16:])
		}
		return found == 0
	})
	return found, err == nil && found != 0
}

// each visits the records of a section, a buffer at a time.
func (im *image) each(s *section, record int, visit func(b []byte) bool) error {
	buf := make([]byte, 64<<10/record*record)
	r := io.NewSectionReader(im.r, int64(s.offset), int64(s.size))
	for {
		n, err := io.ReadFull(r, buf)
		for b := buf[:n]; len(b) >= record; b = b[record:] {
			if !visit(b) {
				return nil
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read section %s: %w", s.name, err)
		}
	}
}

// symbols makes a table of the functions in .symtab or .dynsym; nil: there are
// none.
func (im *image) symbols(name string) *table {
	s := im.section(name)
	if s == nil || int(s.link) >= len(im.sections) {
		return nil
	}
	names := im.sections[s.link]
	if names.offset > uint64(im.size) {
		return nil
	}
	t := &table{names: int64(names.offset), limit: int64(min(names.size, uint64(im.size)-names.offset))}
	le := binary.LittleEndian
	return t.fill(func(visit func(symbolAt) bool) {
		_ = im.each(s, symbolSize, func(b []byte) bool {
			kind, value := b[4]&0xf, le.Uint64(b[8:])
			if (kind != typeFunc && kind != typeGNUIFunc) || le.Uint16(b[6:]) == 0 || value == 0 {
				return true
			}
			return visit(symbolAt{value, le.Uint64(b[16:]), le.Uint32(b)})
		})
	})
}
