package vfs

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"
)

// testFS checks what every FS promises, in the directory root.
func testFS(t *testing.T, fsys FS, root string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(root, "a", "b")
	must(fsys.MkdirAll(dir))
	must(fsys.MkdirAll(dir))
	name := filepath.Join(dir, "f")

	if _, err := fsys.Open(name); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("open a missing file: got %v, want ErrNotExist", err)
	}
	if ok, err := Exists(fsys, name); ok || err != nil {
		t.Fatalf("exists: got %v, %v", ok, err)
	}
	f, err := fsys.Create(name)
	must(err)
	_, err = f.Write([]byte("hello world"))
	must(err)
	_, err = f.WriteAt([]byte("HE"), 0)
	must(err)
	must(f.Sync())
	must(f.Truncate(5))
	_, err = f.WriteAt([]byte("!"), 7)
	must(err)
	info, err := f.Stat()
	must(err)
	if info.Size() != 8 || info.IsDir() || info.Name() != "f" {
		t.Fatalf("stat: got %v bytes, dir %v, name %q", info.Size(), info.IsDir(), info.Name())
	}
	must(f.Close())
	must(fsys.SyncDir(dir))

	if _, err := fsys.OpenFile(name, CreateNew); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("create anew: got %v, want ErrExist", err)
	}
	const want = "HEllo\x00\x00!"
	m, err := Map(fsys, name)
	must(err)
	if string(m.Bytes()) != want {
		t.Fatalf("map: got %q, want %q", m.Bytes(), want)
	}
	must(m.Close())
	must(m.Close())

	linked := filepath.Join(root, "linked")
	must(fsys.Link(name, linked))
	renamed := filepath.Join(dir, "g")
	must(fsys.Rename(name, renamed))
	for _, n := range []string{linked, renamed} {
		got, err := ReadFile(fsys, n)
		must(err)
		if string(got) != want {
			t.Fatalf("%s: got %q, want %q", n, got, want)
		}
	}
	must(WriteFile(fsys, renamed, []byte("new")))
	must(WriteFile(fsys, filepath.Join(dir, "empty"), nil))
	if m, err := Map(fsys, filepath.Join(dir, "empty")); err != nil || len(m.Bytes()) != 0 {
		t.Fatalf("map an empty file: %v, %v", m, err)
	}
	got, err := ReadFile(fsys, linked)
	must(err)
	if string(got) != want {
		t.Fatalf("a link sees the replacement: %q", got)
	}
	names, err := fsys.List(dir)
	must(err)
	if len(names) != 2 || names[0] != "empty" || names[1] != "g" {
		t.Fatalf("list: got %q", names)
	}
	if err := fsys.Remove(dir); err == nil {
		t.Fatal("a directory with files was removed by Remove")
	}

	lock := filepath.Join(root, "LOCK")
	l, err := fsys.Lock(lock)
	must(err)
	if _, err := fsys.Lock(lock); !errors.Is(err, ErrLocked) {
		t.Fatalf("second lock: got %v, want ErrLocked", err)
	}
	must(l.Close())
	l, err = fsys.Lock(lock)
	must(err)
	must(l.Close())

	must(fsys.Rename(filepath.Join(root, "a"), filepath.Join(root, "c")))
	if got, err := ReadFile(fsys, filepath.Join(root, "c", "b", "g")); err != nil || string(got) != "new" {
		t.Fatalf("in a renamed directory: %q, %v", got, err)
	}
	must(fsys.RemoveAll(filepath.Join(root, "c")))
	must(fsys.RemoveAll(filepath.Join(root, "c")))
	if ok, err := Exists(fsys, filepath.Join(root, "c", "b")); ok || err != nil {
		t.Fatalf("removed: got %v, %v", ok, err)
	}
}

func TestOS(t *testing.T) { testFS(t, OS, t.TempDir()) }
