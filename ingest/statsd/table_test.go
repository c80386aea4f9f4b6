package statsd

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/doortest"
	"github.com/vedette-io/vedette/ingest/ingesttest"
	"github.com/vedette-io/vedette/internal/signal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a table with a flusher over a pipeline, and a clock.
type rig struct {
	*doortest.Pipeline
	table   *table
	flusher *flusher
	metrics *metrics
	now     time.Time
	t       testing.TB
	seen    int
}

func newRig(t testing.TB, o doortest.Options, change func(*Config)) *rig {
	cfg := DefaultConfig()
	if change != nil {
		change(&cfg)
	}
	require.NoError(t, cfg.Validate())
	r := &rig{Pipeline: doortest.New(t, o), now: time.UnixMilli(1_000_000), t: t}
	r.table = newTable(&cfg, func() time.Time { return r.now })
	r.metrics = newMetrics(r.Registerer, r.table)
	r.flusher = newFlusher(r.table, r.Entry("statsd"), r.metrics)
	return r
}

// take takes a packet in and returns what of it was dropped.
func (r *rig) take(packet string) (accepted int, dropped string) {
	var n tally
	r.table.mu.Lock()
	r.table.lines([]byte(packet), &n)
	r.table.mu.Unlock()
	r.metrics.count(&n)
	var reasons []string
	for d, k := range n.dropped {
		if k > 0 {
			reasons = append(reasons, fmt.Sprintf("%s %d", drop(d), k))
		}
	}
	return n.accepted, strings.Join(reasons, ", ")
}

// flush goes on ten seconds, flushes, and returns what is new, without the
// tenant.
func (r *rig) flush() []string {
	r.t.Helper()
	r.now = r.now.Add(10 * time.Second)
	require.NoError(r.t, r.flusher.flush(r.t.Context(), r.now))
	return r.fresh()
}

func (r *rig) fresh() []string {
	at := fmt.Sprintf("} %d ", r.now.UnixMilli())
	var out []string
	for _, line := range r.Sink.Lines() {
		if strings.Contains(line, at) {
			out = append(out, strings.TrimPrefix(strings.Replace(line, at, "} ", 1), "default "))
		}
	}
	r.seen = len(r.Sink.Lines())
	return out
}

