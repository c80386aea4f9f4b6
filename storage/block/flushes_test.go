package block

import (
	"errors"
	"slices"
	"testing"

	"github.com/vedette-io/vedette/internal/vfs"
)

func TestFlushes(t *testing.T) {
	for name, want := range map[string]Flushes{
		"b-00000000-00000000-0": {}, "b-000000ff-00000100-12": {First: 255, Last: 256, Generation: 12},
	} {
		if got := want.Name(); got != name {
			t.Errorf("name of %v: got %q, want %q", want, got, name)
		}
		for _, wantAside := range []bool{false, true} {
			n := name
			if wantAside {
				n += asideSuffix
			}
			if got, aside, ok := ParseName(n); got != want || aside != wantAside || !ok {
				t.Errorf("parse %q: got %v, %t, %t, want %v", n, got, aside, ok, want)
			}
		}
	}
	for _, name := range []string{"", "b", "b-1-1-0", "c-00000000-00000000-0", "b-00000002-00000001-0", "b-00000000-00000000-x", "b-00000000-00000000-0.damaged", ".tmp-b-00000000-00000000-0"} {
		if got, _, ok := ParseName(name); ok {
			t.Errorf("parse %q: got %v, want no block", name, got)
		}
	}
	in := []Flushes{{3, 3, 0}, {1, 1, 0}, {1, 2, 0}, {4, 4, 0}, {1, 2, 1}, {2, 2, 0}, {6, 6, 0}}
	slices.SortFunc(in, Flushes.Compare)
	var kept []Flushes
	for _, f := range in {
		if n := len(kept); n == 0 || !kept[n-1].Replaces(f) {
			kept = append(kept, f)
		}
	}
	if want := []Flushes{{1, 2, 1}, {3, 3, 0}, {4, 4, 0}, {6, 6, 0}}; !slices.Equal(kept, want) {
		t.Errorf("kept %v, want %v", kept, want)
	}
	if !kept[1].Follows(kept[0]) || kept[3].Follows(kept[2]) {
		t.Error("follows: 3 is behind 2, and 6 not behind 4")
	}
}

// A dropped block goes when the last one who uses it lets go; a linked copy stays,
// and one that is set aside can be told to be replaced.
func TestSharedAndLinked(t *testing.T) {
	fs := vfs.NewMem()
	write(t, fs, "/b-00000001-00000001-0", testPages())
	if err := Link(fs, "/b-00000001-00000001-0", "/copy/b-00000001-00000001-0"); err != nil {
		t.Fatal(err)
	}
	r, err := Open(fs, "/b-00000001-00000001-0")
	if err != nil {
		t.Fatal(err)
	}
	var s Shared
	s.Share(fs, r.Dir(), r)
	s.Pin()
	if err := s.Drop(); err != nil {
		t.Fatal(err)
	}
	if got := r.Verify(); len(got) != 0 {
		t.Fatalf("a block that is still in use: %v", got)
	}
	if err := s.Unpin(); err != nil {
		t.Fatal(err)
	}
	if there, err := vfs.Exists(fs, s.Dir()); there || err != nil {
		t.Fatalf("a dropped block: there %t, %v", there, err)
	}
	dir := "/copy/b-00000001-00000001-0"
	if err := errors.Join(SetAside(fs, dir), SetReplaced(fs, dir+asideSuffix)); err != nil {
		t.Fatal(err)
	}
	names, err := fs.CrashClone(1).List("/copy")
	if err != nil || !slices.Equal(names, []string{"b-00000001-00000001-0.damaged"}) {
		t.Fatalf("after a crash: %q, %v", names, err)
	}
}

func TestAddSource(t *testing.T) {
	a, b := SourceKey{"s", "t", 0}, SourceKey{"s", "t", 1}
	var got []Source
	for _, s := range []Source{a.Range(5, 9), b.Range(0, 1), a.Range(2, 6), a.Range(9, 12)} {
		got = AddSource(got, s)
	}
	if want := []Source{a.Range(2, 12), b.Range(0, 1)}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
