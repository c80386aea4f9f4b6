package trace

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/vfs"
)

func TestSpansAreThereFromHeadToMergedBlock(t *testing.T) {
	fs := vfs.NewMem()
	db := openTest(t, fs, Options{})
	m := make(model)
	g := newGenerator(1)
	ctx := context.Background()
	for i := range int64(30) {
		b := g.batch(false)
		m.add(b)
		if res := appendAt(t, db, b, i); res.Appended != b.Len() {
			t.Fatalf("appended %d of %d spans", res.Appended, b.Len())
		}
		if i%4 == 3 {
			mustFlush(t, db)
		}
		m.check(t, db)
	}
	if err := db.Compact(ctx); err != nil {
		t.Fatal(err)
	}
	m.check(t, db)
	mustFlush(t, db)
	if err := db.Compact(ctx); err != nil {
		t.Fatal(err)
	}
	if got := db.totals(); got.blocks != 1 || got.spans != int64(g.spans) {
		t.Fatalf("%d blocks with %d spans, want 1 with %d", got.blocks, got.spans, g.spans)
	}
	m.check(t, db)
	mustClose(t, db)
	db = openTest(t, fs, Options{})
	m.check(t, db)
	mustClose(t, db)
}

func TestReplayIsExact(t *testing.T) {
	fs := vfs.NewMem()
	db := openTest(t, fs, Options{})
	one := func(n uint64) *signal.Spans {
		return batch("default", testSpan{trace: n, id: n, service: "a", name: "x"})
	}
	for i := range int64(4) {
		appendAt(t, db, one(uint64(i)), i)
	}
	if d := db.Durable("src", "traces", 0); d != 0 {
		t.Fatalf("durable %d before a flush, want 0", d)
	}
	mustFlush(t, db)
	appendAt(t, db, one(4), 4)
	if d := db.Durable("src", "traces", 0); d != 4 {
		t.Fatalf("durable %d, want 4", d)
	}
	if res := appendAt(t, db, one(4), 4); res.Appended != 0 {
		t.Fatalf("the same offset again: %+v", res)
	}
	// Another tenant's messages lie between, and other partitions beside.
	other := batch("other", testSpan{trace: 9, id: 9, service: "b", name: "y"})
	appendAt(t, db, other, 5)
	if _, err := db.AppendSpans(context.Background(), one(77), "src", "traces", 1, 0); err != nil {
		t.Fatal(err)
	}
	mustClose(t, db)

	db = openTest(t, fs, Options{})
	if c, d := db.Covered("src", "traces", 0), db.Durable("src", "traces", 0); c != 6 || d != 0 {
		t.Fatalf("covered %d and durable %d after a restart, want 6 and 0", c, d)
	}
	if c := db.Covered("elsewhere", "traces", 0); c != 0 {
		t.Fatalf("covered %d of an unknown log, want 0", c)
	}
	for i := range int64(5) {
		if res := appendAt(t, db, one(uint64(i)), i); res.Appended != 0 {
			t.Fatalf("replay of offset %d appended %d spans", i, res.Appended)
		}
	}
	if d := db.Durable("src", "traces", 0); d != 5 {
		t.Fatalf("durable %d after the replay, want 5", d)
	}
	if res := appendAt(t, db, one(6), 6); res.Appended != 1 {
		t.Fatalf("append behind the replay: %+v", res)
	}
	if got := db.Tenants(); !slices.Equal(got, []string{"default", "other"}) {
		t.Fatalf("tenants %q", got)
	}
	mustClose(t, db)
}

// A client that sends a span again is told nothing, and the span is read once.
func TestDuplicatesOfClients(t *testing.T) {
	db := openTest(t, vfs.NewMem(), Options{})
	s := testSpan{trace: 1, id: 1, service: "a", name: "x", duration: 5}
	again := func(offset int64, want signal.AppendResult) {
		t.Helper()
		if res := appendAt(t, db, batch("default", s), offset); res != want {
			t.Fatalf("offset %d: got %+v, want %+v", offset, res, want)
		}
	}
	again(0, signal.AppendResult{Appended: 1})
	again(1, signal.AppendResult{Duplicates: 1})
	mustFlush(t, db)
	again(2, signal.AppendResult{Appended: 1}) // the head does not know the block's
	server := s
	server.kind = 2 // shares the client's id, as with Zipkin
	appendAt(t, db, batch("default", server), 3)
	m := make(model)
	m.add(batch("default", s, server))
	v := db.View("default", math.MinInt64, math.MaxInt64)
	if err := m.compare(v); err != nil {
		t.Fatal(err)
	}
	v.Close()
	mustClose(t, db)
}

