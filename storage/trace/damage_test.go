package trace

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/block"
	"github.com/vedette-io/vedette/storage/trace/rows"
)

// rowsAt returns an offset in the rows of a block's group.
func rowsAt(t *testing.T, fs vfs.FS, dir string, page int) int64 {
	t.Helper()
	r, err := block.Open(fs, dir)
	if err != nil {
		t.Fatal(err)
	}
	off, size, ok := r.Locate("rows", page)
	if err := r.Close(); err != nil || !ok {
		t.Fatal(err, ok)
	}
	return off + size/2
}

// damage flips a byte of a block's columns file.
func damage(t *testing.T, fs vfs.FS, dir string, at int64) {
	t.Helper()
	name := filepath.Join(dir, "columns")
	b, err := vfs.ReadFile(fs, name)
	if err != nil {
		t.Fatal(err)
	}
	if at < 0 {
		at += int64(len(b))
	}
	b[at] ^= 0xff
	if err := vfs.WriteFile(fs, name, b); err != nil {
		t.Fatal(err)
	}
}

// fillApart is fill with traces that lie in one block each.
func fillApart(t *testing.T, db *DB, n int) []model {
	t.Helper()
	var out []model
	for i := range n {
		m := make(model)
		b := apart(i)
		m.add(b)
		appendAt(t, db, b, int64(i))
		mustFlush(t, db)
		out = append(out, m)
	}
	return out
}

// apart is a batch with traces that no other i has.
func apart(i int) *signal.Spans {
	var spans []testSpan
	for j := range 40 {
		id := uint64(i*100 + j + 1)
		spans = append(spans, testSpan{trace: id / 4, id: id, start: int64(id), service: "a", name: "x"})
	}
	return batch("default", spans...)
}

func checkAll(t *testing.T, db *DB, ms ...model) {
	t.Helper()
	all := make(model)
	for _, m := range ms {
		for id, spans := range m {
			all[id] = spans
		}
	}
	all.check(t, db)
}

func TestDamagedFooterIsSetAside(t *testing.T) {
	fs := vfs.NewMem()
	db := openTest(t, fs, Options{})
	ms := fillApart(t, db, 4)
	mustClose(t, db)
	dirs := blockDirs(t, fs)
	damage(t, fs, dirs[1], -100)
	r, err := Verify(fs, "/s")
	if err != nil || len(r.Problems) != 1 || !strings.Contains(r.Problems[0].Err.Error(), "checksum of directory") || r.Blocks != 3 || r.Spans != 120 {
		t.Fatalf("verify: %+v, %v", r, err)
	}
	db = openTest(t, fs, Options{})
	checkAll(t, db, ms[0], ms[2], ms[3])
	// What comes later is numbered behind the lost block, and merges do not close
	// over its place.
	b := batch("default", testSpan{trace: 1 << 40, id: 1, service: "a", name: "x"})
	last := make(model)
	last.add(b)
	appendAt(t, db, b, 4)
	mustFlush(t, db)
	if err := db.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	mustClose(t, db)
	got := blockDirs(t, fs)
	if len(got) != 3 || !strings.HasSuffix(got[1], ".corrupt") || filepath.Base(got[2]) != (block.Flushes{First: 2, Last: 4}).Name() {
		t.Fatalf("blocks: %q", got)
	}
	db = openTest(t, fs, Options{})
	checkAll(t, db, ms[0], ms[2], ms[3], last)
	mustClose(t, db)
}

func TestRepairKeepsWhatCanBeRead(t *testing.T) {
	fs := vfs.NewMem()
	db := openTest(t, fs, Options{})
	ms := fillApart(t, db, 2)
	mustClose(t, db)
	before, err := Verify(fs, "/s")
	if err != nil || len(before.Problems) != 0 || before.Spans != 80 {
		t.Fatalf("verify: %+v, %v", before, err)
	}
	dirs := blockDirs(t, fs)
	damage(t, fs, dirs[1], rowsAt(t, fs, dirs[1], 0))
	r, err := Repair(fs, "/s")
	if err != nil || len(r.Repaired) != 1 || r.LostSpans != 40 {
		t.Fatalf("repair: %+v, %v", r, err)
	}
	after, err := Verify(fs, "/s")
	if err != nil || len(after.Problems) != 0 {
		t.Fatalf("verify after the repair: %+v, %v", after, err)
	}
	db = openTest(t, fs, Options{})
	checkAll(t, db, ms[0])
	if c := db.Covered("src", "traces", 0); c != 2 {
		t.Fatalf("covered %d, want 2", c)
	}
	mustClose(t, db)
}

// A block that was set aside comes back with a repair, in its place.
func TestRepairOfBlockSetAside(t *testing.T) {
	fs := vfs.NewMem()
	db := openTest(t, fs, Options{})
	ms := fillApart(t, db, 3)
	mustClose(t, db)
	dir := blockDirs(t, fs)[1]
	if err := block.SetAside(fs, dir); err != nil {
		t.Fatal(err)
	}
	db = openTest(t, fs, Options{})
	checkAll(t, db, ms[0], ms[2])
	if err := db.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	mustClose(t, db)
	if r, err := Repair(fs, "/s"); err != nil || len(r.Repaired) != 1 || r.LostSpans != 0 {
		t.Fatalf("repair: %+v, %v", r, err)
	}
	db = openTest(t, fs, Options{})
	checkAll(t, db, ms...)
	if err := db.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := db.totals().blocks; n != 1 {
		t.Fatalf("%d blocks, want 1", n)
	}
	checkAll(t, db, ms...)
	mustClose(t, db)
}

