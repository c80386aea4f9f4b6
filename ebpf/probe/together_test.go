package probe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
	"github.com/vedette-io/vedette/ebpf/identity"
	"github.com/vedette-io/vedette/ebpf/protocol"
	"github.com/vedette-io/vedette/ebpf/stream"
)

// table is what a feature has counted: n commands of Redis, inside TLS or not.
func table(name string, inside bool, n int) *stream.Table {
	t := stream.NewTable(stream.TableOptions{Name: name, Bounds: []float64{0.1, 1}})
	t.Use(&feature.Environment{MaxSeries: 64, Proc: "/proc", Resolver: identity.New("/proc", nil), Peers: new(feature.Peers), Logger: slog.New(slog.DiscardHandler)})
	c := stream.Conn{
		ID: 1, Process: identity.Key{PID: uint32(os.Getpid())}, TLS: inside,
		Local: netip.MustParseAddrPort("10.0.0.1:6379"), Peer: netip.MustParseAddrPort("10.0.0.2:5000"),
	}
	var seq [2]uint32
	for i := range n {
		for d, text := range []string{protocol.Received: "*1\r\n$4\r\nPING\r\n", protocol.Sent: "+PONG\r\n"} {
			at := int64(i+1) * int64(time.Millisecond)
			t.Take(c, protocol.Redis, &protocol.Piece{Direction: protocol.Direction(d), Data: []byte(text), Seq: seq[d], ReadyNanos: at, AtNanos: at})
			seq[d] += uint32(len(text))
		}
	}
	return t
}

// A database that is asked inside TLS and outside at one port has one series.
func TestTogether(t *testing.T) {
	b, err := feature.NewBuckets([]float64{0.1, 1})
	require.NoError(t, err)
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(collectorOf(b, table("stream", false, 2), table("tls", true, 3))))
	m := featuretest.Family(t, reg, "db_server_operation_duration_seconds", nil)
	require.Len(t, m, 1)
	require.EqualValues(t, 5, m[0].GetHistogram().GetSampleCount())
	require.EqualValues(t, 5, m[0].GetHistogram().Bucket[0].GetCumulativeCount())
	require.Len(t, featuretest.Family(t, reg, "vedette_ebpf_tls_connections", nil), 1)
}

// broken is a feature that loads, and stops by itself.
type broken struct {
	prometheus.Collector
	closed int
	panics bool
}

func (b *broken) Name() string { return "http" }
func (b *broken) Ladder() []feature.Rung {
	return []feature.Rung{{Load: func(*feature.Environment) error { return nil }}}
}
func (b *broken) Sweep(time.Time)     {}
func (b *broken) Arrivals() *ebpf.Map { return nil }
func (b *broken) Close() error {
	b.closed++
	return nil
}
func (b *broken) Run(context.Context) error {
	if b.panics {
		panic("torn")
	}
	return errors.New("read ring buffer: torn")
}

// A feature that stops is detached once, and told.
func TestFeatureStops(t *testing.T) {
	t.Run("error", func(t *testing.T) { stops(t, false, "stopped: read ring buffer: torn") })
	t.Run("panic", func(t *testing.T) { stops(t, true, "stopped: panic: torn") })
}

// A feature whose collection panics spoils its own metrics only.
func TestCollectPanics(t *testing.T) {
	b, err := feature.NewBuckets([]float64{0.1, 1})
	require.NoError(t, err)
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(collectorOf(b, torn{table("stream", false, 2)}, table("tls", true, 3))))
	families, err := reg.Gather()
	require.ErrorContains(t, err, "panic: torn")
	var n uint64
	for _, f := range families {
		if f.GetName() == "db_server_operation_duration_seconds" {
			n += f.Metric[0].GetHistogram().GetSampleCount()
		}
	}
	require.EqualValues(t, 3, n)
}

// torn is a table that panics when it is collected.
type torn struct{ *stream.Table }

func (torn) Collect(chan<- prometheus.Metric)                                 { panic("torn") }
func (torn) CollectEdges(chan<- prometheus.Metric, func(*feature.Edge)) error { panic("torn") }

func stops(t *testing.T, panics bool, want string) {
	c := DefaultConfig()
	c.Features = []string{"http"}
	p, err := New(Options{Config: c, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	b := &broken{Collector: table("stream", false, 0), panics: panics}
	p.features = []*watched{p.newWatched(b)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	require.Eventually(t, func() bool {
		state, reason := p.Feature("http")
		return state == feature.Off && reason == want
	}, time.Minute, 5*time.Millisecond)
	cancel()
	require.NoError(t, <-done)
	require.Equal(t, 1, b.closed)
	_, reason := p.Feature("http")
	require.Contains(t, reason, "torn", "why it stopped stays")
}

// Where /proc numbers processes otherwise than the kernel, it is said.
func TestForeignProc(t *testing.T) {
	own, err := os.ReadFile("/proc/self/stat")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip(err)
	}
	require.NoError(t, err)
	proc := t.TempDir()
	check := func() string {
		var out strings.Builder
		c := DefaultConfig()
		c.Proc = proc
		p, err := New(Options{Config: c, Logger: slog.New(slog.NewTextHandler(&out, nil))})
		require.NoError(t, err)
		p.env.Self = 7
		p.checkNames()
		return out.String()
	}
	require.Contains(t, check(), "hostPID")
	require.NoError(t, os.Mkdir(filepath.Join(proc, "7"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(proc, "7", "stat"), own, 0o644))
	require.Empty(t, check())
}

// collectorOf makes one collector of several that may be asked.
func collectorOf(b *feature.Buckets, all ...prometheus.Collector) *together {
	states, logger := newStates(), slog.New(slog.DiscardHandler)
	var sources []source
	for i, c := range all {
		sources = append(sources, source{c, newCaller(fmt.Sprint(i), states, logger)})
		sources[i].ready.Store(true)
	}
	return newTogether(sources, states, newEdges(b))
}
