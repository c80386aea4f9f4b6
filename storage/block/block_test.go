package block

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vedette-io/vedette/internal/vfs"
)

func write(t testing.TB, fs vfs.FS, dir string, pages map[string][][]byte) {
	t.Helper()
	w, err := Create(fs, dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, ps := range pages {
		for i, p := range ps {
			add := w.Page
			if i%2 == 1 {
				add = w.CompressedPage
			}
			if n := add(name, p); n != i {
				t.Fatalf("page %d, want %d", n, i)
			}
		}
	}
	if err := w.Close([]byte(`{"a":1}`)); err != nil {
		t.Fatal(err)
	}
}

func testPages() map[string][][]byte {
	rng := rand.New(rand.NewPCG(1, 1))
	pages := map[string][][]byte{}
	for s := range 3 {
		name := fmt.Sprintf("section %d", s)
		for i := range 20 {
			p := bytes.Repeat([]byte{byte(i)}, rng.IntN(200_000))
			if i%4 == 3 {
				for j := range p {
					p[j] = byte(rng.Uint32())
				}
			}
			pages[name] = append(pages[name], p)
		}
	}
	return pages
}

func TestRoundTrip(t *testing.T) {
	fs := vfs.NewMem()
	pages := testPages()
	write(t, fs, "/b", pages)
	r, err := Open(fs, "/b")
	if err != nil {
		t.Fatal(err)
	}
	if string(r.Meta()) != `{"a":1}` {
		t.Fatalf("meta %q", r.Meta())
	}
	var buf []byte
	for name, ps := range pages {
		if r.Pages(name) != len(ps) {
			t.Fatalf("%d pages, want %d", r.Pages(name), len(ps))
		}
		for i, want := range ps {
			var got []byte
			if got, buf, err = r.Page(name, i, buf); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("page %d of %s: %d bytes, %v, want %d", i, name, len(got), err, len(want))
			}
		}
	}
	if errs := r.Verify(); len(errs) > 0 {
		t.Fatal(errs)
	}
	if _, _, err := r.Page("nothing", 0, nil); !errors.Is(err, ErrCorruption) {
		t.Fatalf("page of no section: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

// Every byte of the file is covered: flipping any one is noticed by Open or by
// Verify, and named with block and offset.
func TestEveryByteIsChecked(t *testing.T) {
	fs := vfs.NewMem()
	write(t, fs, "/b", map[string][][]byte{"x": {[]byte("some bytes"), bytes.Repeat([]byte("z"), 500)}, "y": {{1}}})
	good, err := vfs.ReadFile(fs, "/b/columns")
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x55
		r, err := parse("/b", bad)
		if err == nil {
			errs := r.Verify()
			if len(errs) == 0 {
				t.Fatalf("byte %d of %d: damage was not noticed", i, len(good))
			}
			err = errs[0]
		}
		if !errors.Is(err, ErrVersion) && (!errors.Is(err, ErrCorruption) || !strings.Contains(err.Error(), "block /b")) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	for n := range good {
		if _, err := parse("/b", good[:n]); !errors.Is(err, ErrCorruption) {
			t.Fatalf("first %d bytes: %v", n, err)
		}
	}
}

func TestNewerVersionIsRefusedByName(t *testing.T) {
	fs := vfs.NewMem()
	write(t, fs, "/b", nil)
	b, err := vfs.ReadFile(fs, "/b/columns")
	if err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(b[len(b)-12:], currentVersion+1)
	if _, err := parse("/b", b); !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "version 2, want at most 1") {
		t.Fatal(err)
	}
}

func TestFooterSize(t *testing.T) {
	if b := appendFooter(nil, footer{}); len(b) != footerSize || footerSize != 32 {
		t.Fatalf("footer has %d bytes, want 32", len(b))
	}
}

func TestUnfinishedBlockLeavesNothing(t *testing.T) {
	fs := vfs.NewMem()
	if err := fs.MkdirAll("/w"); err != nil {
		t.Fatal(err)
	}
	w, err := Create(fs, "/w/b", Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.Page("x", []byte("1"))
	if err := RemoveTemporary(fs, "/w"); err != nil {
		t.Fatal(err)
	}
	w.Abort()
	if names, _ := fs.List("/w"); len(names) != 0 {
		t.Fatalf("left %q", names)
	}
}

// FuzzParse opens hostile files: a reader or an error, and reads that end.
func FuzzParse(f *testing.F) {
	fs := vfs.NewMem()
	write(f, fs, "/b", map[string][][]byte{"x": {[]byte("some bytes"), bytes.Repeat([]byte("z"), 500)}})
	b, err := vfs.ReadFile(fs, "/b/columns")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parse("/b", b); err == nil {
			r.Verify()
		}
	})
}

// FuzzDirectory decodes hostile directories, which the checksum hides from
// FuzzParse.
func FuzzDirectory(f *testing.F) {
	f.Add(appendDirectory(nil, []section{{name: "x", pages: []page{{offset: 8, stored: 5, raw: 5}, {offset: 17, stored: 6, raw: 90, compressed: true}}}}), int64(100))
	f.Fuzz(func(t *testing.T, b []byte, limit int64) {
		if limit < 0 {
			return
		}
		sections, err := decodeDirectory(b, limit)
		if err != nil {
			return
		}
		for _, s := range sections {
			for _, p := range s.pages {
				if p.offset < int64(len(magic)) || p.offset+int64(p.stored)+crcSize > limit {
					t.Fatalf("page at %d of %d bytes reaches over %d", p.offset, p.stored, limit)
				}
			}
		}
	})
}

// A file that is cut short, or that the disk cannot read, while it is mapped is
// damage, too, and does not end the process.
func TestFileThatBecomesUnreadable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "b")
	pages := testPages()
	write(t, vfs.OS, dir, pages)
	r, err := Open(vfs.OS, dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, columnsFile), 0); err != nil {
		t.Skip(err) // a system that does not cut what is mapped
	}
	for name := range pages {
		if _, _, err := r.Page(name, 1, nil); !errors.Is(err, ErrCorruption) {
			t.Errorf("page of a file without bytes: %v", err)
		}
	}
	if _, err := parse(dir, r.data); !errors.Is(err, ErrCorruption) {
		t.Errorf("footer of a file without bytes: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, columnsFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(vfs.OS, dir); !errors.Is(err, ErrCorruption) {
		t.Errorf("block without a file: %v", err)
	}
}
