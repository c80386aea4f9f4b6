package tls

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// What a probe of a function means to the kernel's programs.
type function int

const (
	sslRead function = iota
	sslWrite
	sslReadEx
	sslWriteEx
	sslHandshake
	sslFree
	sslNew
	sslReadEarly
	sslWriteEarly
	bioRead
	goRead
	goWrite
	goHandshake
	functions
)

// opensslNames are functions of OpenSSL, and of those that have its interface.
var opensslNames = [...]string{
	sslRead: "SSL_read", sslWrite: "SSL_write", sslReadEx: "SSL_read_ex", sslWriteEx: "SSL_write_ex",
	sslHandshake: "SSL_do_handshake", sslFree: "SSL_free", sslNew: "SSL_new",
	sslReadEarly: "SSL_read_early_data", sslWriteEarly: "SSL_write_early_data",
}

// bioReadName is OpenSSL's function that reads from what a connection was handed.
const bioReadName = "BIO_read"

// place is where a function is in its file.
type place struct {
	function function
	begin    uint64   // offset in the file
	enter    uint64   // of the instruction to watch for its beginning
	returns  []uint64 // of those to watch for its end; none: a uretprobe does
}

// enters says whether the beginning of the function is watched.
func (p *place) enters() bool { return entries[p.function] != "" }

// ends says whether the end of the function is watched.
func (p *place) ends() bool { return ends[p.function] != "" }

// found is what inspect finds in a file.
type found struct {
	library string // OpenSSL, Go
	places  []place
}

// offsets is how many instructions of a file are watched.
func (f *found) offsets() int {
	n := 0
	for _, p := range f.places {
		n += len(p.returns)
		if p.enters() {
			n++
		}
		if p.ends() && len(p.returns) == 0 {
			n++
		}
	}
	return n
}

var errNoTLS = errors.New("find TLS: neither OpenSSL's functions nor Go's are in the file, or its symbols are not")

// image is an ELF file that is read piece by piece, for programs are large and
// little of them is of interest.
type image struct {
	*elf.File
	r io.ReaderAt
}

// openImage reads the headers of a file.
func openImage(r io.ReaderAt) (*image, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("read ELF headers: %w", err)
	}
	if f.Class != elf.ELFCLASS64 || f.Data != elf.ELFDATA2LSB || f.Machine != machine {
		return nil, fmt.Errorf("read ELF headers: got %v %v, want %v", f.Machine, f.Class, machine)
	}
	return &image{File: f, r: r}, nil
}

// inspectMemory finds bioRead, or gives errNoTLS.
func inspectMemory(r io.ReaderAt) (place, error) {
	im, err := openImage(r)
	if err != nil {
		return place{}, err
	}
	addresses, err := im.symbols([]string{bioReadName})
	if err != nil {
		return place{}, err
	}
	p, ok := im.cPlace(bioRead, addresses[bioReadName])
	if !ok {
		return place{}, errNoTLS
	}
	return p, nil
}

// inspect finds the functions to watch in an executable or a library.
func inspect(r io.ReaderAt) (*found, error) {
	im, err := openImage(r)
	if err != nil {
		return nil, err
	}
	if pclntab := im.pclntab(); pclntab != nil {
		places, err := im.goPlaces(pclntab)
		if err == nil {
			return &found{library: "Go", places: places}, nil
		}
		if !errors.Is(err, errNoTLS) {
			return nil, err
		}
	}
	addresses, err := im.symbols(opensslNames[:])
	if err != nil {
		return nil, err
	}
	if addresses["SSL_read"].address == 0 || addresses["SSL_write"].address == 0 {
		return nil, errNoTLS
	}
	out := &found{library: "OpenSSL"}
	for fn, name := range opensslNames {
		if p, ok := im.cPlace(function(fn), addresses[name]); ok {
			out.places = append(out.places, p)
		}
	}
	if len(out.places) == 0 {
		return nil, errNoTLS
	}
	return out, nil
}

// symbol is where a function is.
type symbol struct{ address, size uint64 }