// A block whose pages are damaged while the store runs is taken out of service
// by the merge that meets it, and the others go on.
func TestMergeQuarantines(t *testing.T) {
	fs := vfs.NewMem()
	db := openTest(t, fs, Options{})
	ms := fillApart(t, db, 3)
	mustClose(t, db)
	dir := blockDirs(t, fs)[2]
	damage(t, fs, dir, rowsAt(t, fs, dir, 0))
	db = openTest(t, fs, Options{})
	if err := db.Compact(context.Background()); !errors.Is(err, block.ErrCorruption) {
		t.Fatalf("merge of a damaged block: %v", err)
	}
	if err := db.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	checkAll(t, db, ms[0], ms[1])
	if got := db.totals(); got.blocks != 1 || got.broken != 1 {
		t.Fatalf("got %d blocks, %d set aside, want 1 and 1", got.blocks, got.broken)
	}
	mustClose(t, db)
}

// A View that meets a damaged block answers without it, says so, and the next
// maintenance takes the block out of service.
func TestViewGoesOnWithoutDamagedBlock(t *testing.T) {
	fs := vfs.NewMem()
	db := openTest(t, fs, Options{})
	ms := fillApart(t, db, 3)
	mustClose(t, db)
	dir := blockDirs(t, fs)[1]
	for page := range pagesOf(t, fs, dir, "rows") { // so that whatever is read is damaged
		damage(t, fs, dir, rowsAt(t, fs, dir, page))
	}
	db = openTest(t, fs, Options{})
	v := db.View("default", math.MinInt64, math.MaxInt64)
	var s signal.Spans
	if err := v.Trace(traceID(26), &s); err != nil || s.Len() != 0 {
		t.Fatalf("trace of a damaged block: %v, %d spans", err, s.Len())
	}
	if w := v.Warnings(); len(w) != 1 || !strings.Contains(w[0].Error(), "checksum") {
		t.Fatalf("warnings %v, want one of a checksum", w)
	}
	for _, m := range []model{ms[0], ms[2]} {
		if err := m.compare(v); err != nil {
			t.Fatal(err)
		}
	}
	v.Close()
	if err := db.Maintain(context.Background()); err != nil {
		t.Fatal(err)
	}
	checkAll(t, db, ms[0], ms[2])
	if n := db.totals().broken; n != 1 {
		t.Fatalf("%d blocks set aside, want 1", n)
	}
	mustClose(t, db)
}

func pagesOf(t *testing.T, fs vfs.FS, dir, section string) int {
	t.Helper()
	r, err := block.Open(fs, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	return r.Pages(section)
}

// Blocks of a later version are refused, not set aside: the older Vedette is
// the one that is wrong.
func TestNewerVersionIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	db := openTest(t, fs, Options{})
	fillApart(t, db, 1)
	h := newHead(db.now())
	if _, _, err := h.table.Append(batch("default", testSpan{trace: 1, id: 1})); err != nil {
		t.Fatal(err)
	}
	origin, err := json.Marshal(map[string]any{"version": currentOriginVersion + 1, "first": 1, "last": 1})
	if err != nil {
		t.Fatal(err)
	}
	_, err = rows.Write(context.Background(), fs, "/s/default/"+(block.Flushes{First: 1, Last: 1}).Name(), []rows.Source{h.table.Snapshot()}, rows.WriteOptions{Origin: origin})
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, db)
	if _, err := Open(Options{FS: fs, Dir: "/s", Config: DefaultConfig()}); !errors.Is(err, block.ErrVersion) {
		t.Fatalf("open of a newer block: %v", err)
	}
	if got := blockDirs(t, fs); len(got) != 2 {
		t.Fatalf("blocks: %q", got)
	}
}

// A file of offsets that nobody can read costs a warning; a newer one is refused.
func TestDamagedOffsets(t *testing.T) {
	for _, c := range []struct {
		content string
		want    error
	}{{"{", nil}, {`{"version":0}`, nil}, {`{"version":9}`, block.ErrVersion}} {
		fs := vfs.NewMem()
		db := openTest(t, fs, Options{})
		ms := fillApart(t, db, 1)
		mustClose(t, db)
		if err := vfs.WriteFile(fs, "/s/default/"+offsetsFile, []byte(c.content)); err != nil {
			t.Fatal(err)
		}
		db, err := Open(Options{FS: fs, Dir: "/s", Config: DefaultConfig()})
		if !errors.Is(err, c.want) {
			t.Fatalf("%s: %v, want %v", c.content, err, c.want)
		}
		if err == nil {
			checkAll(t, db, ms...)
			mustClose(t, db)
		}
	}
}

func TestDamagedOriginIsCorruption(t *testing.T) {
	for _, s := range []string{"", "{", `{"version":0}`, `{"version":1,"first":2,"last":1}`, `{"version":1,"maxArrival":-1}`, `{"version":1,"dropped":"AAAA"}`} {
		if _, err := decodeOrigin("dir", []byte(s)); !errors.Is(err, block.ErrCorruption) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestDumpNamesBlocksServicesAndSpans(t *testing.T) {
	fs := vfs.NewMem()
	db := openTest(t, fs, Options{})
	appendAt(t, db, batch("default", testSpan{trace: 1, id: 2, parent: 3, duration: 1500, service: "shop", name: "GET /cart", kind: 2, events: []string{"x"}}), 0)
	mustClose(t, db)
	var out bytes.Buffer
	if err := Dump(fs, "/s", DumpOptions{Services: true, Spans: true}, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1 spans, 1 traces", "offsets 0 to 1", "level 0, flushes 0 to 0", `service "shop"`, `server "GET /cart"`,
		`0000000000000002 0000000000000003 2023-11-14T22:13:20.000000000Z 1.5µs "shop" server "GET /cart" 0 attributes, 1 events, 0 links`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("dump lacks %q:\n%s", want, out.String())
		}
	}
}
