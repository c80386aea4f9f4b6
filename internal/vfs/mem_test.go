package vfs

import (
	"bytes"
	"errors"
	"syscall"
	"testing"
)

func TestMem(t *testing.T) { testFS(t, NewMem(), "/root") }

func TestFaultyWithoutFaults(t *testing.T) {
	testFS(t, Faulty(NewMem(), func(Op) error { return nil }), "/root")
}

// crashes calls check with many crash clones.
func crashes(t *testing.T, m *Mem, check func(c *Mem)) {
	t.Helper()
	for seed := range uint64(200) {
		check(m.CrashClone(seed))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestCrashBytes(t *testing.T) {
	m := NewMem()
	f, err := m.Create("f")
	if err != nil {
		t.Fatal(err)
	}
	synced := bytes.Repeat([]byte{1}, 3*sectorBytes+100)
	_, _ = f.Write(synced)
	_ = f.Sync()
	_ = m.SyncDir("/")
	_, _ = f.Write(bytes.Repeat([]byte{2}, 2*sectorBytes))
	_, _ = f.WriteAt(bytes.Repeat([]byte{3}, 10), 0)

	sizes, torn, first := map[int]bool{}, false, map[byte]bool{}
	crashes(t, m, func(c *Mem) {
		got, err := ReadFile(c, "f")
		if err != nil || len(got) < len(synced) {
			t.Errorf("got %d bytes, %v; %d were synced", len(got), err, len(synced))
			return
		}
		if !bytes.Equal(got[sectorBytes:3*sectorBytes], synced[sectorBytes:3*sectorBytes]) {
			t.Error("a synced sector that nobody wrote to has changed")
		}
		if !bytes.Equal(got[3*sectorBytes:len(synced)], synced[3*sectorBytes:]) {
			t.Error("synced bytes of a sector that was appended to have changed")
		}
		sizes[len(got)] = true
		first[got[0]] = true
		tail := got[len(synced):]
		torn = torn || (bytes.Contains(tail, []byte{2}) && bytes.Contains(tail, []byte{0}))
	})
	if len(sizes) < 3 || !torn || !first[1] || !first[3] {
		t.Fatalf("too little happens: %d sizes, torn %v, overwritten %v", len(sizes), torn, first)
	}
}

func TestCrashTruncate(t *testing.T) {
	m := NewMem()
	f, _ := m.Create("f")
	_ = m.SyncDir("/")
	_, _ = f.Write(bytes.Repeat([]byte{1}, 2000))
	_ = f.Sync()
	_ = f.Truncate(100)
	sizes := map[int]bool{}
	crashes(t, m, func(c *Mem) {
		got, err := ReadFile(c, "f")
		if err != nil || !bytes.Equal(got, bytes.Repeat([]byte{1}, len(got))) {
			t.Errorf("got %v, %v", got, err)
		}
		sizes[len(got)] = true
	})
	if !sizes[100] || !sizes[2000] {
		t.Fatalf("sizes after an unsynced truncate: %v", sizes)
	}
	_ = f.Sync()
	crashes(t, m, func(c *Mem) {
		if got, _ := ReadFile(c, "f"); len(got) != 100 {
			t.Errorf("got %d bytes after a synced truncate", len(got))
		}
	})
}

func TestCrashNames(t *testing.T) {
	m := NewMem()
	if err := m.MkdirAll("d/e"); err != nil {
		t.Fatal(err)
	}
	write := func(name, data string) {
		t.Helper()
		if err := writeSynced(m, name, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	write("d/old", "old")
	write("d/moved", "moved")
	_ = m.SyncDir("d")
	write("d/new", "new")
	write("d/tmp", "replaced")
	_ = m.Rename("d/tmp", "d/old")
	_ = m.Rename("d/moved", "d/e/moved")

	seen := map[string]int{}
	crashes(t, m, func(c *Mem) {
		if got, err := ReadFile(c, "d/old"); err != nil || (string(got) != "old" && string(got) != "replaced") {
			t.Errorf("replaced name: got %q, %v", got, err)
		} else {
			seen[string(got)]++
		}
		here, _ := Exists(c, "d/moved")
		there, _ := Exists(c, "d/e/moved")
		if here == there {
			t.Errorf("half a rename: old name %v, new name %v", here, there)
		}
		if ok, _ := Exists(c, "d/new"); ok {
			seen["new"]++
		}
	})
	if seen["old"] == 0 || seen["replaced"] == 0 || seen["new"] == 0 || seen["new"] == 200 {
		t.Fatalf("too little happens: %v", seen)
	}
	_ = m.SyncDir("d/e") // takes the rename along, and nothing else of d
	crashes(t, m, func(c *Mem) {
		if ok, _ := Exists(c, "d/e/moved"); !ok {
			t.Error("a synced rename was lost")
		}
	})
	_ = m.SyncDir("d")
	crashes(t, m, func(c *Mem) {
		if got, _ := ReadFile(c, "d/old"); string(got) != "replaced" {
			t.Errorf("after SyncDir: got %q", got)
		}
	})
}

func TestFailedSyncLosesBytes(t *testing.T) {
	m := NewMem()
	fail := true
	fsys := Faulty(m, func(op Op) error {
		if op.Kind == OpSync && fail {
			return syscall.EIO
		}
		return nil
	})
	f, _ := fsys.Create("f")
	_ = m.SyncDir("/")
	_, _ = f.Write(bytes.Repeat([]byte{1}, sectorBytes))
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("sync: got %v, want EIO", err)
	}
	fail = false
	_, _ = f.Write(bytes.Repeat([]byte{2}, sectorBytes))
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	crashes(t, m, func(c *Mem) {
		got, _ := ReadFile(c, "f")
		if len(got) != 2*sectorBytes || got[0] != 0 || got[sectorBytes] != 2 {
			t.Errorf("got %d bytes, first %d, second half %d", len(got), got[0], got[sectorBytes])
		}
	})
}

func TestShortWrite(t *testing.T) {
	m := NewMem()
	fsys := Faulty(m, func(op Op) error {
		if op.Kind == OpWrite {
			return &ShortWrite{N: 3, Err: syscall.ENOSPC}
		}
		return nil
	})
	f, _ := fsys.Create("f")
	n, err := f.Write([]byte("hello"))
	if n != 3 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %d, %v", n, err)
	}
	if got, _ := ReadFile(m, "f"); string(got) != "hel" {
		t.Fatalf("got %q", got)
	}
}
