package metric

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	promlabels "github.com/prometheus/prometheus/model/labels"
	"go.uber.org/goleak"

	"github.com/vedette-io/vedette/internal/vfs"
)

// TestNoGapWhileEverythingHappens has two writers, a flusher, a merger and
// readers that ask, right after an append has returned, for all that was
// appended so far.
func TestNoGapWhileEverythingHappens(t *testing.T) {
	defer goleak.VerifyNone(t)
	c := testConfig()
	c.FlushSamples = 1000
	db := openTest(t, vfs.NewMem(), "/s", c)
	ctx, stop := context.WithCancel(context.Background())
	var background, writers sync.WaitGroup
	background.Go(func() { _ = db.Run(ctx) })
	background.Go(func() {
		for ctx.Err() == nil {
			if err := errors.Join(db.Flush(ctx), db.Compact(ctx)); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	const rounds, series = 300, 20
	var offset [2]atomic.Int64
	for wr := range 2 {
		writers.Go(func() {
			ls := make([]promlabels.Labels, series)
			for i := range ls {
				ls[i] = promlabels.FromStrings("__name__", "m", "i", fmt.Sprint(i), "writer", fmt.Sprint(wr))
			}
			mine := []*promlabels.Matcher{promlabels.MustNewMatcher(promlabels.MatchEqual, "writer", fmt.Sprint(wr))}
			for r := range rounds {
				var bb batchBuilder
				bb.b.Tenant = "default"
				for i := range ls {
					bb.series(ls[i])
					bb.float(t0+int64(r)*20_000, float64(r), 0)
				}
				if _, err := db.AppendMetrics(ctx, &bb.b, "src", "metrics", int32(wr), offset[wr].Add(1)-1); err != nil {
					t.Error(err)
					return
				}
				if err := expect(ctx, db, mine, series, r+1); err != nil {
					t.Errorf("writer %d, round %d: %v", wr, r, err)
					return
				}
			}
		})
	}
	writers.Wait()
	stop()
	background.Wait()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func expect(ctx context.Context, db *DB, ms []*promlabels.Matcher, series, samples int) error {
	set, err := db.Select(ctx, Selector{Tenant: "default", MinTime: math.MinInt64, MaxTime: math.MaxInt64, Matchers: ms})
	if err != nil {
		return err
	}
	defer set.Close()
	if set.Len() != series {
		return fmt.Errorf("%d series, want %d", set.Len(), series)
	}
	var s Samples
	for i := range set.Len() {
		if err := set.Samples(i, &s); err != nil {
			return err
		}
		if len(s.Times) != samples {
			return fmt.Errorf("series %s has %d samples, want %d", set.Labels(i), len(s.Times), samples)
		}
		for j, v := range s.Values {
			if v != float64(j) {
				return fmt.Errorf("sample %d is %v", j, v)
			}
		}
	}
	return nil
}

// A cancelled query stops, and a store that nobody flushes pushes back.
func TestLimitsOfTime(t *testing.T) {
	c := testConfig()
	c.FlushSamples = 1000
	db := openTest(t, vfs.NewMem(), "/s", c)
	full := func(offset int64) error {
		var bb batchBuilder
		bb.b.Tenant = "default"
		for i := range 500 {
			bb.series(promlabels.FromStrings("__name__", "m", "i", fmt.Sprint(i)))
			bb.float(t0+offset*1000, 1, 0)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		_, err := db.AppendMetrics(ctx, &bb.b, "src", "metrics", 0, offset)
		return err
	}
	for i := range int64(4) {
		if err := full(i); err != nil {
			t.Fatal(err)
		}
	}
	if err := full(4); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("append to full heads: %v", err)
	}
	if err := db.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := full(5); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	set, err := db.Select(ctx, Selector{Tenant: "default", MaxTime: math.MaxInt64, Matchers: all()})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := set.Samples(0, &Samples{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("read of a cancelled query: %v", err)
	}
	set.Close()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// What blocks cover is known again after a restart, before anything is appended;
// what is durable of this process's appends is not.
func TestCoveredOutlivesRestart(t *testing.T) {
	fs := vfs.NewMem()
	db := openTest(t, fs, "/s", testConfig())
	fill(t, db, 3)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openTest(t, fs, "/s", testConfig())
	if c, d := db.Covered("src", "metrics", 0), db.Durable("src", "metrics", 0); c != 3 || d != 0 {
		t.Fatalf("covered %d and durable %d after a restart, want 3 and 0", c, d)
	}
	if c := db.Covered("other", "metrics", 0); c != 0 {
		t.Fatalf("covered %d of an unknown log, want 0", c)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// Indexes of windows that are only read come and go within their budget.
func TestIndexCacheIsBounded(t *testing.T) {
	c := testConfig()
	c.Window = time.Minute
	c.IndexCacheBytes = 1
	db := openTest(t, vfs.NewMem(), "/s", c)
	m := fill(t, db, 200) // a flush a second: four windows
	if n := len(db.lookupTenant("default").all()); n < 3 {
		t.Fatalf("%d windows, want several", n)
	}
	for range 3 {
		m.check(t, db, math.MinInt64, math.MaxInt64)
		if got := db.totals().indexBytes; got != 0 {
			t.Fatalf("indexes hold %d bytes after a query, want none", got)
		}
	}
	charged := int64(0)
	_, err := db.Select(context.Background(), Selector{Tenant: "default", MinTime: math.MinInt64, MaxTime: math.MaxInt64, Matchers: all(),
		Charge: func(n int64) error {
			if charged += n; charged > 1000 {
				return errTooMuch
			}
			return nil
		}})
	if !errors.Is(err, errTooMuch) || charged > 1300 {
		t.Fatalf("select over its budget: %v after %d bytes", err, charged)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

var errTooMuch = errors.New("too much")
