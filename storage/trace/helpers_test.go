package trace

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/trace/rows"
)

// t0 is when tests begin, unix nanoseconds.
const t0 = int64(1_700_000_000_000_000_000)

// testSpan is a span as tests write it.
type testSpan struct {
	trace, id, parent uint64
	start, duration   int64 // start after t0
	service, name     string
	kind, status      uint8
	attrs             map[string]string
	events            []string
	link              uint64 // 0 is none
}

func traceID(n uint64) (id signal.TraceID) {
	binary.BigEndian.PutUint64(id[:8], n*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(id[8:], n)
	return id
}

func spanID(n uint64) (id signal.SpanID) {
	binary.BigEndian.PutUint64(id[:], n)
	return id
}

// batch makes the batch that a decoder would make of spans.
func batch(tenant string, spans ...testSpan) *signal.Spans {
	b := &signal.Spans{Tenant: tenant}
	text := func(s string) signal.ByteRange {
		r := signal.ByteRange{Off: uint32(len(b.Buf)), Len: uint32(len(s))}
		b.Buf = append(b.Buf, s...)
		return r
	}
	attr := func(k, v string) {
		b.Attrs = append(b.Attrs, signal.Attr{Key: text(k), Type: signal.AttrString, Num: signal.PackRange(text(v))})
	}
	spans = slices.Clone(spans)
	slices.SortStableFunc(spans, func(x, y testSpan) int { return strings.Compare(x.service, y.service) })
	for i, s := range spans {
		if i == 0 || spans[i-1].service != s.service {
			from := uint32(len(b.Attrs))
			attr("service.name", s.service)
			b.Resources = append(b.Resources, signal.Resource{AttrBegin: from, AttrEnd: uint32(len(b.Attrs))})
			b.Scopes = append(b.Scopes, signal.Scope{Resource: uint32(len(b.Resources) - 1), Name: text("test")})
		}
		b.Scope = append(b.Scope, uint32(len(b.Scopes)-1))
		b.TraceIDs = append(b.TraceIDs, traceID(s.trace))
		b.SpanIDs = append(b.SpanIDs, spanID(s.id))
		b.Parents = append(b.Parents, spanID(s.parent))
		b.Starts = append(b.Starts, t0+s.start)
		b.Ends = append(b.Ends, t0+s.start+s.duration)
		b.Names = append(b.Names, text(s.name))
		b.Kinds = append(b.Kinds, s.kind)
		b.Statuses = append(b.Statuses, s.status)
		b.Messages = append(b.Messages, signal.ByteRange{})
		b.States = append(b.States, signal.ByteRange{})
		b.Flags = append(b.Flags, 0)
		b.DroppedAttrs = append(b.DroppedAttrs, 0)
		b.DroppedEvents = append(b.DroppedEvents, 0)
		b.DroppedLinks = append(b.DroppedLinks, 0)
		b.AttrBegin = append(b.AttrBegin, uint32(len(b.Attrs)))
		for _, k := range sortedKeys(s.attrs) {
			attr(k, s.attrs[k])
		}
		b.AttrEnd = append(b.AttrEnd, uint32(len(b.Attrs)))
		b.EventBegin = append(b.EventBegin, uint32(len(b.Events)))
		for j, name := range s.events {
			b.Events = append(b.Events, signal.Event{Time: t0 + s.start + int64(j), Name: text(name)})
		}
		b.EventEnd = append(b.EventEnd, uint32(len(b.Events)))
		b.LinkBegin = append(b.LinkBegin, uint32(len(b.Links)))
		if s.link != 0 {
			b.Links = append(b.Links, signal.Link{TraceID: traceID(s.link), SpanID: spanID(s.link)})
		}
		b.LinkEnd = append(b.LinkEnd, uint32(len(b.Links)))
	}
	return b
}

// describe writes all of a span as text.
func describe(s *signal.Spans, i int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%x %x %x %d+%d %q %q %d %d", s.TraceIDs[i], s.SpanIDs[i], s.Parents[i], s.Starts[i]-t0, s.Ends[i]-s.Starts[i],
		serviceOf(s, &s.Resources[s.Scopes[s.Scope[i]].Resource]), s.Bytes(s.Names[i]), s.Kinds[i], s.Statuses[i])
	for _, a := range s.SpanAttrs(i) {
		fmt.Fprintf(&b, " %s=%q", s.Bytes(a.Key), s.Bytes(a.Range()))
	}
	for _, e := range s.Events[s.EventBegin[i]:s.EventEnd[i]] {
		fmt.Fprintf(&b, " event %d %q", e.Time-t0, s.Bytes(e.Name))
	}
	for _, l := range s.Links[s.LinkBegin[i]:s.LinkEnd[i]] {
		fmt.Fprintf(&b, " link %x %x", l.TraceID, l.SpanID)
	}
	return b.String()
}

// model is the store as maps: how often each span of each trace was appended.
type model map[signal.TraceID]map[string]int

func (m model) add(b *signal.Spans) {
	for i, id := range b.TraceIDs {
		if m[id] == nil {
			m[id] = make(map[string]int)
		}
		m[id][describe(b, i)]++
	}
}

// byService counts the model's spans, each once.
func (m model) byService() map[string]int {
	out := make(map[string]int)
	for _, spans := range m {
		for s := range spans {
			out[strings.Split(s, `"`)[1]]++
		}
	}
	return out
}