func TestLines(t *testing.T) {
	f := func(packet string, accepted int, dropped string, want ...string) {
		t.Helper()
		r := newRig(t, doortest.Options{}, func(c *Config) { c.Observers, c.Buckets = ObserversHistogram, []float64{1} })
		n, reasons := r.take(packet)
		require.Equal(t, accepted, n, packet)
		require.Equal(t, dropped, reasons, packet)
		require.Equal(t, want, r.flush(), packet)
	}
	const start = " start=1000000"
	f("foo:1|c", 1, "", `{__name__="foo"} 1`+start)
	f("foo:1|c\n", 1, "", `{__name__="foo"} 1`+start)
	f("foo:1|c\r\n\nfoo:2.5|c", 2, "", `{__name__="foo"} 3.5`+start)
	f("foo:3|c|@0.1", 1, "", `{__name__="foo"} 30`+start)
	f("foo:3|c|@0", 1, "", `{__name__="foo"} 3`+start)
	f("foo:1|c:2|c|@0.5:4|c", 3, "", `{__name__="foo"} 9`+start)
	f("foo:1:2:3|c", 3, "", `{__name__="foo"} 6`+start)
	f("gorets.web-1.2xx:1|c", 1, "", `{__name__="gorets_web_1_2xx"} 1`+start)
	f("2xx.größe:1|c", 1, "", `{__name__="_2xx_gr__e"} 1`+start)
	f("g:5|g", 1, "", `{__name__="g"} 5`)
	f("g:5|g\ng:-3|g\ng:+0.5|g", 3, "", `{__name__="g"} 2.5`)
	f("g:-3|g", 1, "", `{__name__="g"} -3`)
	f("g:1e3|g|@0.1", 1, "", `{__name__="g"} 1000`)
	f("s:a|s\ns:b|s\ns:a:c:b|s", 5, "", `{__name__="s"} 3`)
	f("t:320|ms", 1, "", `{__name__="t_bucket", le="+Inf"} 1`+start, `{__name__="t_bucket", le="1.0"} 1`+start, `{__name__="t_count"} 1`+start, `{__name__="t_sum"} 0.32`+start)
	f("t:1:2|h|@0.5", 2, "", `{__name__="t_bucket", le="+Inf"} 4`+start, `{__name__="t_bucket", le="1.0"} 2`+start, `{__name__="t_count"} 4`+start, `{__name__="t_sum"} 6`+start)
	f("t:0.25|d\nt:250|ms", 2, "", `{__name__="t_bucket", le="+Inf"} 2`+start, `{__name__="t_bucket", le="1.0"} 2`+start, `{__name__="t_count"} 2`+start, `{__name__="t_sum"} 0.5`+start)

	// Tags of DogStatsD and other styles.
	f("a:1|c|#k:v,Env:prod", 1, "", `{Env="prod", __name__="a", k="v"} 1`+start)
	f("a:1|c|#k:v:w,bare,empty:,,k-x.y:z", 1, "", `{__name__="a", bare="true", k="v:w", k_x_y="z"} 1`+start)
	f("a:1|c|#k:1,k:2", 1, "", `{__name__="a", k="2"} 1`+start)
	f("a:1|c|#k:v\na:1|c|#k:v,j:w\na:1|c|#j:w,k:v\na,j=w,k=v:1|c", 4, "", `{__name__="a", j="w", k="v"} 3`+start, `{__name__="a", k="v"} 1`+start)
	f("a:1:2|c|@0.5|#k:v|c:ci-1234|T1656581400|e:it-1", 2, "", `{__name__="a", k="v"} 6`+start)
	f("a,k=v,l=w:1|c", 1, "", `{__name__="a", k="v", l="w"} 1`+start)
	f("a#k=v:1|c", 1, "", `{__name__="a", k="v"} 1`+start)
	f("a.b[k=v,l=w].c:1|c", 1, "", `{__name__="a_b_c", k="v", l="w"} 1`+start)
	f("_e{5,4}:title|text|#a:b\n_sc|check|0|#a:b\na:1|c", 1, "", `{__name__="a"} 1`+start)

	// Malformed ones hurt themselves only.
	f("a:1|c\nb\nc:1|c", 2, "malformed 1", `{__name__="a"} 1`+start, `{__name__="c"} 1`+start)
	for _, bad := range []string{
		"a", ":1|c", "a:", "a:1", "a:|c", "a:1|", "a:x|c", "a:1|c|@x", "a:1|c|@-1", "a:1|c|@2", "a:NaN|g", "a:Inf|g", "a:0x10|c",
		"a:1e999|g", "a:+|g", "a:|s", "a:1|c|#:v", "a:1|c|#__name__:v", "a:1|c|#k:\xff", "a[k=v:1|c", "a,=v:1|c", "a:1|h|#le:1", ",k=v:1|c", "a:1|c:",
	} {
		n, want := 0, "malformed 1"
		switch bad {
		case "a:1|":
			want = "unsupported_type 1"
		case "a:1|c:":
			n = 1
		}
		r := newRig(t, doortest.Options{}, func(c *Config) { c.Observers, c.Buckets = ObserversHistogram, []float64{1} })
		accepted, reasons := r.take(bad)
		require.Equal(t, n, accepted, bad)
		require.Equal(t, want, reasons, bad)
		require.Len(t, r.flush(), n, bad)
		require.Equal(t, n, r.table.live, bad) // nothing is left of it
	}
	f("a:1:x:3|c", 2, "malformed 1", `{__name__="a"} 4`+start)
	f("a:1:2|zz", 0, "unsupported_type 2")
	f("a:-1|c\na:1|c", 1, "negative_counter 1", `{__name__="a"} 1`+start)
	f("a:1|c\na:1|g\na:2|g|#k:v\na:1|s", 1, "type_conflict 3", `{__name__="a"} 1`+start)
	f("a:1|c\na.b:1|c\na_b:1|c", 3, "", `{__name__="a"} 1`+start, `{__name__="a_b"} 2`+start)
	f("t:1|ms\nt_count:1|c\nt_sum:1|g\nt_bucket:1|c", 1, "type_conflict 3", `{__name__="t_bucket", le="+Inf"} 1`+start, `{__name__="t_bucket", le="1.0"} 1`+start,
		`{__name__="t_count"} 1`+start, `{__name__="t_sum"} 0.001`+start)
	f("t_count:1|c\nt:1|ms", 1, "type_conflict 1", `{__name__="t_count"} 1`+start)
}

