package sampling

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/internal/signal"
)

type tailRig struct {
	*Tail
	start time.Time
	ids   []signal.TraceID
	n     int
}

func newTail(change func(*TailConfig)) *tailRig {
	c := DefaultConfig().Tail
	c.Enabled = true
	if change != nil {
		change(&c)
	}
	r := &tailRig{Tail: NewTail(c, prometheus.NewRegistry()), start: time.Unix(1_700_000_000, 0).Truncate(time.Hour), ids: ids(20_000)}
	r.now = func() time.Time { return r.start.Add(time.Hour) }
	return r
}

func (r *tailRig) trace(name string, d time.Duration) TraceSummary {
	r.n++
	return TraceSummary{
		ID: r.ids[r.n%len(r.ids)], Start: r.start.UnixNano(), End: r.start.Add(d).UnixNano(), Spans: 3, Root: true, Service: "shop", Name: name, Kind: 2,
	}
}

func TestTail(t *testing.T) {
	r := newTail(nil)
	// The first ones are rare, then too little is known of them.
	for i := range 100 {
		want := ReasonRare
		if i >= 10 {
			want = ReasonLearning
		}
		s := r.trace("GET /", time.Duration(100+i%10)*time.Millisecond)
		d := r.Decide(s)
		require.True(t, d.Keep)
		require.Equal(t, want, d.Reason, i)
		require.Equal(t, d, r.Decide(s), "deciding changes nothing")
		require.True(t, r.Keep(s))
	}
	// Then the usual ones go, but for a share of them.
	kept := 0
	for i := range 5000 {
		s := r.trace("GET /", time.Duration(100+i%10)*time.Millisecond)
		d := r.Decide(s)
		require.Equal(t, ReasonChance, d.Reason)
		require.Equal(t, chance(s.ID) >= Threshold(0.1), d.Keep)
		if r.Keep(s) {
			kept++
		}
	}
	require.InDelta(t, 500, kept, 80)
	require.Equal(t, float64(kept), testutil.ToFloat64(r.metrics.decisions[1][ReasonChance]))
	require.Equal(t, float64(5000-kept), testutil.ToFloat64(r.metrics.decisions[0][ReasonChance]))

	slow := r.trace("GET /", 200*time.Millisecond)
	require.Equal(t, ReasonSlow, r.Decide(slow).Reason)
	require.Regexp(t, `^keep: it took 200ms, more than 11\d\.\d+ms, the quantile 0.99 of "GET /" of "shop"$`, r.Decide(slow).Explain())
	failed := r.trace("GET /", time.Millisecond)
	failed.Errors = 1
	require.Equal(t, "keep: 1 of 3 spans have an error", r.Decide(failed).Explain())
	other := r.trace("POST /", time.Millisecond)
	require.Equal(t, `keep: number 1 of "POST /" of "shop" in its hour, of which 10 are kept`, r.Decide(other).Explain())
	other.Name, other.ID = "GET /", r.ids[slices.IndexFunc(r.ids, func(id signal.TraceID) bool { return chance(id) < Threshold(0.1) })]
	require.Equal(t, `drop: "GET /" of "shop" is usual, and its id is not among the 0.1 that are kept`, r.Decide(other).Explain())

	// The next hour begins with rare ones again; an hour that is long past does not.
	next := r.trace("GET /", 100*time.Millisecond)
	next.Start, next.End = next.Start+hourNanos, next.End+hourNanos
	require.Equal(t, ReasonRare, r.Decide(next).Reason)
	r.Observe(next)
	require.Equal(t, 1, r.operations[operation{"shop", "GET /"}].inHour(next.Start/hourNanos))
	before := next
	before.Start, before.End = before.Start-48*hourNanos, before.End-48*hourNanos
	require.Equal(t, ReasonChance, r.Decide(before).Reason)
	// A clock that is ahead counts for now.
	ahead := next
	ahead.Start, ahead.End = math.MaxInt64-1e9, math.MaxInt64
	r.Keep(ahead)
	require.Equal(t, r.now().UnixNano()/hourNanos, r.hour)
}

func TestTailSwitches(t *testing.T) {
	r := newTail(func(c *TailConfig) { *c = TailConfig{Enabled: true} })
	s := r.trace("x", time.Hour)
	s.Errors = 1
	require.False(t, r.Keep(s), "nothing is kept")
	r = newTail(func(c *TailConfig) { *c = TailConfig{Enabled: true, Probability: 1} })
	require.True(t, r.Keep(s))
	r = newTail(func(c *TailConfig) { *c = TailConfig{Enabled: true, RarePerHour: 2} })
	require.True(t, r.Keep(r.trace("x", 1)))
	require.True(t, r.Keep(r.trace("x", 1)))
	require.False(t, r.Keep(r.trace("x", 1)))
}

