package trace

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/vfs"
)

var rewrite = flag.Bool("rewrite", false, "write a store of the current version into testdata, if it is not there")

// goldenBatches are what the stores in testdata hold; they never change.
func goldenBatches() (out []*signal.Spans) {
	for i := range uint64(4) {
		out = append(out, batch("default",
			testSpan{trace: 1, id: 10*i + 1, start: int64(i), duration: 1500, service: "shop", name: "GET /cart", kind: 2, attrs: map[string]string{"http.route": "/cart", "user": fmt.Sprint(i)}},
			testSpan{trace: 1, id: 10*i + 2, parent: 10*i + 1, start: int64(i) + 5, duration: 1000, service: "shop", name: "SELECT", kind: 3, status: 2, events: []string{"exception"}},
			testSpan{trace: 100 + i, id: 10*i + 3, start: int64(i), duration: -7, service: "jobs", name: "nightly", kind: 1, link: 1},
		))
	}
	return out
}

// goldenStore writes a store with a block of level 1, one of level 0, and the
// offsets of a dropped one.
func goldenStore(t *testing.T, dir string) {
	var now clock
	db, err := Open(Options{Dir: dir, Config: DefaultConfig(), Now: now.now})
	if err != nil {
		t.Fatal(err)
	}
	appendAt(t, db, batch("default", testSpan{trace: 7, id: 7, service: "gone", name: "x"}), 0)
	mustFlush(t, db)
	now.advance(DefaultConfig().Retention + time.Hour)
	maintain(t, db)
	for i, b := range goldenBatches() {
		appendAt(t, db, b, int64(i+1))
		mustFlush(t, db)
		now.advance(time.Second)
		if i == 2 {
			if err := db.Compact(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	mustClose(t, db)
}

// TestOldStoresStayReadable opens a store of every version that was ever
// released. Stores in testdata are never written again.
func TestOldStoresStayReadable(t *testing.T) {
	if *rewrite {
		goldenStore(t, filepath.Join("testdata", "store-v1"))
	}
	for _, name := range []string{"store-v1"} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			copyTree(t, fs, filepath.Join("testdata", name), "/s")
			var now clock
			now.advance(DefaultConfig().Retention + 2*time.Hour)
			db := openTest(t, fs, Options{Now: now.now})
			m := make(model)
			for _, b := range goldenBatches() {
				m.add(b)
			}
			m.check(t, db)
			if got, want := levels(db), [][2]int{{1, 9}, {0, 3}}; !slices.Equal(got, want) {
				t.Errorf("blocks %v, want %v", got, want)
			}
			if got, want := db.Operations("default", "shop"), []Operation{{"GET /cart", 2}, {"SELECT", 3}}; !slices.Equal(got, want) {
				t.Errorf("operations %v, want %v", got, want)
			}
			tn := db.lookupTenant("default")
			if c := db.Covered("src", "traces", 0); c != 5 || tn.gone.Next != 1 || len(tn.gone.Sources) != 1 {
				t.Errorf("covered %d, dropped %+v", c, tn.gone)
			}
			if err := db.Compact(context.Background()); err != nil {
				t.Fatal(err)
			}
			m.check(t, db)
			mustClose(t, db)
			if r, err := Verify(fs, "/s"); err != nil || len(r.Problems) > 0 || r.Blocks != 1 {
				t.Errorf("verify: %+v, %v", r, err)
			}
		})
	}
}

// copyTree copies a directory of the operating system's to fs.
func copyTree(t *testing.T, fs vfs.FS, from, to string) {
	t.Helper()
	if err := fs.MkdirAll(to); err != nil {
		t.Fatal(err)
	}
	names, err := vfs.OS.List(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		info, err := vfs.OS.Stat(filepath.Join(from, n))
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			copyTree(t, fs, filepath.Join(from, n), filepath.Join(to, n))
			continue
		}
		b, err := vfs.ReadFile(vfs.OS, filepath.Join(from, n))
		if err != nil {
			t.Fatal(err)
		}
		if err := vfs.WriteFile(fs, filepath.Join(to, n), b); err != nil {
			t.Fatal(err)
		}
	}
}
