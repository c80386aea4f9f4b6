package symbol

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

// Any bytes may be mapped executable by somebody.
func FuzzELF(f *testing.F) {
	for _, name := range []string{"small-amd64", "small-arm64", "small-amd64-stripped", "small-amd64.debug"} {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint64(0x260))
	}
	f.Add(goTable(), uint64(0x1008))
	f.Fuzz(func(t *testing.T, b []byte, offset uint64) {
		im, err := readImage(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		im.debugLink()
		im.pointer(offset)
		for _, table := range []*table{im.symbols(".symtab"), im.symbols(".dynsym"), im.gotable()} {
			if table == nil {
				continue
			}
			if len(table.functions)*8 > len(b) {
				t.Fatalf("%d functions of %d bytes", len(table.functions), len(b))
			}
			if at, ok := im.address(offset); ok {
				if i := table.find(at); i >= 0 {
					name, _ := table.read(im.r, i)
					shown(t, readable(name))
				}
			}
		}
	})
}

// goTable is an ELF file with a pclntab of two functions.
func goTable() []byte {
	le := func(v uint64, n int) (b []byte) {
		for range n {
			b = append(b, byte(v))
			v >>= 8
		}
		return b
	}
	var p []byte
	p = append(p, le(go120Magic, 4)...)
	p = append(p, 0, 0, 1, 8)
	for _, v := range []uint64{2, 0, 0x1000, 72, 88, 88, 88, 88} {
		p = append(p, le(v, 8)...)
	}
	p = append(p, "main.a\x00main.bb\x00\x00"...)
	for _, v := range []uint64{0, 20, 0x10, 28, 0x20} { // two records and the end
		p = append(p, le(v, 4)...)
	}
	for _, v := range []uint64{0, 0, 0x10, 7} {
		p = append(p, le(v, 4)...)
	}
	const at = elfHeaderSize + segmentSize + 3*sectionSize
	names := "\x00.gopclntab\x00.shstrtab\x00"
	h := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...)
	for _, f := range [][2]uint64{{2, 2}, {62, 2}, {1, 4}, {0x1000, 8}, {64, 8}, {64 + segmentSize, 8}, {0, 4}, {64, 2}, {segmentSize, 2}, {1, 2}, {sectionSize, 2}, {3, 2}, {2, 2}} {
		h = append(h, le(f[0], int(f[1]))...)
	}
	for _, v := range [][2]uint64{{1, 4}, {5, 4}, {0, 8}, {0, 8}, {0, 8}, {0x4000, 8}, {0x4000, 8}, {0x1000, 8}} {
		h = append(h, le(v[0], int(v[1]))...)
	}
	h = append(h, make([]byte, sectionSize)...)
	for _, s := range [][3]uint64{{1, at, uint64(len(p))}, {12, at + uint64(len(p)), uint64(len(names))}} {
		for _, v := range [][2]uint64{{s[0], 4}, {1, 4}, {0, 8}, {0, 8}, {s[1], 8}, {s[2], 8}, {0, 4}, {0, 4}, {0, 8}, {0, 8}} {
			h = append(h, le(v[0], int(v[1]))...)
		}
	}
	return append(append(h, p...), names...)
}

func TestGoTableByHand(t *testing.T) {
	b := goTable()
	im, err := readImage(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	table := im.gotable()
	if table == nil {
		t.Fatal("no table")
	}
	for addr, want := range map[uint64]string{0x1000: "main.a", 0x100f: "main.a", 0x1010: "main.bb", 0x101f: "main.bb"} {
		if got, _ := table.read(im.r, table.find(addr)); got != want {
			t.Errorf("%#x: got %q, want %q", addr, got, want)
		}
	}
	if i := table.find(0x1020); i >= 0 {
		t.Errorf("behind the end: got function %d", i)
	}
}

func FuzzMaps(f *testing.F) {
	f.Add([]byte("55d0c0000000-55d0c0010000 r-xp 00002000 fe:0a 325835     /usr/bin/true\n"), uint64(0x55d0c0000001))
	f.Add([]byte("1000-2000 r-xp 0 0:0 0\n1800-3000 r-xp 0 0:0 0 [vdso]\n"), uint64(0x1900))
	f.Fuzz(func(t *testing.T, b []byte, addr uint64) {
		if m := mappingAt(parseMaps(b), addr); m != nil {
			if addr < m.start || addr >= m.end {
				t.Fatalf("%#x is not in %+v", addr, m)
			}
			shown(t, m.object())
		}
	})
}

func FuzzPerfMap(f *testing.F) {
	f.Add([]byte("1000 10 first\n2000 20 second\n"), uint64(0x1001))
	f.Fuzz(func(t *testing.T, b []byte, addr uint64) {
		p := &perfMap{}
		r := bytes.NewReader(b)
		if err := p.extend(r, int64(len(b))); err != nil {
			t.Fatal(err)
		}
		if p.read > int64(len(b)) {
			t.Fatalf("read %d of %d bytes", p.read, len(b))
		}
		if e, ok := p.find(addr); ok {
			name, _ := p.name(r, e)
			shown(t, Clean(name))
		}
	})
}

func FuzzKernel(f *testing.F) {
	f.Add([]byte("ffffffff81001000 T do_syscall_64\nffffffffc0001000 t nf_hook\t[nf_tables]\n"), uint64(0xffffffff81001001))
	f.Fuzz(func(t *testing.T, b []byte, addr uint64) {
		k, err := parseKernel(bytes.NewReader(b))
		if err != nil {
			return
		}
		name, _ := k.find(addr)
		shown(t, name)
	})
}

func FuzzReadable(f *testing.F) {
	for _, s := range []string{"_ZN4node5StartEiPPc", "_RNvCs1234_7mycrate3foo", "a;b\n", "memcpy@@GLIBC_2.14"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) <= maxName {
			shown(t, readable(s))
		}
	})
}

// shown wants a name that is fit to be shown.
func shown(t *testing.T, name string) {
	t.Helper()
	if !utf8.ValidString(name) || strings.IndexFunc(name, unfit) >= 0 || len(name) > 3*maxShown {
		t.Fatalf("%q is not fit", name)
	}
}
