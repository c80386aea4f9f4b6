package symbol

import (
	"cmp"
	"io"
	"math"
	"slices"
	"sort"
)

// function is one function of a table: 12 bytes.
type function struct {
	addr uint32 // from the table's base
	size uint32 // 0: up to the next one
	name uint32 // where the name is, for the table's reader of names
}

// table is the functions of a file, by address. Names stay in the file.
type table struct {
	base      uint64
	end       uint64 // addresses from here on are not in it; 0: no such bound
	functions []function
	names     int64 // where the names begin in the file
	limit     int64 // bytes of names
	gofuncs   int64 // of a pclntab: where the records of functions begin
	goLimit   int64 // bytes of them
	debug     bool  // names are in the separate debug file
	cached    map[int]string
}

// symbolAt is a function as a section of a file tells it.
type symbolAt struct {
	addr, size uint64
	name       uint32
}

// fill takes the functions of two equal walks: the first counts them and finds
// the base, so that the second fills a slice of the right size. nil: none.
func (t *table) fill(walk func(visit func(symbolAt) bool)) *table {
	n := 0
	t.base = math.MaxUint64
	walk(func(s symbolAt) bool {
		n++
		t.base = min(t.base, s.addr)
		return n < maxSymbols
	})
	if n == 0 {
		return nil
	}
	t.functions = make([]function, 0, n)
	walk(func(s symbolAt) bool {
		if s.addr >= t.base && s.addr-t.base <= math.MaxUint32 && len(t.functions) < n {
			t.functions = append(t.functions, function{uint32(s.addr - t.base), uint32(min(s.size, math.MaxUint32)), s.name})
		}
		return len(t.functions) < n
	})
	t.sort()
	return t
}

// sort brings the functions into order, one for each address.
func (t *table) sort() {
	slices.SortFunc(t.functions, func(a, b function) int {
		return cmp.Or(cmp.Compare(a.addr, b.addr), cmp.Compare(b.size, a.size), cmp.Compare(a.name, b.name))
	})
	t.functions = slices.CompactFunc(t.functions, func(a, b function) bool { return a.addr == b.addr })
	t.cached = make(map[int]string)
}

// find gives the function that an address is in, or -1.
func (t *table) find(addr uint64) int {
	if addr < t.base || addr-t.base > math.MaxUint32 || t.end != 0 && addr >= t.end {
		return -1
	}
	a := uint32(addr - t.base)
	i := sort.Search(len(t.functions), func(i int) bool { return t.functions[i].addr > a }) - 1
	if i < 0 {
		return -1
	}
	if f := t.functions[i]; f.size != 0 && a-f.addr >= f.size {
		return -1
	}
	return i
}

// read gives the name of a function as the file has it.
func (t *table) read(r io.ReaderAt, i int) (string, bool) {
	at := int64(t.functions[i].name)
	if t.gofuncs != 0 {
		if at < 0 || at+8 > t.goLimit {
			return "", false
		}
		var b [8]byte
		if _, err := r.ReadAt(b[:], t.gofuncs+at); err != nil {
			return "", false
		}
		at = int64(uint32(b[4]) | uint32(b[5])<<8 | uint32(b[6])<<16 | uint32(b[7])<<24)
	}
	return readString(r, t.names, at, t.limit)
}

// maxName bounds a name before it is demangled.
const maxName = 4096

// readString reads a string that ends with a zero, within limit bytes from base.
func readString(r io.ReaderAt, base, at, limit int64) (string, bool) {
	if at < 0 || at >= limit {
		return "", false
	}
	var whole []byte
	buf := make([]byte, 256)
	for len(whole) < maxName {
		n, err := r.ReadAt(buf[:min(int64(len(buf)), limit-at)], base+at)
		for i, c := range buf[:n] {
			if c == 0 {
				whole = append(whole, buf[:i]...)
				return string(whole), len(whole) > 0
			}
		}
		whole = append(whole, buf[:n]...)
		at += int64(n)
		if err != nil || n == 0 || at >= limit {
			break
		}
	}
	return string(whole), len(whole) > 0
}

// bytes is what the table takes in memory.
func (t *table) bytes() int64 { return int64(cap(t.functions))*12 + 256 }
