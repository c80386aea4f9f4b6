package sampling

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/vedette-io/vedette/internal/signal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func ids(n int) (list []signal.TraceID) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range n {
		var id signal.TraceID
		binary.LittleEndian.PutUint64(id[:], rng.Uint64())
		binary.LittleEndian.PutUint64(id[8:], rng.Uint64())
		list = append(list, id)
	}
	return list
}

func head(t *testing.T, change func(*Config)) *Head {
	c := DefaultConfig()
	change(&c)
	require.NoError(t, c.Validate())
	return NewHead(c, prometheus.NewRegistry())
}

func TestDefaultKeepsEverything(t *testing.T) {
	require.Nil(t, head(t, func(*Config) {}).KeepTrace("default"))
	tail := NewTail(DefaultConfig().Tail, prometheus.NewRegistry())
	require.True(t, tail.Keep(TraceSummary{}))
	require.Zero(t, testutil.ToFloat64(tail.metrics.decisions[1][ReasonRare]))
}

// What a lower probability keeps, a higher one keeps, too, and what an
// OpenTelemetry sampler keeps whose threshold is in the trace state.
func TestProbability(t *testing.T) {
	list := ids(20_000)
	var before map[signal.TraceID]bool
	for _, p := range []float64{1e-3, 0.1, 0.25, 0.5, 0.9, 1} {
		h := head(t, func(c *Config) { c.Probability = p })
		keep := h.KeepTrace("default")
		if p == 1 {
			require.Nil(t, keep)
			continue
		}
		kept := map[signal.TraceID]bool{}
		for _, id := range list {
			if keep(id) {
				kept[id] = true
				require.GreaterOrEqual(t, Randomness(id), Threshold(p))
			}
			require.Equal(t, kept[id], keep(id), "decided once for all")
		}
		require.InDelta(t, p, float64(len(kept))/float64(len(list)), 0.02)
		for id := range before {
			require.True(t, kept[id])
		}
		before = kept
		require.Equal(t, float64(2*len(kept)), testutil.ToFloat64(h.metrics.keep))
		require.Equal(t, float64(2*(len(list)-len(kept))), testutil.ToFloat64(h.metrics.dropProbability))
	}
	none := head(t, func(c *Config) { c.Probability = 0 }).KeepTrace("default")
	for _, id := range append(list[:100], signal.TraceID{8: 255, 9: 255, 10: 255, 11: 255, 12: 255, 13: 255, 14: 255, 15: 255}) {
		require.False(t, none(id))
	}
}

func TestTenants(t *testing.T) {
	h := head(t, func(c *Config) {
		c.Probability = 0.5
		c.Tenants = map[string]TenantConfig{"all": {Probability: new(1.0)}, "none": {Probability: new(0.0)}, "slow": {SpansPerSecond: new(1e6)}}
	})
	require.Nil(t, h.KeepTrace("all"))
	require.False(t, h.KeepTrace("none")(ids(1)[0]))
	require.Equal(t, HeadConfig{Probability: 0.5, SpansPerSecond: 1e6}, h.cfg.headOf("slow"))
	keep := h.KeepTrace("x")
	n := 0
	for _, id := range ids(1000) {
		if keep(id) {
			n++
		}
	}
	require.InDelta(t, 500, n, 60)
	for i := range maxTenants + 10 {
		h.KeepTrace(fmt.Sprint(i))
	}
	require.LessOrEqual(t, len(h.tenants), maxTenants)
}

// A steady stream that is ten times too fast is brought down to the limit, as
// whole traces.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := head(t, func(c *Config) { c.SpansPerSecond = 1000 })
		keep := h.KeepTrace("default")
		rng := rand.New(rand.NewPCG(3, 4))
		kept, partial, traces := 0, 0, 0
		second := func(spans int) int {
			n := 0
			for i := 0; i < spans; i += 10 { // a trace of ten spans
				id := signal.TraceID{}
				binary.LittleEndian.PutUint64(id[8:], rng.Uint64())
				of := 0
				for range 10 {
					if keep(id) {
						of++
					}
				}
				n += of
				traces++
				if of != 0 && of != 10 {
					partial++
				}
				time.Sleep(time.Second / time.Duration(spans/10))
			}
			return n
		}
		for range 10 {
			require.Equal(t, 900, second(900))
		}
		require.LessOrEqual(t, second(100_000), 4000, "a burst")
		require.LessOrEqual(t, second(10_000), 1500)
		for range 20 {
			kept = second(10_000)
		}
		require.InDelta(t, 1000, kept, 250)
		require.LessOrEqual(t, partial, 40)
		require.Positive(t, testutil.ToFloat64(h.metrics.dropRate))
		for range 12 {
			kept = second(900)
		}
		require.Equal(t, 900, kept)
	})
}

