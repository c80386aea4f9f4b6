package trace

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/vfs"
)

// levels returns level and spans of every block.
func levels(db *DB) (out [][2]int) {
	for _, b := range db.lookupTenant("default").snapshotBlocks() {
		out = append(out, [2]int{b.origin.Level, b.spans()})
	}
	return out
}

// block appends and flushes n spans, each a trace of its own, and returns the
// first's number.
func addBlock(t *testing.T, db *DB, offset int64, n int, service string) uint64 {
	t.Helper()
	var spans []testSpan
	for i := range n {
		id := uint64(offset)*100_000 + uint64(i) + 1
		spans = append(spans, testSpan{trace: id, id: id, start: int64(id), service: service, name: "x"})
	}
	appendAt(t, db, batch("default", spans...), offset)
	mustFlush(t, db)
	return spans[0].trace
}

func maintain(t *testing.T, db *DB) {
	t.Helper()
	if err := db.Maintain(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestSpansAreMergedOnceUnderLoad(t *testing.T) {
	c := DefaultConfig()
	c.MergeSpans = 1000
	db := openTest(t, vfs.NewMem(), Options{Config: c})
	for i := range int64(9) {
		addBlock(t, db, i, 250, "a")
		maintain(t, db)
	}
	want := [][2]int{{1, 1000}, {1, 1000}, {0, 250}}
	if got := levels(db); !slices.Equal(got, want) {
		t.Fatalf("blocks %v, want %v", got, want)
	}
	if n := testutil.ToFloat64(db.metrics.mergeSpans); n != 2000 {
		t.Fatalf("merges wrote %v spans, want 2000", n)
	}
	mustClose(t, db)
}

func TestQuietSitesMergeByTime(t *testing.T) {
	c := DefaultConfig()
	c.MergeSpans = 1000
	var now clock
	db := openTest(t, vfs.NewMem(), Options{Config: c, Now: now.now})
	offset := int64(0)
	for range 7 {
		for range 3 {
			addBlock(t, db, offset, 10, "a")
			offset++
			now.advance(10 * time.Second)
			maintain(t, db)
		}
		now.advance(c.MergeInterval)
		maintain(t, db)
	}
	if got := levels(db); len(got) != 7 || got[0] != [2]int{1, 30} {
		t.Fatalf("blocks %v, want 7 of level 1 with 30 spans", got)
	}
	addBlock(t, db, offset, 10, "a")
	maintain(t, db)
	if got := levels(db); len(got) != 8 {
		t.Fatalf("blocks %v, want 8", got)
	}
	now.advance(c.MergeInterval)
	maintain(t, db)
	if got, want := levels(db), [][2]int{{2, 220}}; !slices.Equal(got, want) {
		t.Fatalf("blocks %v, want %v", got, want)
	}
	// Fewer blocks are enough where more have no room, but not two that stay small.
	for i := range 8 {
		addBlock(t, db, offset+1+int64(i), 200, "a")
		now.advance(c.MergeInterval)
		maintain(t, db)
	}
	want := [][2]int{{2, 220}, {2, 1000}, {1, 200}, {1, 200}, {1, 200}}
	if got := levels(db); !slices.Equal(got, want) {
		t.Fatalf("blocks %v, want %v", got, want)
	}
	mustClose(t, db)
}

// Merges are smaller where nearly every span is named differently.
func TestManyShapesMakeSmallerBlocks(t *testing.T) {
	c := DefaultConfig()
	c.MergeSpans = 1000
	db := openTest(t, vfs.NewMem(), Options{Config: c})
	for i := range int64(8) {
		var spans []testSpan
		for n := range uint64(100) {
			id := uint64(i)*100 + n + 1
			spans = append(spans, testSpan{trace: id, id: id, service: "a", name: fmt.Sprint("user ", id)})
		}
		appendAt(t, db, batch("default", spans...), i)
		mustFlush(t, db)
		maintain(t, db)
	}
	want := [][2]int{{1, 300}, {1, 300}, {0, 100}, {0, 100}}
	if got := levels(db); !slices.Equal(got, want) {
		t.Fatalf("blocks %v, want %v", got, want)
	}
	mustClose(t, db)
}

// A clock that was ahead for a while, and one that was behind, hold up no merge,
// and blocks of that time are neither deleted at once nor kept for ever.
func TestWrongClocks(t *testing.T) {
	c := DefaultConfig()
	c.Retention = 10 * time.Hour
	c.MergeInterval = time.Minute
	var now clock
	db := openTest(t, vfs.NewMem(), Options{Config: c, Now: now.now})
	const wrong = 365 * 24 * time.Hour
	for i, by := range []time.Duration{0, wrong, 0, -wrong, 0} {
		now.advance(by)
		addBlock(t, db, int64(i), 10, "a")
		now.advance(-by)
		now.advance(2 * time.Minute)
		maintain(t, db)
	}
	if got := levels(db); slices.Contains(got, [2]int{0, 10}) {
		t.Fatalf("blocks %v, want all of them merged", got)
	}
	if got := db.totals(); got.spans != 50 {
		t.Fatalf("%d spans, want all 50", got.spans)
	}
	now.advance(c.Retention - 10*time.Minute)
	maintain(t, db)
	if got := db.totals(); got.spans != 50 {
		t.Fatalf("%d spans before their retention ends, want all 50", got.spans)
	}
	now.advance(10 * time.Minute)
	maintain(t, db)
	if got := db.totals(); got.spans != 0 {
		t.Fatalf("%d spans past their retention", got.spans)
	}
	mustClose(t, db)
}

// Merged blocks do not cover so much time that retention could not drop them in
// parts.
func TestMergesRespectRetention(t *testing.T) {
	c := DefaultConfig()
	c.Retention = 8 * time.Hour
	var now clock
	db := openTest(t, vfs.NewMem(), Options{Config: c, Now: now.now})
	for i := range int64(16) {
		addBlock(t, db, i, 10, "a")
		now.advance(20 * time.Minute)
		maintain(t, db)
	}
	if got := levels(db); len(got) != 16 {
		t.Fatalf("blocks %v, want 16: eight of them took 140 minutes to arrive", got)
	}
	mustClose(t, db)
}

func TestRetentionByArrival(t *testing.T) {
	c := DefaultConfig()
	c.Retention = time.Hour
	var now clock
	db := openTest(t, vfs.NewMem(), Options{Config: c, Now: now.now})
	// Spans of a year ago count from their arrival.
	old := testSpan{trace: 1, id: 1, start: -int64(365 * 24 * time.Hour), service: "a", name: "x"}
	appendAt(t, db, batch("default", old), 0)
	mustFlush(t, db)
	now.advance(40 * time.Minute)
	addBlock(t, db, 1, 10, "b")
	maintain(t, db)
	m := make(model)
	m.add(batch("default", old))
	v := db.View("default", math.MinInt64, math.MaxInt64)
	if err := m.compare(v); err != nil {
		t.Fatal(err)
	}
	v.Close()
	now.advance(21 * time.Minute)
	maintain(t, db)
	if got := db.totals(); got.spans != 10 {
		t.Fatalf("%d spans after the retention of the first, want 10", got.spans)
	}
	if got := db.Services("default"); !slices.Equal(got, []string{"b"}) {
		t.Fatalf("services %q", got)
	}
	now.advance(40 * time.Minute)
	maintain(t, db)
	if got := db.totals(); got.blocks != 0 {
		t.Fatalf("%d blocks after the retention of all", got.blocks)
	}
	if n := testutil.ToFloat64(db.metrics.droppedSpans.WithLabelValues("retention")); n != 11 {
		t.Fatalf("counted %v spans past retention, want 11", n)
	}
	mustClose(t, db)
}

func TestRetentionByBytesTakesTheOldestOfAllTenants(t *testing.T) {
	fs := vfs.NewMem()
	var now clock
	db := openTest(t, fs, Options{Now: now.now})
	offset := int64(0)
	for _, tenant := range []string{"z", "a", "z", "a"} {
		b := apart(int(offset))
		b.Tenant = tenant
		appendAt(t, db, b, offset)
		mustFlush(t, db)
		now.advance(time.Minute)
		offset++
	}
	total := db.totals().bytes
	mustClose(t, db)
	c := DefaultConfig()
	c.RetentionBytes = total * 3 / 5
	c.MergeInterval = 24 * time.Hour
	db = openTest(t, fs, Options{Config: c, Now: now.now})
	maintain(t, db)
	for _, tenant := range []string{"a", "z"} {
		bs := db.lookupTenant(tenant).snapshotBlocks()
		if len(bs) != 1 || bs[0].origin.First != 1 {
			t.Fatalf("tenant %s has %d blocks, want the second one", tenant, len(bs))
		}
	}
	if got := db.totals().bytes; got > c.RetentionBytes {
		t.Fatalf("%d bytes, want at most %d", got, c.RetentionBytes)
	}
	mustClose(t, db)
}

func TestRetentionByService(t *testing.T) {
	c := DefaultConfig()
	c.Retention = 10 * time.Hour
	c.RetentionByService = map[string]time.Duration{"chatty": 2 * time.Hour, "audit": 40 * time.Hour}
	fs := vfs.NewMem()
	var now clock
	db := openTest(t, fs, Options{Config: c, Now: now.now})
	chatty := testSpan{trace: 1, id: 1, service: "chatty", name: "x"}
	plain := testSpan{trace: 1, id: 2, parent: 1, service: "plain", name: "x"}
	audit := testSpan{trace: 1, id: 3, parent: 1, service: "audit", name: "x"}
	appendAt(t, db, batch("default", chatty, plain, audit), 0)
	mustFlush(t, db)
	check := func(when string, want ...testSpan) {
		t.Helper()
		maintain(t, db)
		m := make(model)
		m.add(batch("default", want...))
		m.check(t, db)
	}
	check("at first", chatty, plain, audit)
	now.advance(2*time.Hour - time.Minute)
	check("before any retention", chatty, plain, audit)
	now.advance(2 * time.Minute)
	check("past chatty's", plain, audit)
	merges := testutil.ToFloat64(db.metrics.mergeSpans)
	check("again", plain, audit)
	now.advance(8*time.Hour + time.Minute)
	check("past all but audit's", audit)
	if n := testutil.ToFloat64(db.metrics.mergeSpans) - merges; n != 1 {
		t.Fatalf("rewrites wrote %v spans, want 1", n)
	}
	if n := testutil.ToFloat64(db.metrics.droppedSpans.WithLabelValues("service_retention")); n != 2 {
		t.Fatalf("counted %v spans, want 2", n)
	}
	mustClose(t, db)
	db = openTest(t, fs, Options{Config: c, Now: now.now})
	check("opened again", audit)
	now.advance(31 * time.Hour)
	maintain(t, db)
	if got := db.totals(); got.blocks != 0 {
		t.Fatalf("%d blocks past every retention", got.blocks)
	}
	mustClose(t, db)
}

// keepSome keeps traces with errors, and notes what it was asked.
type keepSome struct{ asked []TraceSummary }

func (k *keepSome) Keep(t TraceSummary) bool {
	k.asked = append(k.asked, t)
	return t.Errors > 0
}

func (k *keepSome) askedFor(trace uint64) (out []TraceSummary) {
	for _, s := range k.asked {
		if s.ID == traceID(trace) {
			out = append(out, s)
		}
	}
	return out
}

func count(db *DB, trace uint64) int {
	v := db.View("default", math.MinInt64, math.MaxInt64)
	defer v.Close()
	var s signal.Spans
	if err := v.Trace(traceID(trace), &s); err != nil {
		return -1
	}
	return s.Len()
}

func TestTailSampling(t *testing.T) {
	c := DefaultConfig()
	c.MergeInterval, c.DecisionWait = 30*time.Second, time.Minute
	fs := vfs.NewMem()
	var now clock
	sampler := &keepSome{}
	db := openTest(t, fs, Options{Config: c, Now: now.now, Sampler: sampler})
	second := int64(time.Second)
	// Trace 1 is dropped, trace 2 has an error in a later block, trace 3 goes on in
	// the next block without one, trace 4 has one in the first block only.
	appendAt(t, db, batch("default",
		testSpan{trace: 1, id: 11, service: "a", name: "root", kind: 2, duration: second},
		testSpan{trace: 1, id: 12, parent: 11, start: 5, service: "b", name: "child", duration: 2 * second},
		testSpan{trace: 2, id: 21, parent: 22, start: 7, service: "a", name: "early", duration: 1},
		testSpan{trace: 3, id: 31, service: "a", name: "root"},
		testSpan{trace: 4, id: 41, service: "a", name: "root", status: 2},
	), 0)
	mustFlush(t, db)
	now.advance(40 * time.Second)
	maintain(t, db)
	if len(sampler.asked) != 0 {
		t.Fatal("asked before the decision wait was over")
	}
	appendAt(t, db, batch("default",
		testSpan{trace: 2, id: 22, start: 9, service: "c", name: "late root", kind: 1, status: 2},
		testSpan{trace: 3, id: 32, parent: 31, service: "a", name: "child"},
		testSpan{trace: 4, id: 42, parent: 41, service: "a", name: "child"},
	), 1)
	mustFlush(t, db)
	now.advance(21 * time.Second)
	maintain(t, db)
	if got := levels(db); !slices.Equal(got, [][2]int{{1, 2}, {0, 3}}) {
		t.Fatalf("blocks %v, want the first one decided", got)
	}
	want := TraceSummary{ID: traceID(1), Start: t0, End: t0 + 5 + 2*second, Spans: 2, Root: true, Service: "a", Name: "root", Kind: 2}
	if got := sampler.askedFor(1); len(got) != 1 || got[0] != want {
		t.Fatalf("summary %+v, want %+v", got, want)
	}
	want = TraceSummary{ID: traceID(2), Start: t0 + 7, End: t0 + 9, Spans: 2, Errors: 1, Root: true, Service: "c", Name: "late root", Kind: 1}
	if got := sampler.askedFor(2); len(got) != 1 || got[0] != want {
		t.Fatalf("summary %+v, want %+v", got, want)
	}
	// A restart forgets neither what was kept nor what was dropped.
	mustClose(t, db)
	sampler.asked = nil
	db = openTest(t, fs, Options{Config: c, Now: now.now, Sampler: sampler})
	now.advance(time.Hour)
	maintain(t, db)
	for trace, want := range map[uint64]int{1: 0, 2: 2, 3: 0, 4: 2} {
		if got := count(db, trace); got != want {
			t.Errorf("trace %d has %d spans, want %d", trace, got, want)
		}
	}
	if len(sampler.asked) != 0 {
		t.Errorf("asked again: %+v", sampler.asked)
	}
	if n := testutil.ToFloat64(db.metrics.droppedSpans.WithLabelValues("sampling")); n != 1 {
		t.Errorf("counted %v spans since the restart, want 1", n)
	}
	mustClose(t, db)
}

// The traces of a large merge are decided about in parts, each once.
func TestTailSamplingInParts(t *testing.T) {
	var now clock
	sampler := &keepSome{}
	db := openTest(t, vfs.NewMem(), Options{Now: now.now, Sampler: sampler})
	db.decideSpans = 7
	m := make(model)
	for i := range int64(3) {
		var spans []testSpan
		for n := range uint64(50) {
			s := testSpan{trace: n + 1, id: uint64(i) + 1, start: i, service: "a", name: "x"}
			if n%3 == 0 && i == 2 {
				s.status = 2
			}
			spans = append(spans, s)
			if n%3 == 0 {
				m.add(batch("default", s))
			}
		}
		appendAt(t, db, batch("default", spans...), i)
		mustFlush(t, db)
	}
	now.advance(time.Hour)
	maintain(t, db)
	m.check(t, db)
	if len(sampler.asked) != 50 {
		t.Fatalf("asked %d times about 50 traces", len(sampler.asked))
	}
	for _, s := range sampler.asked {
		if s.Spans != 3 {
			t.Fatalf("asked about %d spans of %x, want 3", s.Spans, s.ID)
		}
	}
	mustClose(t, db)
}

// What was stored before there was a sampler stays.
func TestSamplingLeavesOldBlocks(t *testing.T) {
	fs := vfs.NewMem()
	var now clock
	db := openTest(t, fs, Options{Now: now.now})
	addBlock(t, db, 0, 10, "a")
	if err := db.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	mustClose(t, db)
	db = openTest(t, fs, Options{Now: now.now, Sampler: &keepSome{}})
	now.advance(time.Hour)
	maintain(t, db)
	if got := db.totals().spans; got != 10 {
		t.Fatalf("%d spans, want 10", got)
	}
	mustClose(t, db)
}

func TestMetricsSayWhatThereIs(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	db := openTest(t, vfs.NewMem(), Options{Registerer: reg})
	fillApart(t, db, 2)
	if err := db.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	appendAt(t, db, apart(2), 2)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += fmt.Sprintf("{%s=%q}", l.GetName(), l.GetValue())
			}
			got[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	for name, want := range map[string]float64{
		metricPrefix + "spans_total": 120, metricPrefix + "head_spans": 40, metricPrefix + `blocks{level="1"}`: 1,
		metricPrefix + `blocks_spans{level="1"}`: 80, metricPrefix + `flushes_total{result="ok"}`: 2, metricPrefix + `merges_total{level="1"}`: 1,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	mustClose(t, db)
}

// What comes long after a trace was decided about is decided about by itself, so
// that a merge does not look for every trace in all blocks.
func TestSamplingReach(t *testing.T) {
	c := DefaultConfig()
	var now clock
	sampler := &keepSome{}
	db := openTest(t, vfs.NewMem(), Options{Config: c, Now: now.now, Sampler: sampler})
	for i, late := range []time.Duration{0, c.DecisionWait, 2 * decisionReach * c.DecisionWait} {
		now.advance(late)
		s := testSpan{trace: 1, id: uint64(i) + 1, service: "a", name: "x"}
		if i == 0 {
			s.status = 2
		}
		appendAt(t, db, batch("default", s), int64(i))
		mustFlush(t, db)
		now.advance(c.MergeInterval + c.DecisionWait)
		maintain(t, db)
	}
	if got := count(db, 1); got != 2 {
		t.Fatalf("%d spans, want the two that came in time", got)
	}
	if got := len(sampler.askedFor(1)); got != 2 {
		t.Fatalf("asked %d times, want 2", got)
	}
	mustClose(t, db)
}

// A merge of which nothing stays covers its offsets all the same.
func TestSamplingLeavesNothing(t *testing.T) {
	fs := vfs.NewMem()
	var now clock
	db := openTest(t, fs, Options{Now: now.now, Sampler: &keepSome{}})
	for i := range int64(3) {
		addBlock(t, db, i, 10, "a")
	}
	now.advance(time.Hour)
	maintain(t, db)
	if got := levels(db); !slices.Equal(got, [][2]int{{1, 0}}) {
		t.Fatalf("blocks %v, want one without spans", got)
	}
	addBlock(t, db, 3, 10, "a")
	mustClose(t, db)
	db = openTest(t, fs, Options{Now: now.now, Sampler: &keepSome{}})
	if got := db.Covered("src", "traces", 0); got != 4 {
		t.Fatalf("covered %d, want 4", got)
	}
	if err := db.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := db.totals().spans; got != 10 {
		t.Fatalf("%d spans, want 10", got)
	}
	mustClose(t, db)
}