func TestViewChoosesGroupsByTime(t *testing.T) {
	db := openTest(t, vfs.NewMem(), Options{})
	hour := int64(time.Hour)
	for i := range int64(4) {
		appendAt(t, db, batch("default", testSpan{trace: uint64(i + 1), id: 1, start: i * hour, duration: hour / 4, service: "a", name: "x"}), i)
		mustFlush(t, db)
	}
	for _, c := range []struct{ min, max, groups int64 }{
		{t0, t0 + 3*hour, 4},
		{t0 + hour, t0 + hour, 1},
		{t0 + hour + hour/4, t0 + hour + hour/2, 1}, // its end touches
		{t0 + hour + hour/2, t0 + 2*hour - 1, 0},
		{t0 - hour, t0 - 1, 0},
		{math.MinInt64, math.MaxInt64, 4},
	} {
		v := db.View("default", c.min, c.max)
		if got := len(v.Groups()); int64(got) != c.groups || v.AllGroups() != 4 {
			t.Errorf("%d to %d: %d of %d groups, want %d of 4", c.min-t0, c.max-t0, got, v.AllGroups(), c.groups)
		}
		for i, g := range v.Groups() {
			if i > 0 && g.Info().MaxTraceStart > v.Groups()[i-1].Info().MaxTraceStart {
				t.Error("groups are not ordered newest first")
			}
		}
		if runs := v.Find(traceID(1)); len(runs) != 1 {
			t.Errorf("trace by id in a view from %d: %d runs, want 1", c.min-t0, len(runs))
		}
		v.Close()
	}
	v := db.View("nobody", 0, 1)
	var s signal.Spans
	if err := v.Trace(traceID(1), &s); err != nil || s.Len() != 0 || v.AllGroups() != 0 {
		t.Errorf("view of an unknown tenant: %v, %d spans, %d groups", err, s.Len(), v.AllGroups())
	}
	v.Close()
	mustClose(t, db)
}

// A View reads what was there when it was opened, whatever happens meanwhile, and
// merged blocks go when it closes.
func TestViewOutlivesMerge(t *testing.T) {
	fs := vfs.NewMem()
	db := openTest(t, fs, Options{})
	m := fill(t, db, 5)
	v := db.View("default", math.MinInt64, math.MaxInt64)
	if err := db.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	appendAt(t, db, batch("default", testSpan{trace: 1, id: 1 << 40, service: "later", name: "x"}), 5)
	if err := m.compare(v); err != nil {
		t.Fatal(err)
	}
	if n := len(blockDirs(t, fs)); n != 6 {
		t.Fatalf("%d blocks on disk while a view reads the merged ones, want 6", n)
	}
	v.Close()
	v.Close()
	if n := len(blockDirs(t, fs)); n != 1 {
		t.Fatalf("%d blocks on disk, want 1", n)
	}
	mustClose(t, db)
}

func TestServicesAndOperations(t *testing.T) {
	fs := vfs.NewMem()
	db := openTest(t, fs, Options{})
	check := func(when string) {
		t.Helper()
		if got, want := db.Services("default"), []string{"", "a", "b"}; !slices.Equal(got, want) {
			t.Fatalf("%s: services %q, want %q", when, got, want)
		}
		if got, want := db.Operations("default", "a"), []Operation{{"x", 2}, {"x", 3}, {"y", 0}}; !slices.Equal(got, want) {
			t.Fatalf("%s: operations %v, want %v", when, got, want)
		}
	}
	appendAt(t, db, batch("default", testSpan{trace: 1, id: 1, service: "a", name: "x", kind: 3}, testSpan{trace: 1, id: 2, service: "b", name: "x"}, testSpan{trace: 2, id: 3}), 0)
	mustFlush(t, db)
	appendAt(t, db, batch("default", testSpan{trace: 1, id: 4, service: "a", name: "x", kind: 2}, testSpan{trace: 1, id: 5, service: "a", name: "y"}), 1)
	check("in a block and the head")
	mustFlush(t, db)
	check("in blocks")
	if err := db.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	check("merged")
	mustClose(t, db)
	db = openTest(t, fs, Options{})
	check("opened again")
	if got := db.Operations("default", "c"); got != nil {
		t.Fatalf("operations of an unknown service: %v", got)
	}
	if got := db.Services("nobody"); got != nil {
		t.Fatalf("services of an unknown tenant: %v", got)
	}
	mustClose(t, db)
}