// cPlace finds what to watch of a C function.
func (im *image) cPlace(fn function, s symbol) (place, bool) {
	offset, ok := im.offset(s.address)
	if s.address == 0 || !ok {
		return place{}, false
	}
	p := place{function: fn, begin: offset, enter: offset}
	if (fn < sslHandshake || fn == bioRead) && s.size > 0 && s.size <= maxCode {
		code := make([]byte, s.size)
		if _, err := im.r.ReadAt(code, int64(offset)); err != nil {
			return p, true
		}
		// A uretprobe is placed on the first instruction, so that another one is
		// cheaper only if there is none.
		for _, at := range cLeaves(code) {
			p.returns = append(p.returns, offset+uint64(at))
		}
		if len(p.returns) > 0 {
			p.enter += uint64(cEntry(code))
		}
	}
	return p, true
}

// offset is where the code at an address is in the file.
func (im *image) offset(address uint64) (uint64, bool) {
	for _, p := range im.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && address >= p.Vaddr && address-p.Vaddr < p.Filesz {
			return address - p.Vaddr + p.Off, true
		}
	}
	return 0, false
}

// symbols gives the addresses of functions, of those that are defined here.
func (im *image) symbols(names []string) (map[string]symbol, error) {
	addresses := make(map[string]symbol)
	for _, s := range im.Sections {
		if s.Type != elf.SHT_DYNSYM && s.Type != elf.SHT_SYMTAB || int(s.Link) >= len(im.Sections) || s.Flags&elf.SHF_COMPRESSED != 0 {
			continue
		}
		at, err := positions(im.Sections[s.Link], im.Sections[s.Link].FileSize, names)
		if err != nil {
			return nil, fmt.Errorf("read section %s: %w", im.Sections[s.Link].Name, err)
		}
		if len(at) == 0 {
			continue
		}
		w := window{r: im.r}
		for off := uint64(0); off+24 <= s.FileSize; off += 24 {
			b, err := w.bytes(s.Offset+off, 24)
			if err != nil {
				return nil, fmt.Errorf("read section %s: %w", s.Name, err)
			}
			name, known := at[binary.LittleEndian.Uint32(b)]
			if known && b[4]&15 == uint8(elf.STT_FUNC) && binary.LittleEndian.Uint16(b[6:]) != 0 {
				addresses[name] = symbol{binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])}
			}
		}
	}
	return addresses, nil
}

// positions gives the offsets below size at which a string lies that is one of
// names, up to its zero; names that end alike may share their ends.
func positions(r io.ReaderAt, size uint64, names []string) (map[uint32]string, error) {
	at := make(map[uint32]string)
	const chunk, overlap = 256 << 10, 128
	buf := make([]byte, chunk+overlap)
	for base := uint64(0); base < size; base += chunk {
		n := min(uint64(len(buf)), size-base)
		if _, err := r.ReadAt(buf[:n], int64(base)); err != nil {
			return nil, err
		}
		for _, name := range names {
			needle := append([]byte(name), 0)
			for from := 0; ; {
				i := bytes.Index(buf[from:n], needle)
				if i < 0 || base+uint64(from+i) > 1<<32-1 {
					break
				}
				at[uint32(base)+uint32(from+i)] = name
				from += i + 1
			}
		}
	}
	return at, nil
}

// window reads a file from low to high offsets, much at a time.
type window struct {
	r   io.ReaderAt
	buf []byte
	at  uint64
}

// bytes gives n bytes at an offset, until the next call.
func (w *window) bytes(offset uint64, n int) ([]byte, error) {
	const size = 64 << 10
	if offset < w.at || offset+uint64(n) > w.at+uint64(len(w.buf)) {
		if w.buf == nil {
			w.buf = make([]byte, size)
		}
		w.buf = w.buf[:size]
		got, err := w.r.ReadAt(w.buf, int64(offset))
		w.buf, w.at = w.buf[:got], offset
		if got < n {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return w.buf[offset-w.at:][:n], nil
}
