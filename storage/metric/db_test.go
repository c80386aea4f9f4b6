package metric

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"
	promlabels "github.com/prometheus/prometheus/model/labels"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/vfs"
)

func one(name string, t int64, v float64) *batchBuilder {
	var bb batchBuilder
	bb.series(promlabels.FromStrings("__name__", name))
	bb.float(t, v, 0)
	return &bb
}

// The rule for samples that meet others of their series.
func TestWhatIsRefused(t *testing.T) {
	c := testConfig()
	c.MaxSeries, c.MaxSeriesPerMetric = 3, 2
	now := t0 + (10 * time.Hour).Milliseconds() // openTest's clock
	db := openTest(t, vfs.NewMem(), "/s", c)
	offset := int64(0)
	for _, tc := range []struct {
		name  string
		batch *batchBuilder
		want  signal.AppendResult
		text  string
	}{
		{"first", one("a", t0, 1), signal.AppendResult{Appended: 1}, ""},
		{"same again", one("a", t0, 1), signal.AppendResult{Duplicates: 1}, ""},
		{"other value", one("a", t0, 2), signal.AppendResult{Conflicts: 1}, `{__name__="a"} at 1700000000000: the series has another value`},
		{"newer", one("a", t0+3_600_000, 2), signal.AppendResult{Appended: 1}, ""},
		{"late", one("a", t0+3_600_000-1_800_000, 2), signal.AppendResult{Appended: 1}, ""},
		{"too late", one("a", t0+3_600_000-1_800_001, 2), signal.AppendResult{TooOld: 1}, "out-of-order window of 30m0s"},
		{"too late, in the window before", one("a", t0+1, 2), signal.AppendResult{TooOld: 1}, "out-of-order window of 30m0s"},
		{"before retention", one("b", t0-(991*time.Hour).Milliseconds(), 1), signal.AppendResult{OutOfBounds: 1}, "outside of the retention"},
		{"far future", one("b", now+(49*time.Hour).Milliseconds(), 1), signal.AppendResult{OutOfBounds: 1}, "outside of the retention"},
		{"NaN is a value", one("n", t0, math.NaN()), signal.AppendResult{Appended: 1}, ""},
		{"the same NaN", one("n", t0, math.NaN()), signal.AppendResult{Duplicates: 1}, ""},
		{"third series", one("c", t0, 1), signal.AppendResult{Appended: 1}, ""},
		{"series limit", one("d", t0, 1), signal.AppendResult{SeriesLimit: 1}, "the tenant has 3 series, the limit"},
	} {
		got := tc.batch.appendTo(t, db, offset)
		offset++
		text := got.FirstError
		got.FirstError = ""
		if got != tc.want || !strings.Contains(text, tc.text) || (text == "") != (tc.text == "") {
			t.Errorf("%s: got %+v %q, want %+v %q", tc.name, got, text, tc.want, tc.text)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSeriesLimitPerMetric(t *testing.T) {
	c := testConfig()
	c.MaxSeriesPerMetric = 2
	db := openTest(t, vfs.NewMem(), "/s", c)
	var bb batchBuilder
	for i := range 4 {
		bb.series(promlabels.FromStrings("__name__", "m", "i", fmt.Sprint(i)))
		bb.float(t0, 1, 0)
	}
	bb.series(promlabels.FromStrings("__name__", "other"))
	bb.float(t0, 1, 0)
	got := bb.appendTo(t, db, 0)
	if got.Appended != 3 || got.SeriesLimit != 2 || !strings.Contains(got.FirstError, "the metric has 2 series, the limit") {
		t.Fatalf("got %+v", got)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// movable is a clock that a test sets.
type movable struct{ now time.Time }

func TestRetentionByTimeAndSize(t *testing.T) {
	fs := vfs.NewMem()
	clock := movable{time.UnixMilli(t0).Add(time.Hour)}
	c := testConfig()
	c.Retention = 5 * time.Hour
	open := func() *DB {
		db, err := Open(Options{Dir: "/s", FS: fs, Config: c, Now: func() time.Time { return clock.now }})
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	db := open()
	ctx := context.Background()
	windows := func() int { return len(db.lookupTenant("default").all()) }
	for i := range 6 {
		clock.now = time.UnixMilli(t0).Add(time.Duration(i)*time.Hour + time.Minute)
		one("m", clock.now.UnixMilli(), float64(i)).appendTo(t, db, int64(i))
		if err := db.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Maintain(ctx); err != nil || windows() != 6 {
		t.Fatalf("%d windows before anything is old, want 6: %v", windows(), err)
	}
	// A query that runs keeps what it reads.
	set, err := db.Select(ctx, Selector{Tenant: "default", MinTime: t0, MaxTime: math.MaxInt64, Matchers: all()})
	if err != nil {
		t.Fatal(err)
	}
	clock.now = clock.now.Add(2 * time.Hour)
	if err := db.Maintain(ctx); err != nil || windows() != 4 {
		t.Fatalf("%d windows after two have passed, want 4: %v", windows(), err)
	}
	var s Samples
	if err := set.Samples(0, &s); err != nil || len(s.Times) != 6 {
		t.Fatalf("query across the retention: %d samples, %v", len(s.Times), err)
	}
	set.Close()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := fs.List("/s/default/metrics")
	if err != nil || len(names) > 6 {
		t.Fatal(names, err)
	}
	c.RetentionBytes = 1
	db = open()
	if err := db.Maintain(ctx); err != nil {
		t.Fatal(err)
	}
	if got := db.totals(); got.blocks != 1 {
		t.Fatalf("%d blocks within one byte, want the newest window's", got.blocks)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// A clock that is set a year ahead while the store is open deletes nothing for a day,
// by when somebody has seen it; then it is believed, so that nothing stays for ever.
func TestClockSetAnewDeletesNothing(t *testing.T) {
	c := testConfig()
	db, err := Open(Options{Dir: "/s", FS: vfs.NewMem(), Config: c})
	if err != nil {
		t.Fatal(err)
	}
	one("m", time.Now().UnixMilli(), 1).appendTo(t, db, 0)
	wall, passed := time.Now().Round(0), time.Duration(0)
	db.retention.wall, db.retention.passed = func() time.Time { return wall }, func() time.Duration { return passed }
	want := func(when string, n int) {
		t.Helper()
		if err := db.Maintain(context.Background()); err != nil || len(db.lookupTenant("default").all()) != n {
			t.Errorf("%s: got %d windows, want %d: %v", when, len(db.lookupTenant("default").all()), n, err)
		}
	}
	want("at the beginning", 1)
	wall = wall.Add(365*24*time.Hour + c.Retention)
	want("set ahead", 1)
	passed += 23 * time.Hour
	want("a day later", 1)
	passed += time.Hour
	want("a day and more later", 0)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRetentionClock(t *testing.T) {
	year := func(n int) time.Time { return time.Date(n, 1, 1, 0, 0, 0, 0, time.UTC) }
	var wall time.Time
	var passed time.Duration
	begin := func(at time.Time) *retentionClock {
		wall, passed = at, 0
		return &retentionClock{wall: func() time.Time { return wall }, passed: func() time.Duration { return passed }, begin: at}
	}
	tick := func(d time.Duration) { wall, passed = wall.Add(d), passed+d }
	want := func(c *retentionClock, at time.Time) {
		t.Helper()
		if got := c.now(); !got.Equal(at) {
			t.Errorf("got %s, want %s", got, at)
		}
	}
	// Off for a month with a good clock: what is past its retention goes at once.
	c := begin(year(2026))
	c.notBefore(year(2026).Add(-30 * 24 * time.Hour))
	want(c, year(2026))
	tick(time.Hour)
	want(c, wall)
	wall = wall.Add(30 * time.Second) // corrected by a little, often
	want(c, wall)
	wall = wall.Add(45 * time.Second)
	want(c, wall)
	wall = wall.Add(-time.Hour) // and back
	want(c, wall)

	// Begun in 1970 and set right afterwards: what the store holds tells about when.
	c = begin(year(1970))
	c.notBefore(year(2026))
	want(c, year(1970))
	tick(time.Minute)
	wall = year(2027)
	want(c, year(2026).Add(time.Minute))
	tick(23 * time.Hour)
	want(c, year(2026).Add(23*time.Hour+time.Minute))
	tick(time.Hour)
	want(c, wall)
	tick(365 * 24 * time.Hour)
	want(c, wall)

	// Ahead for an hour, right again, and ahead again: the day begins anew.
	c = begin(year(2026))
	wall = year(2027)
	want(c, year(2026))
	passed = time.Hour
	wall = year(2026).Add(passed)
	want(c, wall)
	passed = 24 * time.Hour
	wall = year(2027)
	want(c, year(2026).Add(passed))
}

func TestExemplarsAndMetadataSurviveEverything(t *testing.T) {
	fs := vfs.NewMem()
	db := openTest(t, fs, "/s", testConfig())
	ctx := context.Background()
	write := func(offset int64, help string) {
		var bb batchBuilder
		i := bb.series(promlabels.FromStrings("__name__", "m"))
		bb.float(t0+offset*1000, 1, 0)
		labels := canonical(promlabels.FromStrings("trace_id", fmt.Sprint("t", offset)))
		r := signal.ByteRange{Off: uint32(len(bb.b.Buf)), Len: uint32(len(labels))}
		bb.b.Buf = append(bb.b.Buf, labels...)
		bb.b.Exemplars = append(bb.b.Exemplars, signal.Exemplar{Series: i, Time: t0 + offset*1000, Value: 0.5, Labels: r})
		bb.b.Metadata = append(bb.b.Metadata, signal.Metadata{Family: "m", Type: "counter", Help: help})
		if res := bb.appendTo(t, db, offset); res.Exemplars != 1 {
			t.Fatalf("append: %+v", res)
		}
	}
	check := func(exemplars int, help string) {
		t.Helper()
		got, err := db.Exemplars(ctx, "default", t0, math.MaxInt64, [][]*promlabels.Matcher{all()})
		if err != nil || len(got) != 1 || len(got[0].Exemplars) != exemplars || got[0].Exemplars[0].Labels.Get("trace_id") != "t0" {
			t.Fatalf("exemplars: %+v, %v, want %d", got, err, exemplars)
		}
		if md := db.Metadata("default", "m", 0); len(md) != 1 || md[0].Help != help || md[0].Type != "counter" {
			t.Fatalf("metadata: %+v, want help %q", md, help)
		}
	}
	write(0, "old")
	check(1, "old")
	if err := db.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	write(1, "new")
	check(2, "new")
	if err := db.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := db.Compact(ctx); err != nil {
		t.Fatal(err)
	}
	check(2, "new")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openTest(t, fs, "/s", testConfig())
	check(2, "new")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLabelsAndCardinality(t *testing.T) {
	db := openTest(t, vfs.NewMem(), "/s", testConfig())
	var bb batchBuilder
	for i := range 10 {
		bb.series(promlabels.FromStrings("__name__", fmt.Sprint("m", i%2), "i", fmt.Sprint(i)))
		bb.float(t0, 1, 0)
	}
	bb.appendTo(t, db, 0)
	ctx := context.Background()
	sel := Selector{Tenant: "default", MinTime: t0, MaxTime: t0}
	if got, err := db.LabelNames(ctx, sel); err != nil || !reflect.DeepEqual(got, []string{"__name__", "i"}) {
		t.Errorf("label names %q, %v", got, err)
	}
	sel.Matchers = []*promlabels.Matcher{promlabels.MustNewMatcher(promlabels.MatchEqual, "__name__", "m1")}
	sel.Limit = 3
	if got, err := db.LabelValues(ctx, "i", sel); err != nil || !reflect.DeepEqual(got, []string{"1", "3", "5"}) {
		t.Errorf("label values %q, %v", got, err)
	}
	sel.Tenant = "nobody"
	if got, err := db.LabelValues(ctx, "i", sel); err != nil || len(got) != 0 {
		t.Errorf("label values of an unknown tenant: %q, %v", got, err)
	}
	c := db.Cardinality("default", 2)
	if c.Series != 10 || c.Pairs != 12 || c.MinTime != t0 || c.Samples != 10 ||
		!reflect.DeepEqual(c.SeriesByMetric, []Count{{"m0", 5}, {"m1", 5}}) ||
		!reflect.DeepEqual(c.ValuesByLabel, []Count{{"i", 10}, {"__name__", 2}}) ||
		!reflect.DeepEqual(c.SeriesByPair, []Count{{"__name__=m0", 5}, {"__name__=m1", 5}}) {
		t.Errorf("cardinality: %+v", c)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// Tenants see nothing of one another, and a name that cannot be a directory is
// refused.
func TestTenants(t *testing.T) {
	db := openTest(t, vfs.NewMem(), "/s", testConfig())
	for _, tenant := range []string{"a", "b"} {
		bb := one("m", t0, 1)
		bb.b.Tenant = tenant
		bb.appendTo(t, db, 0)
	}
	set, err := db.Select(context.Background(), Selector{Tenant: "a", MinTime: t0, MaxTime: t0, Matchers: all()})
	if err != nil || set.Len() != 1 {
		t.Fatalf("%d series, %v", set.Len(), err)
	}
	set.Close()
	for _, tenant := range []string{"..", "a/b", ".lock", strings.Repeat("x", 200)} {
		bb := one("m", t0, 1)
		bb.b.Tenant = tenant
		if _, err := db.AppendMetrics(context.Background(), &bb.b, "s", "m", 0, 1); err == nil {
			t.Errorf("tenant %.20q was taken", tenant)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestConfigNamesEveryBadKey(t *testing.T) {
	err := Config{Retention: -1, RetentionBytes: -1, Window: 7 * time.Hour, OutOfOrderWindow: -1, FlushSamples: 1, FlushInterval: 1, MaxSeries: -1, MaxSeriesPerMetric: -1, IndexCacheBytes: -1}.Validate()
	for _, key := range []string{"retention:", "retention_bytes:", "window:", "out_of_order_window:", "flush_samples:", "flush_interval:", "max_series:", "max_series_per_metric:", "index_cache_bytes:"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%v lacks %q", err, key)
		}
	}
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
}

// The window of a store cannot change under its data, and one process has it.
func TestOpenRefuses(t *testing.T) {
	fs := vfs.NewMem()
	db := openTest(t, fs, "/s", testConfig())
	one("m", t0, 1).appendTo(t, db, 0)
	if _, err := Open(Options{Dir: "/s", FS: fs, Config: testConfig()}); err == nil || !strings.Contains(err.Error(), "locked") {
		t.Errorf("second open: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	c := testConfig()
	c.Window = 2 * time.Hour
	if _, err := Open(Options{Dir: "/s", FS: fs, Config: c}); err == nil || !strings.Contains(err.Error(), "the window of existing data cannot change") {
		t.Errorf("open with another window: %v", err)
	}
}

func TestMetricsAreRegistered(t *testing.T) {
	reg := prometheus.NewRegistry()
	db, err := Open(Options{Dir: "/s", FS: vfs.NewMem(), Config: testConfig(), Registerer: reg, Now: func() time.Time { return time.UnixMilli(t0) }})
	if err != nil {
		t.Fatal(err)
	}
	one("m", t0, 1).appendTo(t, db, 0)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "vedette_storage_metric_samples_total" && f.GetMetric()[0].GetCounter().GetValue() != 1 {
			t.Errorf("samples_total: %v", f)
		}
	}
	if len(families) < 10 {
		t.Errorf("%d metrics", len(families))
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// A tenant with a few samples has a run of its own, and there may be thousands.
func TestRunsAreSmall(t *testing.T) {
	if n := unsafe.Sizeof(run{}); n > 100<<10 {
		t.Fatalf("a run takes %d bytes, want at most 100 KiB", n)
	}
}

// TestSnapshotIsOfOneMoment appends to two tenants while the first one's head is
// written: what a restored store says it covers holds for both.
func TestSnapshotIsOfOneMoment(t *testing.T) {
	during := func() {}
	fs := vfs.Faulty(vfs.NewMem(), func(op vfs.Op) error {
		if op.Kind == vfs.OpCreate && strings.Contains(op.Name, "/s/a/") {
			f := during
			during = func() {}
			f()
		}
		return nil
	})
	db := openTest(t, fs, "/s", testConfig())
	ctx := context.Background()
	var log []*signal.Metrics
	want := map[string]int{}
	add := func(tenant string) {
		offset := int64(len(log))
		b := &one("m", t0+offset*1000, float64(offset)).b
		b.Tenant = tenant
		log = append(log, b)
		want[tenant]++
		if _, err := db.AppendMetrics(ctx, b, "src", "metrics", 0, offset); err != nil {
			t.Error(err)
		}
	}
	add("a")
	add("b")
	during = func() {
		add("a")
		add("b")
	}
	if err := db.Snapshot(ctx, "/copy"); err != nil {
		t.Fatal(err)
	}
	add("a")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openTest(t, fs, "/copy", testConfig())
	for offset := db.Covered("src", "metrics", 0); offset < int64(len(log)); offset++ {
		if _, err := db.AppendMetrics(ctx, log[offset], "src", "metrics", 0, offset); err != nil {
			t.Fatal(err)
		}
	}
	for tenant, n := range want {
		set, err := db.Select(ctx, Selector{Tenant: tenant, MinTime: math.MinInt64, MaxTime: math.MaxInt64, Matchers: all()})
		if err != nil {
			t.Fatal(err)
		}
		var s Samples
		if set.Len() != 1 {
			t.Fatalf("tenant %s: %d series, want 1", tenant, set.Len())
		}
		if err := set.Samples(0, &s); err != nil || len(s.Times) != n {
			t.Errorf("tenant %s: got %d samples, want %d: %v", tenant, len(s.Times), n, err)
		}
		set.Close()
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