// Span names that are all different do not make blocks or memory grow without
// bound.
func TestOperationsAreBounded(t *testing.T) {
	fs := vfs.NewMem()
	db := openTest(t, fs, Options{})
	for i := range int64(12) {
		var spans []testSpan
		for j := range 1000 {
			n := uint64(i)*1000 + uint64(j)
			spans = append(spans, testSpan{trace: n, id: n, service: fmt.Sprint("service ", i/2), name: fmt.Sprint("GET /", n)})
		}
		appendAt(t, db, batch("default", spans...), i)
	}
	for i := range 6 {
		if n := len(db.Operations("default", fmt.Sprint("service ", i))); n != maxServiceOperations {
			t.Fatalf("service %d has %d operations, want %d", i, n, maxServiceOperations)
		}
	}
	var spans []testSpan
	for n := range uint64(maxOperations) {
		spans = append(spans, testSpan{trace: n, id: n, service: fmt.Sprint("many ", n), name: "x"})
	}
	appendAt(t, db, batch("default", spans...), 12)
	mustFlush(t, db)
	o := db.lookupTenant("default").blocks[0].origin
	if n := len(o.Services); !o.Partial || n < 1000 || n > maxOperations {
		t.Fatalf("the block lists %d services, partial: %t", n, o.Partial)
	}
	mustClose(t, db)
}

func TestFullHeadsPushBack(t *testing.T) {
	c := DefaultConfig()
	c.FlushSpans = 1000
	db := openTest(t, vfs.NewMem(), Options{Config: c})
	n := uint64(0)
	full := func(offset int64) error {
		var spans []testSpan
		for range 500 {
			n++
			spans = append(spans, testSpan{trace: n, id: n, service: "a", name: "x"})
		}
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		_, err := db.AppendSpans(ctx, batch("default", spans...), "src", "traces", 0, offset)
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
	mustFlush(t, db)
	if err := full(4); err != nil {
		t.Fatal(err)
	}
	if got := db.spans.Load(); got != 500 {
		t.Fatalf("%d spans in heads, want 500", got)
	}
	mustClose(t, db)
}

func TestOneProcessHasTheStore(t *testing.T) {
	fs := vfs.NewMem()
	db := openTest(t, fs, Options{})
	if _, err := Open(Options{FS: fs, Dir: "/s", Config: DefaultConfig()}); !errors.Is(err, vfs.ErrLocked) {
		t.Fatalf("second open: %v", err)
	}
	if _, err := Lock(fs, "/s"); !errors.Is(err, vfs.ErrLocked) {
		t.Fatalf("lock of an open store: %v", err)
	}
	mustClose(t, db)
}

func TestTenantNamesStayInTheStore(t *testing.T) {
	db := openTest(t, vfs.NewMem(), Options{})
	for _, name := range []string{"", ".", "..", ".lock", "a/b", `a\b`, "a\x00", strings.Repeat("x", 151)} {
		b := batch(name, testSpan{trace: 1, id: 1})
		if _, err := db.AppendSpans(context.Background(), b, "src", "traces", 0, 0); err == nil {
			t.Errorf("tenant %q: no error", name)
		}
	}
	mustClose(t, db)
}

func TestConfigNamesEveryBadKey(t *testing.T) {
	c := Config{RetentionBytes: -1, DecisionWait: -1, RetentionByService: map[string]time.Duration{"a": time.Second}}
	err := c.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, key := range []string{"retention:", "retention_bytes:", "retention_by_service.a:", "flush_spans:", "flush_bytes:", "flush_interval:", "merge_spans:", "merge_interval:", "decision_wait:"} {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("%q is not named: %v", key, err)
		}
	}
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	if _, err := Open(Options{Config: c, FS: vfs.NewMem(), Dir: "/s"}); err == nil {
		t.Error("open with a bad configuration: no error")
	}
}