func TestRateConcurrently(t *testing.T) {
	h := head(t, func(c *Config) { c.SpansPerSecond, c.Probability = 100, 0.5 })
	var wg sync.WaitGroup
	list := ids(10_000)
	for range 4 {
		wg.Go(func() {
			keep := h.KeepTrace("default")
			for _, id := range list {
				keep(id)
			}
		})
	}
	wg.Wait()
	total := testutil.ToFloat64(h.metrics.keep) + testutil.ToFloat64(h.metrics.dropRate) + testutil.ToFloat64(h.metrics.dropProbability)
	require.Equal(t, 40_000.0, total)
}

func TestThreshold(t *testing.T) {
	require.Equal(t, uint64(0), Threshold(1))
	require.Equal(t, uint64(bits56), Threshold(0))
	require.Equal(t, uint64(0x80000000000000), Threshold(0.5))
	require.Equal(t, uint64(0xc0000000000000), Threshold(0.25))
	require.Equal(t, uint64(bits56-1), Threshold(0x1p-56))
}

func TestParseState(t *testing.T) {
	f := func(state string, want State, count float64) {
		t.Helper()
		got := ParseState([]byte(state))
		require.Equal(t, want, got, state)
		require.InEpsilon(t, count, got.AdjustedCount(), 1e-12, state)
	}
	f("", State{}, 1)
	f("ot=th:0", State{HasThreshold: true}, 1)
	f("ot=th:8", State{HasThreshold: true, Threshold: 0x80000000000000}, 2)
	f("ot=th:C", State{HasThreshold: true, Threshold: 0xc0000000000000}, 4)
	f("a=b, ot=rv:0123456789abcd;th:c0 ,c=d", State{HasThreshold: true, Threshold: 0xc0000000000000, HasRandomness: true, Randomness: 0x0123456789abcd}, 4)
	f("ot=th:ffffffffffffff", State{HasThreshold: true, Threshold: bits56 - 1}, bits56)
	f("ot=p:8;r:62;th:e6666666666666", State{HasThreshold: true, Threshold: 0xe6666666666666}, 10.000000000000004)
	for _, bad := range []string{
		"ot", "ot=", "ot=th", "ot=th:", "ot=th:g", "ot=th:000000000000000", "ot=rv:12", "ot=rv:0123456789abcx",
		"tenant@ot=th:8", "x=ot=th:8", "th:8", ",,,;::=", "OT=th:8",
	} {
		f(bad, State{}, 1)
	}
	// The library that clients propagate the state with takes what is read here.
	ts, err := trace.ParseTraceState("a=b,ot=th:8;rv:0123456789abcd")
	require.NoError(t, err)
	require.True(t, ParseState([]byte(ts.String())).HasThreshold)
}

func FuzzParseState(f *testing.F) {
	for _, s := range []string{"", "ot=th:8", "a=b,ot=rv:0123456789abcd;th:0", "ot=th:", "ot=;;::", "ot=th:ffffffffffffff,ot=th:1"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := ParseState(b)
		if s.Threshold >= bits56 || s.Randomness >= bits56 || !s.HasThreshold && s.Threshold != 0 || !s.HasRandomness && s.Randomness != 0 {
			t.Fatalf("%q: %+v", b, s)
		}
		if n := s.AdjustedCount(); math.IsNaN(n) || n < 1 || n > bits56 {
			t.Fatalf("%q: adjusted count %g", b, n)
		}
		if !s.HasThreshold {
			return
		}
		if again := ParseState(fmt.Appendf(nil, "ot=th:%014x", s.Threshold)); again.Threshold != s.Threshold {
			t.Fatalf("%q: %x, again %x", b, s.Threshold, again.Threshold)
		}
	})
}

func BenchmarkHead(b *testing.B) {
	list := ids(1024)
	for _, c := range []struct {
		name string
		cfg  HeadConfig
	}{{"probability", HeadConfig{Probability: 0.5}}, {"rate", HeadConfig{Probability: 1, SpansPerSecond: 1000}}} {
		b.Run(c.name, func(b *testing.B) {
			h := NewHead(Config{HeadConfig: c.cfg}, prometheus.NewRegistry())
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				h.KeepTrace("default")(list[i&1023])
				i++
			}
		})
	}
}
