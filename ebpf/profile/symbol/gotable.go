package symbol

import "encoding/binary"

// The pclntab of Go 1.16 and of 1.18 and newer differ in where offsets begin.
const (
	go116Magic = 0xfffffffa
	go118Magic = 0xfffffff0
	go120Magic = 0xfffffff1
)

// maxGoHeader is the longest header of a pclntab: 8 bytes and 8 words.
const maxGoHeader = 8 + 8*8

// moduleText is the word of the runtime's moduledata that holds where the text
// begins, since Go 1.18: after pcHeader, six slices, findfunctab, minpc, maxpc.
const moduleText = 1 + 6*3 + 3

// gotable makes a table of the functions that Go's runtime knows, which are in
// the file even when it is stripped; nil: it is no Go program, or an older one.
func (im *image) gotable() *table {
	s := im.section(".gopclntab", ".data.rel.ro.gopclntab")
	if s == nil || s.size < maxGoHeader {
		return nil
	}
	h, err := im.bytes(s.offset, maxGoHeader, maxGoHeader)
	if err != nil || h[4] != 0 || h[5] != 0 || h[7] != 8 {
		return nil
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(h[8+8*i:]) }
	count := word(0)
	var names, nameEnd, funcs, text uint64
	field := uint64(4) // bytes of one number of the function table
	switch binary.LittleEndian.Uint32(h) {
	case go116Magic:
		names, nameEnd, funcs, field = word(2), word(3), word(6), 8
	case go118Magic, go120Magic:
		names, nameEnd, funcs = word(3), word(4), word(7)
		if text = im.goText(s, word(2)); text == 0 {
			return nil
		}
	default:
		return nil
	}
	if count == 0 || count > maxSymbols || funcs >= s.size || names >= nameEnd || nameEnd > s.size || (s.size-funcs)/(2*field) < count {
		return nil
	}
	t := &table{
		names: int64(s.offset + names), limit: int64(nameEnd - names),
		gofuncs: int64(s.offset + funcs), goLimit: int64(s.size - funcs),
	}
	// A record's first number is its address from the text's beginning and its
	// second where the function's description is; the last has an address only.
	if b, err := im.bytes(s.offset+funcs+count*2*field, field, 8); err == nil {
		t.end = text + uint64(binary.LittleEndian.Uint32(b))
		if field == 8 {
			t.end = binary.LittleEndian.Uint64(b)
		}
	}
	list := &section{name: s.name, offset: s.offset + funcs, size: count * 2 * field}
	if field == 8 {
		// The description's own start is 8 bytes there, the name follows.
		t.gofuncs += 4
		t.goLimit -= 4
	}
	return t.fill(func(visit func(symbolAt) bool) {
		_ = im.each(list, int(2*field), func(b []byte) bool {
			if field == 8 {
				return visit(symbolAt{addr: binary.LittleEndian.Uint64(b), name: binary.LittleEndian.Uint32(b[8:])})
			}
			return visit(symbolAt{addr: text + uint64(binary.LittleEndian.Uint32(b)), name: binary.LittleEndian.Uint32(b[4:])})
		})
	})
}

// goText finds where Go's text begins, which is not where .text does in programs
// that a C linker made. The header had it until Go 1.25, moduledata has it since.
func (im *image) goText(pclntab *section, header uint64) uint64 {
	if header != 0 {
		return header
	}
	if s := im.section(".go.module"); s != nil {
		if v, ok := im.pointer(s.addr + 8*moduleText); ok {
			return v
		}
	}
	if v, ok := im.pointer(pclntab.addr + 8 + 2*8); ok {
		return v
	}
	if s := im.section(".text"); s != nil {
		return s.addr
	}
	return 0
}