func TestSnapshotOpens(t *testing.T) {
	fs := vfs.NewMem()
	db := openTest(t, fs, Options{})
	m := fill(t, db, 3)
	ctx := context.Background()
	if err := db.Snapshot(ctx, "/copy"); err != nil {
		t.Fatal(err)
	}
	if err := db.Snapshot(ctx, "/copy"); err == nil {
		t.Fatal("snapshot over a snapshot: no error")
	}
	if err := db.Compact(ctx); err != nil {
		t.Fatal(err)
	}
	mustClose(t, db)
	db, err := Open(Options{FS: fs, Dir: "/copy", Config: DefaultConfig()})
	if err != nil {
		t.Fatal(err)
	}
	m.check(t, db)
	if c := db.Covered("src", "traces", 0); c != 3 {
		t.Fatalf("covered %d, want 3", c)
	}
	mustClose(t, db)
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
	db := openTest(t, fs, Options{})
	g := newGenerator(3)
	var log []*signal.Spans
	models := map[string]model{"a": make(model), "b": make(model)}
	add := func(tenant string) {
		b := g.batch(false)
		b.Tenant = tenant
		models[tenant].add(b)
		appendAt(t, db, b, int64(len(log)))
		log = append(log, b)
	}
	add("a")
	add("b")
	during = func() {
		add("a")
		add("b")
	}
	if err := db.Snapshot(context.Background(), "/copy"); err != nil {
		t.Fatal(err)
	}
	add("a")
	mustClose(t, db)
	db, err := Open(Options{FS: fs, Dir: "/copy", Config: DefaultConfig()})
	if err != nil {
		t.Fatal(err)
	}
	for offset := db.Covered("src", "traces", 0); offset < int64(len(log)); offset++ {
		appendAt(t, db, log[offset], offset)
	}
	for tenant, m := range models {
		v := db.View(tenant, math.MinInt64, math.MaxInt64)
		if err := m.compare(v); err != nil {
			t.Errorf("tenant %s: %v", tenant, err)
		}
		v.Close()
	}
	mustClose(t, db)
}

// A tenant with little is not flushed whenever others fill the heads.
func TestFullHeadsFlushTheLargest(t *testing.T) {
	c := DefaultConfig()
	c.FlushSpans = 1000
	db := openTest(t, vfs.NewMem(), Options{Config: c})
	n := uint64(0)
	add := func(tenant string, count int) {
		var spans []testSpan
		for range count {
			n++
			spans = append(spans, testSpan{trace: n, id: n, service: "a", name: "x"})
		}
		appendAt(t, db, batch(tenant, spans...), int64(n))
	}
	for i := range 20 {
		add(fmt.Sprint("small", i), 5)
	}
	for range 3 {
		add("large", 700)
		add("medium", 300)
		if err := db.flushDue(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	for tenant, want := range map[string]int{"large": 3, "medium": 1, "small7": 0} {
		if got := len(db.lookupTenant(tenant).snapshotBlocks()); got != want {
			t.Errorf("tenant %s has %d blocks, want %d", tenant, got, want)
		}
	}
	mustClose(t, db)
}

// A trace that is too large to be read at once is read in part, with a warning.
func TestEndlessTrace(t *testing.T) {
	db := openTest(t, vfs.NewMem(), Options{})
	n := uint64(0)
	for i := range int64(6) {
		var spans []testSpan
		for range maxTraceSpans / 5 {
			n++
			spans = append(spans, testSpan{trace: 1, id: n, start: int64(n), service: "a", name: "x"})
		}
		appendAt(t, db, batch("default", spans...), i)
		mustFlush(t, db)
	}
	v := db.View("default", math.MinInt64, math.MaxInt64)
	var s signal.Spans
	if err := v.Trace(traceID(1), &s); err != nil {
		t.Fatal(err)
	}
	if s.Len() != maxTraceSpans || len(v.Warnings()) != 1 {
		t.Fatalf("%d spans and warnings %v, want %d and one", s.Len(), v.Warnings(), maxTraceSpans)
	}
	v.Close()
	mustClose(t, db)
}
