package metric

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	promlabels "github.com/prometheus/prometheus/model/labels"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/block"
)

// fill writes n flushes of samples of 40 series and returns the model of them.
func fill(t *testing.T, db *DB, flushes int) *model {
	t.Helper()
	m := &model{floats: map[string]map[int64]float64{}, hists: map[string]map[int64]bool{}, starts: map[string]map[int64]int64{}, newest: map[string]int64{}}
	for f := range flushes {
		var bb batchBuilder
		for i := range 40 {
			ls := promlabels.FromStrings("__name__", "m", "i", fmt.Sprint(i+f)) // one new series each flush
			bb.series(ls)
			ts, v := t0+int64(f)*1000, float64(i*f)
			bb.float(ts, v, 0)
			if m.floats[ls.String()] == nil {
				m.floats[ls.String()] = map[int64]float64{}
			}
			m.floats[ls.String()][ts] = v
		}
		bb.appendTo(t, db, int64(f))
		if err := db.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func blockDirs(t *testing.T, fs vfs.FS, dir string) []string {
	t.Helper()
	var out []string
	if err := eachBlockDir(fs, dir, func(path string, _ bool) error { out = append(out, path); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

// pageAt returns an offset in the first page of a section of a block.
func pageAt(t *testing.T, fs vfs.FS, dir, section string) int64 {
	t.Helper()
	b, err := openBlock(fs, dir)
	if err != nil {
		t.Fatal(err)
	}
	off, size, ok := b.r.Locate(section, 0)
	if err := b.Unpin(); err != nil || !ok {
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

func TestDamagedFooterIsSetAside(t *testing.T) {
	fs := vfs.NewMem()
	db := openTest(t, fs, "/s", testConfig())
	m := fill(t, db, 4)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	dirs := blockDirs(t, fs, "/s")
	damage(t, fs, dirs[1], -100)
	r, err := Verify(fs, "/s")
	if err != nil || len(r.Problems) != 1 || !strings.Contains(r.Problems[0].Err.Error(), "checksum of directory") {
		t.Fatalf("verify: %+v, %v", r, err)
	}
	db = openTest(t, fs, "/s", testConfig())
	for _, ss := range m.floats {
		delete(ss, t0+1000) // flush 1 is lost, and with it the definition of its new series
	}
	delete(m.floats, `{__name__="m", i="40"}`)
	m.check(t, db, math.MinInt64, math.MaxInt64)
	// What comes later is numbered behind the lost block.
	var bb batchBuilder
	bb.series(promlabels.FromStrings("__name__", "m", "i", "new"))
	bb.float(t0+10_000, 1, 0)
	bb.appendTo(t, db, 4)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	m.floats[`{__name__="m", i="new"}`] = map[int64]float64{t0 + 10_000: 1}
	db = openTest(t, fs, "/s", testConfig())
	m.check(t, db, math.MinInt64, math.MaxInt64)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if got := blockDirs(t, fs, "/s"); len(got) != 5 || !strings.HasSuffix(got[1], ".corrupt") {
		t.Fatalf("blocks: %q", got)
	}
}

func TestRepairKeepsWhatCanBeRead(t *testing.T) {
	fs := vfs.NewMem()
	db := openTest(t, fs, "/s", testConfig())
	m := fill(t, db, 2)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := Verify(fs, "/s")
	if err != nil || len(before.Problems) != 0 || before.Samples != 80 {
		t.Fatalf("verify: %+v, %v", before, err)
	}
	dirs := blockDirs(t, fs, "/s")
	damage(t, fs, dirs[1], pageAt(t, fs, dirs[1], sectionChunks))
	r, err := Repair(fs, "/s")
	if err != nil || len(r.Repaired) != 1 || r.LostEntries == 0 {
		t.Fatalf("repair: %+v, %v", r, err)
	}
	after, err := Verify(fs, "/s")
	if err != nil || len(after.Problems) != 0 {
		t.Fatalf("verify after the repair: %+v, %v", after, err)
	}
	for _, ss := range m.floats {
		delete(ss, t0+1000)
	}
	db = openTest(t, fs, "/s", testConfig())
	m.check(t, db, math.MinInt64, math.MaxInt64)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDumpNamesSeriesAndSamples(t *testing.T) {
	fs := vfs.NewMem()
	db := openTest(t, fs, "/s", testConfig())
	fill(t, db, 1)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Dump(fs, "/s", DumpOptions{Series: true, Samples: true}, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"40 samples", `{__name__="m", i="7"} floats: 1 from 2023-11-14T22:13:20.000Z`, "offsets 0 to 1", "section chunks"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("dump lacks %q:\n%s", want, out.String())
		}
	}
}

// A block whose pages are damaged while the store runs is taken out of service
// by the merge that meets it, and the others go on.
func TestMergeQuarantines(t *testing.T) {
	fs := vfs.NewMem()
	db := openTest(t, fs, "/s", testConfig())
	m := fill(t, db, 3)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	dir := blockDirs(t, fs, "/s")[2]
	damage(t, fs, dir, pageAt(t, fs, dir, sectionChunks))
	db = openTest(t, fs, "/s", testConfig())
	if err := db.Compact(context.Background()); err == nil {
		t.Fatal("merge of a damaged block: no error")
	}
	if err := db.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, ss := range m.floats {
		delete(ss, t0+2000)
	}
	delete(m.floats, `{__name__="m", i="41"}`)
	m.check(t, db, math.MinInt64, math.MaxInt64)
	if got := db.totals(); got.blocks != 1 || got.broken != 1 {
		t.Fatalf("got %d blocks, %d set aside, want 1 and 1", got.blocks, got.broken)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// A block that was set aside keeps its place: merges do not close over it, what
// comes later has other numbers and other series, and a repair brings back what can
// be read of it.
func TestSetAsideKeepsItsPlace(t *testing.T) {
	for _, broken := range []int{1, 3} {
		t.Run(fmt.Sprint(broken), func(t *testing.T) {
			fs := vfs.NewMem()
			db := openTest(t, fs, "/s", testConfig())
			m := &model{floats: map[string]map[int64]float64{}}
			ctx := context.Background()
			flush := func(db *DB, f int) {
				t.Helper()
				var bb batchBuilder
				for _, name := range []string{"all", fmt.Sprint("only", f)} {
					ls := promlabels.FromStrings("__name__", name)
					i := bb.series(ls)
					bb.float(t0+int64(f)*1000, float64(f), 0)
					bb.b.Exemplars = append(bb.b.Exemplars, signal.Exemplar{Series: i, Time: t0 + int64(f)*1000})
					if m.floats[ls.String()] == nil {
						m.floats[ls.String()] = map[int64]float64{}
					}
					m.floats[ls.String()][t0+int64(f)*1000] = float64(f)
				}
				bb.appendTo(t, db, int64(f))
				if err := db.Flush(ctx); err != nil {
					t.Fatal(err)
				}
			}
			for f := range 4 {
				flush(db, f)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			dir := blockDirs(t, fs, "/s")[broken]
			damage(t, fs, dir, pageAt(t, fs, dir, sectionExemplars))
			db = openTest(t, fs, "/s", testConfig())
			if err := db.Compact(ctx); err == nil {
				t.Fatal("merge of a damaged block: no error")
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			db = openTest(t, fs, "/s", testConfig())
			flush(db, 4)
			if err := db.Compact(ctx); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			r, err := Repair(fs, "/s")
			if err != nil || len(r.Repaired) != 1 || r.LostEntries != 0 {
				t.Fatalf("repair: %+v, %v", r, err)
			}
			db = openTest(t, fs, "/s", testConfig())
			m.check(t, db, math.MinInt64, math.MaxInt64)
			if err := db.Compact(ctx); err != nil {
				t.Fatal(err)
			}
			m.check(t, db, math.MinInt64, math.MaxInt64)
			if got := db.totals(); got.blocks != 1 || got.broken != 0 {
				t.Errorf("got %d blocks, %d set aside, want 1 and none", got.blocks, got.broken)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Where stores gave the numbers of a block that was set aside to another, or merged
// over its place, a repair leaves it alone: it would take what came later with it.
func TestRepairLeavesTakenPlaces(t *testing.T) {
	for name, broken := range map[string]int{"given again": 2, "merged over": 1} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			ctx := context.Background()
			db := openTest(t, fs, "/s", testConfig())
			for i := range 3 {
				one(fmt.Sprint("m", i), t0+int64(i), float64(i)).appendTo(t, db, int64(i))
				if err := db.Flush(ctx); err != nil {
					t.Fatal(err)
				}
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			dir := blockDirs(t, fs, "/s")[broken]
			if err := block.Link(fs, dir, "/aside"); err != nil {
				t.Fatal(err)
			}
			m := &model{floats: map[string]map[int64]float64{}}
			for i := range 3 {
				m.floats[promlabels.FromStrings("__name__", fmt.Sprint("m", i)).String()] = map[int64]float64{t0 + int64(i): float64(i)}
			}
			if name == "given again" {
				if err := block.Remove(fs, dir); err != nil {
					t.Fatal(err)
				}
				delete(m.floats, promlabels.FromStrings("__name__", "m2").String())
				m.floats[promlabels.FromStrings("__name__", "m3").String()] = map[int64]float64{t0 + 3: 3}
			}
			db = openTest(t, fs, "/s", testConfig())
			if name == "given again" {
				one("m3", t0+3, 3).appendTo(t, db, 3)
			}
			if err := db.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			if name == "merged over" {
				if err := db.Compact(ctx); err != nil {
					t.Fatal(err)
				}
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			if err := fs.Rename("/aside", dir+".corrupt"); err != nil {
				t.Fatal(err)
			}
			r, err := Repair(fs, "/s")
			if err != nil || len(r.Repaired) != 0 || len(r.Problems) != 1 || !strings.Contains(r.Problems[0].Err.Error(), "not repaired") {
				t.Fatalf("repair: %+v, %v", r, err)
			}
			db = openTest(t, fs, "/s", testConfig())
			m.check(t, db, math.MinInt64, math.MaxInt64)
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Blocks of a later version are refused, not set aside: the older Vedette is at
// fault.
func TestNewerVersionIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	dir := "/s/default/metrics/0/" + (block.Flushes{}).Name()
	if err := fs.MkdirAll(filepath.Dir(dir)); err != nil {
		t.Fatal(err)
	}
	w, err := block.Create(fs, dir, block.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(fmt.Appendf(nil, `{"version":%d,"windowMs":1}`, currentMetaVersion+1)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{FS: fs, Dir: "/s", Config: testConfig()}); !errors.Is(err, block.ErrVersion) {
		t.Fatalf("got %v, want ErrVersion", err)
	}
	if got := blockDirs(t, fs, "/s"); len(got) != 1 || got[0] != dir {
		t.Fatalf("blocks: %q", got)
	}
}

// A query that meets a damaged block answers without it, says so, and the next
// maintenance takes the block out of service.
func TestQueryGoesOnWithoutDamagedBlock(t *testing.T) {
	fs := vfs.NewMem()
	db := openTest(t, fs, "/s", testConfig())
	m := fill(t, db, 3)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	dir := blockDirs(t, fs, "/s")[1]
	off := pageAt(t, fs, dir, sectionChunks)
	db = openTest(t, fs, "/s", testConfig())
	ctx := context.Background()
	sel := Selector{Tenant: "default", MinTime: math.MinInt64, MaxTime: math.MaxInt64, Matchers: all()}
	first, err := db.Select(ctx, sel) // loads the index
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	w := db.lookupTenant("default").all()[0]
	if err := w.blocks[1].Unpin(); err != nil {
		t.Fatal(err)
	}
	damage(t, fs, dir, off)
	if w.blocks[1], err = openBlock(fs, dir); err != nil {
		t.Fatal(err)
	}
	set, err := db.Select(ctx, sel)
	if err != nil {
		t.Fatal(err)
	}
	var s Samples
	got := 0
	for i := range set.Len() {
		if err := set.Samples(i, &s); err != nil {
			t.Fatal(err)
		}
		got += len(s.Times)
	}
	if ws := set.Warnings(); got != 80 || len(ws) != 1 || !strings.Contains(ws[0].Error(), "checksum") {
		t.Fatalf("got %d samples and warnings %v, want 80 and one of a checksum", got, ws)
	}
	set.Close()
	if err := db.Maintain(ctx); err != nil {
		t.Fatal(err)
	}
	for _, ss := range m.floats {
		delete(ss, t0+1000)
	}
	m.check(t, db, math.MinInt64, math.MaxInt64)
	if n := db.totals().broken; n != 1 {
		t.Fatalf("%d blocks set aside, want 1", n)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
