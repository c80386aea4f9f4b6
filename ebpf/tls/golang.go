package tls

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// goNames are functions of Go's crypto/tls. The two of the handshake are called
// once for a connection, and tell its socket.
var goNames = map[string]function{
	"crypto/tls.(*Conn).Read":            goRead,
	"crypto/tls.(*Conn).Write":           goWrite,
	"crypto/tls.(*Conn).serverHandshake": goHandshake,
	"crypto/tls.(*Conn).clientHandshake": goHandshake,
}

// maxCode bounds how much of a function is disassembled.
const maxCode = 64 << 10

// pclntab is the table of functions that Go's runtime needs itself; it is in
// every Go program, stripped or not.
func (im *image) pclntab() *elf.Section {
	for _, name := range []string{".gopclntab", ".data.rel.ro.gopclntab"} {
		if s := im.Section(name); s != nil && s.Type == elf.SHT_PROGBITS {
			return s
		}
	}
	return nil
}

// goFunction is a function's place relative to the beginning of the text.
type goFunction struct {
	name       string
	begin, end uint64
}

// goPlaces finds Go's functions and where they return. A program that has none
// of them gives errNoTLS.
func (im *image) goPlaces(table *elf.Section) ([]place, error) {
	list, text, err := im.goFunctions(table)
	if err != nil {
		return nil, fmt.Errorf("read Go's table of functions: %w", err)
	}
	if len(list) == 0 {
		return nil, errNoTLS
	}
	err = errNoTLS
	for _, start := range im.textStarts(text) {
		var places []place
		if places, err = im.goPlacesAt(list, start); err == nil {
			return places, nil
		}
	}
	return nil, err
}

// goPlacesAt is goPlaces if the text begins at start.
func (im *image) goPlacesAt(list []goFunction, start uint64) ([]place, error) {
	var places []place
	for _, fn := range list {
		offset, ok := im.offset(start + fn.begin)
		if !ok || fn.end <= fn.begin {
			return nil, fmt.Errorf("find %s: no code at %#x", fn.name, start+fn.begin)
		}
		code := make([]byte, min(fn.end-fn.begin, maxCode))
		if _, err := im.r.ReadAt(code, int64(offset)); err != nil {
			return nil, fmt.Errorf("read the code of %s: %w", fn.name, err)
		}
		if !goPrologue(code) {
			return nil, fmt.Errorf("read the code of %s: it does not begin as Go's functions do", fn.name)
		}
		p := place{function: goNames[fn.name], begin: offset, enter: offset + uint64(goEntry(code))}
		at, err := returns(code)
		if err != nil {
			return nil, fmt.Errorf("disassemble %s: %w", fn.name, err)
		}
		if len(at) == 0 || fn.end-fn.begin > maxCode {
			return nil, fmt.Errorf("disassemble %s: no RET in its %d bytes", fn.name, fn.end-fn.begin)
		}
		for _, r := range at {
			p.returns = append(p.returns, offset+uint64(r))
		}
		places = append(places, p)
	}
	return places, nil
}

// goFunctions finds goNames in the table, and what the table says of where the
// text begins. The table's layout is that of Go 1.18 and later.
func (im *image) goFunctions(table *elf.Section) ([]goFunction, uint64, error) {
	head := make([]byte, 8+8*8)
	if _, err := table.ReadAt(head, 0); err != nil {
		return nil, 0, err
	}
	switch magic := binary.LittleEndian.Uint32(head); magic {
	case 0xfffffff0, 0xfffffff1:
	default:
		return nil, 0, fmt.Errorf("got magic %#x, want that of Go 1.18 or later", magic)
	}
	if head[7] != 8 {
		return nil, 0, fmt.Errorf("got pointers of %d bytes, want 8", head[7])
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(head[8+8*i:]) }
	count, names, funcs := word(0), word(3), word(7)
	if count > 1<<24 || names > table.FileSize || funcs > table.FileSize || word(4) < names || word(4) > table.FileSize {
		return nil, 0, errors.New("offsets beyond its end")
	}
	wanted := make([]string, 0, len(goNames))
	for name := range goNames {
		wanted = append(wanted, name)
	}
	size := word(4) - names
	at, err := positions(io.NewSectionReader(table, int64(names), int64(size)), size, wanted)
	if err != nil || len(at) == 0 {
		return nil, 0, err
	}
	var list []goFunction
	index, info := window{r: im.r}, window{r: im.r}
	base := table.Offset + funcs
	for i := range count {
		b, err := index.bytes(base+8*i, 12)
		if err != nil {
			return nil, 0, err
		}
		begin, where, end := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
		if b, err = info.bytes(base+uint64(where), 8); err != nil {
			return nil, 0, err
		}
		if name, ok := at[binary.LittleEndian.Uint32(b[4:])]; ok {
			list = append(list, goFunction{name: name, begin: uint64(begin), end: uint64(end)})
		}
	}
	return list, word(2), nil
}

// textStarts are the addresses at which Go's text may begin: as the table says
// (before Go 1.26, unless that is left to the loader), as the runtime's own
// description of the program says, by its symbol, or by the section, which is
// wrong only where C was linked in before it.
func (im *image) textStarts(table uint64) []uint64 {
	var starts []uint64
	add := func(address uint64) {
		if address != 0 {
			starts = append(starts, address)
		}
	}
	add(table)
	if s := im.Section(".go.module"); s != nil && s.Size >= 176 {
		add(im.pointer(s, 168))
	}
	if at, err := im.symbols([]string{"runtime.text"}); err == nil {
		add(at["runtime.text"].address)
	}
	if s := im.Section(".text"); s != nil {
		add(s.Addr)
	}
	return starts
}

// pointer reads an address in a section; one that is left to the loader is in
// the table of relocations.
func (im *image) pointer(s *elf.Section, offset uint64) uint64 {
	var b [8]byte
	if _, err := s.ReadAt(b[:], int64(offset)); err != nil {
		return 0
	}
	if v := binary.LittleEndian.Uint64(b[:]); v != 0 {
		return v
	}
	w := window{r: im.r}
	for _, rela := range im.Sections {
		if rela.Type != elf.SHT_RELA || rela.Flags&elf.SHF_ALLOC == 0 {
			continue
		}
		for off := uint64(0); off+24 <= rela.FileSize; off += 24 {
			b, err := w.bytes(rela.Offset+off, 24)
			if err != nil {
				return 0
			}
			if binary.LittleEndian.Uint64(b) == s.Addr+offset {
				return binary.LittleEndian.Uint64(b[16:])
			}
		}
	}
	return 0
}
