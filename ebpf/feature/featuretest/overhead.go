package featuretest

import (
	"log/slog"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/identity"
)

// Overhead reports what an event costs, in nanoseconds, with the feature that is
// made and without it, taken in turns: load brings about events and gives the
// processor time of each. Medians are told, for the machine may be busy. Nobody
// reads what the feature counts meanwhile.
func Overhead(b *testing.B, make func() feature.Feature, event string, load func() float64) {
	const rounds = 9
	load() // warm
	var off, on, less []float64
	for range rounds {
		without := load()
		stop := Load(b, make())
		with := load()
		stop()
		off, on, less = append(off, without), append(on, with), append(less, with-without)
	}
	for _, s := range [][]float64{off, on, less} {
		slices.Sort(s)
	}
	b.ReportMetric(off[rounds/2], "ns/"+event+"-off")
	b.ReportMetric(on[rounds/2], "ns/"+event+"-on")
	b.ReportMetric(less[rounds/2], "ns/"+event+"-overhead")
	b.ReportMetric(0, "ns/op")
}

// Load loads a feature until stop is called, or skips.
func Load(b *testing.B, f feature.Feature) (stop func()) {
	b.Helper()
	self, err := feature.SelfID()
	require.NoError(b, err)
	env := &feature.Environment{
		MaxSeries: 4096, Proc: "/proc", Resolver: identity.New("/proc", nil), Peers: new(feature.Peers),
		Self: self, Logger: slog.New(slog.DiscardHandler),
	}
	if state, reason := feature.Climb(f, env); state != feature.Loaded {
		b.Skipf("eBPF feature %s is %s: %s", f.Name(), state, reason)
	}
	return func() { require.NoError(b, f.Close()) }
}