// What is slow follows an operation that becomes slower.
func TestDecay(t *testing.T) {
	r := newTail(nil)
	at := func(hour int, d time.Duration) TraceSummary {
		s := r.trace("x", d)
		s.Start += int64(hour) * hourNanos
		s.End += int64(hour) * hourNanos
		return s
	}
	r.now = func() time.Time { return r.start.Add(1000 * time.Hour) }
	for range 1000 {
		r.Observe(at(0, 10*time.Millisecond))
	}
	require.Equal(t, ReasonSlow, r.Decide(at(0, 50*time.Millisecond)).Reason)
	for hour := 1; hour < 12; hour++ {
		for range 1000 {
			r.Observe(at(hour, 50*time.Millisecond))
		}
	}
	require.Equal(t, ReasonChance, r.Decide(at(11, 50*time.Millisecond)).Reason)
	require.InDelta(t, 2000, r.operations[operation{"shop", "x"}].total(), 5)
	require.Equal(t, ReasonSlow, r.Decide(at(11, 80*time.Millisecond)).Reason)

	r.Observe(TraceSummary{Start: r.start.UnixNano() + 50*hourNanos, Service: "shop", Name: "y"})
	require.Len(t, r.operations, 1, "x is forgotten")
}

func TestQuantiles(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var l learned
	var all []int64
	for range 20_000 {
		d := int64(math.Exp(rng.NormFloat64()*2 + 15))
		all = append(all, d)
		l.observe(1, d)
	}
	slices.Sort(all)
	for _, q := range []float64{0.5, 0.9, 0.99, 0.999} {
		exact := float64(all[int(q*float64(len(all)))])
		got := float64(l.quantile(q))
		require.GreaterOrEqual(t, got, exact*0.99)
		require.LessOrEqual(t, got, exact*1.1)
	}
	for _, d := range []int64{-5, 0, 1, 1024, 1025, 1 << 20, 1<<20 + 1, 1 << 43, 1 << 44, math.MaxInt64} {
		b := bucketOf(d)
		require.GreaterOrEqual(t, boundOf(b), d)
		if b > 0 && b < numBuckets-1 {
			require.Less(t, boundOf(b-1), d)
		}
	}
	require.Equal(t, int64(math.MaxInt64), (&learned{}).quantile(0.5))
}

func TestManyOperations(t *testing.T) {
	r := newTail(nil)
	for i := range maxOperations + 500 {
		r.Keep(r.trace(fmt.Sprint("op", i), time.Millisecond))
	}
	require.Len(t, r.operations, maxOperations)
	require.Equal(t, float64(maxOperations+10), testutil.ToFloat64(r.metrics.decisions[1][ReasonRare]))
	require.Equal(t, ReasonChance, r.Decide(r.trace("op new", time.Millisecond)).Reason)
}

func TestConfig(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	f := func(want string, change func(*Config)) {
		t.Helper()
		c := DefaultConfig()
		change(&c)
		require.ErrorContains(t, c.Validate(), want)
	}
	f("probability: got 2", func(c *Config) { c.Probability = 2 })
	f("probability: got NaN", func(c *Config) { c.Probability = math.NaN() })
	f("spans_per_second: got -1", func(c *Config) { c.SpansPerSecond = -1 })
	f("tenants.a.probability: got -1", func(c *Config) { c.Tenants = map[string]TenantConfig{"a": {Probability: new(-1.0)}} })
	f("tenants: ", func(c *Config) { c.Tenants = map[string]TenantConfig{"a/b": {}} })
	f("tail.slow_quantile: got 1", func(c *Config) { c.Tail.SlowQuantile = 1 })
	f("tail.rare_per_hour: got -1", func(c *Config) { c.Tail.RarePerHour = -1 })
	f("tail.probability: got 1.5", func(c *Config) { c.Tail.Probability = 1.5 })
}

func BenchmarkTail(b *testing.B) {
	r := newTail(nil)
	var list []TraceSummary
	for i := range 1024 {
		list = append(list, r.trace(fmt.Sprint("op", i%50), time.Duration(i)*time.Millisecond))
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		r.Keep(list[i&1023])
		i++
	}
}