// countServices counts the spans of a View's row groups by service.
func countServices(v *View) (map[string]int, error) {
	var c rows.Cursor
	out := make(map[string]int)
	for _, g := range v.Groups() {
		if err := c.Seek(g); err != nil {
			return nil, err
		}
		rs, err := c.Resources()
		if err != nil {
			return nil, err
		}
		for _, r := range rs {
			out[c.Space().Resources[r].Service]++
		}
	}
	return out, nil
}

// check compares the store with the model: every trace by its id, the spans by
// service, and the services.
func (m model) check(t *testing.T, db *DB) {
	t.Helper()
	v := db.View("default", math.MinInt64, math.MaxInt64)
	defer v.Close()
	if err := m.compare(v); err != nil {
		t.Fatal(err)
	}
	got, err := countServices(v)
	if err != nil {
		t.Fatal(err)
	}
	want := m.byService()
	if !maps.Equal(got, want) {
		t.Fatalf("spans by service: got %v, want %v", got, want)
	}
	if names := db.Services("default"); !slices.Equal(names, sortedKeys(want)) {
		t.Fatalf("services: got %q, want %q", names, sortedKeys(want))
	}
	if w := v.Warnings(); len(w) > 0 {
		t.Fatalf("warnings: %v", w)
	}
}

// compare reads every trace of the model from v.
func (m model) compare(v *View) error {
	var s signal.Spans
	for id, want := range m {
		s.Reset()
		if err := v.Trace(id, &s); err != nil {
			return err
		}
		got := make(map[string]int)
		for i := range s.SpanIDs {
			if s.TraceIDs[i] != id {
				return fmt.Errorf("trace %x has a span of trace %x", id, s.TraceIDs[i])
			}
			got[describe(&s, i)]++
		}
		for d := range want {
			if got[d] != 1 {
				return fmt.Errorf("trace %x: span %s is there %d times, want once", id, d, got[d])
			}
		}
		if len(got) != len(want) {
			return fmt.Errorf("trace %x has %d spans, want %d", id, len(got), len(want))
		}
	}
	return nil
}

// generator makes random batches: new traces, late spans of old ones, and
// spans that were sent before.
type generator struct {
	rng    *rand.Rand
	traces uint64
	spans  uint64
	now    int64 // after t0
	sent   []testSpan
}

func newGenerator(seed uint64) *generator {
	return &generator{rng: rand.New(rand.NewPCG(seed, 1))}
}

func (g *generator) span() testSpan {
	r := g.rng
	g.spans++
	g.now += r.Int64N(int64(time.Second))
	s := testSpan{
		id: g.spans, start: g.now, duration: r.Int64N(int64(time.Second)),
		service: fmt.Sprint("service-", r.IntN(5)), name: fmt.Sprint("operation-", r.IntN(12)), kind: uint8(r.IntN(6)), status: uint8(r.IntN(3)),
	}
	switch {
	case g.traces == 0 || r.IntN(4) == 0:
		g.traces++
		s.trace = g.traces
	case r.IntN(10) == 0: // late
		s.trace = 1 + r.Uint64N(g.traces)
		s.parent = 1 + r.Uint64N(g.spans)
	default:
		s.trace, s.parent = g.traces, g.spans-1
	}
	if r.IntN(2) == 0 {
		s.attrs = map[string]string{"http.route": fmt.Sprint("/r", r.IntN(4)), "user": fmt.Sprint(r.Uint32())}
	}
	if r.IntN(10) == 0 {
		s.events = []string{"exception", "retry"}
		s.link = s.id
	}
	return s
}

// batch makes up to 50 spans.
func (g *generator) batch(duplicates bool) *signal.Spans {
	var spans []testSpan
	for range 1 + g.rng.IntN(50) {
		if duplicates && len(g.sent) > 0 && g.rng.IntN(10) == 0 {
			spans = append(spans, g.sent[g.rng.IntN(len(g.sent))])
			continue
		}
		s := g.span()
		g.sent = append(g.sent, s)
		spans = append(spans, s)
	}
	return batch("default", spans...)
}

// clock is a time that tests move.
type clock struct{ after atomic.Int64 }

func (c *clock) now() time.Time { return time.Unix(0, t0+c.after.Load()) }

func (c *clock) advance(d time.Duration) { c.after.Add(int64(d)) }

func openTest(t testing.TB, fs vfs.FS, o Options) *DB {
	t.Helper()
	o.FS, o.Dir = fs, "/s"
	if o.Config.Retention == 0 {
		o.Config = DefaultConfig()
	}
	if o.Now == nil {
		o.Now = new(clock).now
	}
	db, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func appendAt(t testing.TB, db *DB, b *signal.Spans, offset int64) signal.AppendResult {
	t.Helper()
	res, err := db.AppendSpans(context.Background(), b, "src", "traces", 0, offset)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func mustFlush(t testing.TB, db *DB) {
	t.Helper()
	if err := db.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func mustClose(t testing.TB, db *DB) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// fill appends and flushes n batches, one block each, and returns the model of
// them.
func fill(t testing.TB, db *DB, n int) model {
	t.Helper()
	m := make(model)
	g := newGenerator(7)
	for i := range n {
		b := g.batch(false)
		m.add(b)
		appendAt(t, db, b, int64(i))
		mustFlush(t, db)
	}
	return m
}

func blockDirs(t testing.TB, fs vfs.FS) []string {
	t.Helper()
	var out []string
	if err := eachBlockDir(fs, "/s", func(path string, _ bool) error { out = append(out, path); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

// again makes a batch that no store has and none may take.
func (g *generator) again() *signal.Spans {
	return batch("default", testSpan{trace: 1 << 50, id: 1, service: "never", name: "never"})
}