// A series goes on from flush to flush, and ends after its time.
func TestFlushes(t *testing.T) {
	r := newRig(t, doortest.Options{}, func(c *Config) { c.TTL = 25 * time.Second })
	r.take("c:1|c\ng:5|g\ns:a:b|s")
	const start = " start=1000000"
	require.Equal(t, []string{`{__name__="c"} 1` + start, `{__name__="g"} 5`, `{__name__="s"} 2`}, r.flush())
	require.Equal(t, []string{`{__name__="c"} 1` + start, `{__name__="g"} 5`, `{__name__="s"} 0`}, r.flush())
	r.take("c:2|c\ng:+1|g\ns:a|s")
	require.Equal(t, []string{`{__name__="c"} 3` + start, `{__name__="g"} 6`, `{__name__="s"} 1`}, r.flush())
	r.take("c:1|c")
	require.Len(t, r.flush(), 3)
	require.Len(t, r.flush(), 3)
	const stale = "NaN:7ff0000000000002"
	require.Equal(t, []string{`{__name__="c"} 4` + start, `{__name__="g"} ` + stale, `{__name__="s"} ` + stale}, r.flush())
	require.Equal(t, []string{`{__name__="c"} ` + stale + start}, r.flush())
	require.Zero(t, r.table.live)
	require.Empty(t, r.table.families)
	require.Empty(t, r.flush())

	// Its name is free for another type, and its old spelling finds the new series.
	require.NoError(t, testutil.CollectAndCompare(r.metrics.accepted, strings.NewReader("# HELP vedette_ingest_statsd_accepted_events_total Values of metrics that were added to their series.\n# TYPE vedette_ingest_statsd_accepted_events_total counter\nvedette_ingest_statsd_accepted_events_total 8\n")))
	n, dropped := r.take("c:7|g\ng:1|c")
	require.Equal(t, 2, n, dropped)
	require.Equal(t, []string{`{__name__="c"} 7`, fmt.Sprintf(`{__name__="g"} 1 start=%d`, r.now.UnixMilli())}, r.flush())
	var types []string
	for _, m := range r.Sink.Metadata() {
		types = append(types, m.Family+" "+m.Type)
	}
	require.Equal(t, []string{"c counter", "g gauge", "s gauge", "c gauge", "g counter"}, types)
}

func TestSummary(t *testing.T) {
	r := newRig(t, doortest.Options{}, func(c *Config) { c.TTL = time.Hour })
	for i := range 1000 {
		r.take(fmt.Sprintf("lat:%d|ms|#k:v,zone:x", i+1))
	}
	lines := r.flush()
	require.Len(t, lines, 5)
	for i, want := range []float64{0.5, 0.9, 0.99} {
		var got float64
		_, err := fmt.Sscanf(lines[i], fmt.Sprintf(`{__name__="lat", k="v", quantile="%v", zone="x"} %%g`, want), &got)
		require.NoError(t, err, lines[i])
		require.InEpsilon(t, want, got, 0.012)
	}
	require.Equal(t, `{__name__="lat_count", k="v", zone="x"} 1000 start=1000000`, lines[3])
	require.Contains(t, lines[4], `{__name__="lat_sum", k="v", zone="x"} 500.`)
	require.Positive(t, r.table.sketchBytes)

	// The quantiles are of the last ten minutes.
	for range 65 {
		lines = r.flush()
	}
	require.Equal(t, `{__name__="lat", k="v", quantile="0.5", zone="x"} NaN:7ff8000000000001`, lines[0])
	require.Equal(t, `{__name__="lat_count", k="v", zone="x"} 1000 start=1000000`, lines[3])
	require.Zero(t, r.table.sketchBytes)
	r.take("lat:250|ms|#k:v,zone:x")
	require.Equal(t, `{__name__="lat", k="v", quantile="0.99", zone="x"} 0.25`, r.flush()[2])
}

func TestNative(t *testing.T) {
	r := newRig(t, doortest.Options{}, func(c *Config) { c.Observers, c.TTL = ObserversNative, time.Second })
	r.take("n:1:2:2:0:-4|h\nn:1000|ms")
	require.Equal(t, []string{`{__name__="n"} {count:6, sum:2, [-4,-3.6680161728186844):1, [-2.938735877055719e-39,2.938735877055719e-39]:1, (0.9170040432046711,1]:2, (1.8340080864093422,2]:2} start=1000000`}, r.flush())
	require.Equal(t, []string{`{__name__="n"} {count:0, sum:NaN} start=1000000`}, r.flush())
	require.Zero(t, r.table.live)
	require.Zero(t, r.table.sketchBytes)
}

func TestLimits(t *testing.T) {
	r := newRig(t, doortest.Options{}, func(c *Config) { c.MaxSeries = 2 })
	n, dropped := r.take("a:1|c\nb:1|c\nc:1:1|c\na:1|c")
	require.Equal(t, 3, n)
	require.Equal(t, "series_limit 2", dropped)
	for i := range 100 { // many spellings of one series
		_, dropped = r.take(fmt.Sprintf("a:1|c|#%s", strings.Repeat(",", i)))
		require.Empty(t, dropped)
	}
	require.LessOrEqual(t, len(r.table.aliases), 8)
	require.Equal(t, []string{`{__name__="a"} 102 start=1000000`, `{__name__="b"} 1 start=1000000`}, r.flush())

	r = newRig(t, doortest.Options{}, nil)
	r.take("s:a|s\nlat:1|ms")
	r.table.setMembers, r.table.sketchBytes = maxSetMembers, maxSketchBytes+1
	_, dropped = r.take("s:b:a|s\nlat:2|ms")
	require.Equal(t, "set_limit 1", dropped)
	require.Equal(t, 1.0, testutil.ToFloat64(r.metrics.sketches))
	lines := r.flush()
	require.Equal(t, `{__name__="lat", quantile="0.99"} 0.001`, lines[2])
	require.Equal(t, `{__name__="lat_count"} 2 start=1000000`, lines[3])
	require.Equal(t, `{__name__="s"} 1`, lines[5])
}

// What the door refuses for the moment is tried again; what it does not take in
// time changes no count.
func TestRetry(t *testing.T) {
	r := newRig(t, doortest.Options{}, nil)
	r.take("c:1|c")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.Door.Close()
	require.Error(t, r.flusher.flush(ctx, r.now.Add(time.Second)))
	require.Equal(t, 1.0, testutil.ToFloat64(r.metrics.lost))

	next := newRig(t, doortest.Options{}, nil)
	r.flusher.entry, r.Pipeline = next.flusher.entry, next.Pipeline
	r.take("c:1|c")
	require.Equal(t, []string{`{__name__="c"} 2 start=1000000`}, r.flush())
}

func TestRetryWithinFlush(t *testing.T) {
	r := newRig(t, doortest.Options{Config: func(c *door.Config) { c.Limits.SamplesPerSecond, c.Limits.SamplesBurst = 200, 1 }}, nil)
	for i := range 20 {
		r.take(fmt.Sprintf("many:1|g|#i:%d", i))
	}
	require.Len(t, r.flush(), 20)
	for i := range r.table.series { // they have been there
		r.table.remove(int32(i))
	}
	r.take("c:1|c")
	require.Equal(t, []string{`{__name__="c"} 1 start=1010000`}, r.flush()) // waits for the rate
}

// A part that the store refuses is reported, and the rest is written.
func TestPartial(t *testing.T) {
	sink := &ingesttest.Sink{Append: func(b *signal.Metrics, _ int32, _ int64) (signal.AppendResult, error) {
		return signal.AppendResult{Appended: b.Samples() - 1, SeriesLimit: 1, FirstError: "too many series"}, nil
	}}
	r := newRig(t, doortest.Options{Sink: sink}, nil)
	r.take("c:1|c\nd:1|c")
	require.ErrorContains(t, r.flusher.flush(t.Context(), r.now), "too many series")
}

// A large table goes out in several requests, and events come in meanwhile.
func TestManySeries(t *testing.T) {
	r := newRig(t, doortest.Options{Partitions: 2}, nil)
	const n = 20_000
	pad := strings.Repeat("p", 100)
	for i := range n {
		_, dropped := r.take(fmt.Sprintf("c:1|c|#i:%d,pad:%s", i, pad))
		require.Empty(t, dropped)
	}
	require.Len(t, r.flush(), n)
	require.Greater(t, len(r.Sink.Offsets(0)), 1)
}

func TestConfig(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	require.False(t, DefaultConfig().Enabled())
	require.True(t, Config{ListenUDP: ":1"}.Enabled())
	err := Config{ListenUnix: "/x", ListenUnixgram: "/x", Observers: "x", Buckets: []float64{1, 1, math.NaN()}, TTL: -1, Tenant: "/"}.Validate()
	require.EqualError(t, err, `listen_unix: got "/x", want another path than listen_unixgram
flush_interval: got 0s, want at least 100ms
observers: got "x", want summary, histogram or native
buckets: got 1 at position 1, want rising finite numbers
buckets: got NaN at position 2, want rising finite numbers
ttl: got -1ns, want 0 or more
max_series: got 0, want 1 to 2147483647
tenant: got "/": byte '/' at position 0, want a letter, a digit or one of - _ .`)
}

func FuzzPacket(f *testing.F) {
	for _, s := range []string{
		"foo:1|c|@0.1|#k:v,b\nfoo:-1|g", "a,b=c:1:2|ms|T1|c:x", "s[a=b]x:a:b|s\n_e{1,1}:a|b", "t:1e300|h:2|d|@0.001:3|h",
	} {
		f.Add([]byte(s), uint8(0))
	}
	kinds := []string{ObserversSummary, ObserversHistogram, ObserversNative}
	p := doortest.New(f, doortest.Options{})
	entry := p.Entry("fuzz")
	f.Fuzz(func(t *testing.T, packet []byte, observers uint8) {
		cfg := DefaultConfig()
		cfg.Observers, cfg.TTL = kinds[int(observers)%len(kinds)], time.Second
		now := time.UnixMilli(1_000_000)
		tab := newTable(&cfg, func() time.Time { return now })
		fl := newFlusher(tab, entry, newMetrics(prometheus.NewRegistry(), tab))
		var n tally
		tab.lines(packet, &n)
		tab.lines(packet, &n)
		for i := range 2 {
			if err := fl.flush(t.Context(), now.Add(time.Duration(i+1)*2*time.Second)); err != nil && !strings.Contains(err.Error(), "refused") {
				t.Fatal(err)
			}
		}
		if tab.live != 0 || tab.sketchBytes != 0 || tab.setMembers != 0 || len(tab.families) != 0 || len(tab.byID) != 0 {
			t.Fatalf("left: %d series, %d bytes, %d members, %d names, %d ids", tab.live, tab.sketchBytes, tab.setMembers, len(tab.families), len(tab.byID))
		}
	})
}
