package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/bpf"
)

// kernelSlot is duration_slot of http.bpf.c.
func kernelSlot(b *buckets, nanos uint64) int {
	v := nanos
	if v > 0 {
		v--
	}
	e := 0
	for x := v; x > 1; x >>= 1 {
		e++
	}
	f := 1 + (e-minExp)*4 + int(v>>(max(e, 2)-2)&3)
	switch {
	case e < minExp:
		f = 0
	case e >= maxExp:
		f = fineBuckets - 1
	}
	if nanos > b.edge[f] {
		return int(b.slot[f]) + 1
	}
	return int(b.slot[f])
}

func TestBucketsFoldExactly(t *testing.T) {
	b, err := newBuckets(DefaultConfig().Buckets)
	require.NoError(t, err)
	var bpfValue bpf.HttpHttpValue
	require.LessOrEqual(t, len(b.upper), len(bpfValue.Durations))
	require.True(t, slices.IsSorted(b.upper))
	rng := rand.New(rand.NewPCG(1, 2))
	var durations []uint64
	for _, s := range b.bounds {
		n := uint64(math.Round(s * 1e9))
		durations = append(durations, n-1, n, n+1)
	}
	for range 10_000 {
		durations = append(durations, rng.Uint64()>>rng.IntN(64))
	}
	durations = append(durations, 0, 1, 1<<minExp, 1<<minExp+1, 1<<maxExp, 1<<maxExp+1, math.MaxUint64)
	slots := make([]uint64, maxSlots)
	for _, d := range durations {
		s := kernelSlot(b, d)
		require.LessOrEqual(t, d, b.upper[s], "duration %d in slot %d", d, s)
		if s > 0 {
			require.Greater(t, d, b.upper[s-1], "duration %d in slot %d", d, s)
		}
		slots[s]++
	}
	got, total := b.fold(slots)
	require.EqualValues(t, len(durations), total)
	for _, bound := range b.bounds {
		var want uint64
		for _, d := range durations {
			if d <= uint64(math.Round(bound*1e9)) {
				want++
			}
		}
		require.Equal(t, want, got[bound], "le %v", bound)
	}
}

func TestFoldSizes(t *testing.T) {
	bounds := sizeBounds()
	var v bpf.HttpHttpValue
	require.Len(t, v.RequestSizes, len(bounds)+1)
	v.RequestSizes[0], v.RequestSizes[2], v.RequestSizes[11] = 5, 3, 1
	got, total := foldSizes(v.RequestSizes[:])
	require.EqualValues(t, 9, total)
	require.EqualValues(t, 5, got[64])
	require.EqualValues(t, 5, got[256])
	require.EqualValues(t, 8, got[1024])
	require.EqualValues(t, 8, got[64<<20])
}

func TestConfigValidate(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	for want, edit := range map[string]func(*Config){
		"features":   func(c *Config) { c.Features = []string{"http", "https"} },
		"buckets":    func(c *Config) { c.Buckets = []float64{2, 1} },
		"rise":       func(c *Config) { c.Buckets = []float64{math.NaN()} },
		"apart":      func(c *Config) { c.Buckets = []float64{1, 1.0001} },
		"max_series": func(c *Config) { c.MaxSeries = 1 },
		"proc":       func(c *Config) { c.Proc = "" },
	} {
		c := DefaultConfig()
		edit(&c)
		require.ErrorContains(t, c.Validate(), want)
		_, err := New(Options{Config: c, Logger: slog.New(slog.DiscardHandler)})
		require.ErrorContains(t, err, want)
	}
}

func TestClassify(t *testing.T) {
	for _, tc := range []struct {
		err   error
		state State
	}{
		{fmt.Errorf("load: %w", ebpf.ErrNotSupported), Unsupported},
		{fmt.Errorf("load: %w", btf.ErrNotFound), Unsupported},
		{fmt.Errorf("load: %w", os.ErrNotExist), Unsupported},
		{fmt.Errorf("load: %w", unix.EPERM), Denied},
		{fmt.Errorf("load: %w", unix.EACCES), Unsupported},
		{fmt.Errorf("load: %w", unix.E2BIG), Unsupported},
		{errors.New("another\nline"), Unsupported},
	} {
		state, reason := classify(tc.err)
		require.Equal(t, tc.state, state, "%v", tc.err)
		require.NotEmpty(t, reason)
		require.NotContains(t, reason, "\n")
	}
}

func TestMissingCapabilities(t *testing.T) {
	for caps, want := range map[string]string{
		"0000000000000000": "CAP_BPF and CAP_PERFMON",
		"000001ffffffffff": "",
		"0000000000200000": "",
		"0000008000000000": "CAP_PERFMON",
		"0000004000000000": "CAP_BPF",
		"nonsense":         "",
	} {
		path := filepath.Join(t.TempDir(), "status")
		require.NoError(t, os.WriteFile(path, []byte("Name:\tx\nCapEff:\t"+caps+"\nSeccomp:\t0\n"), 0o600))
		require.Equal(t, want, missingCapabilities(path), caps)
	}
}

// rungs is a feature whose ways to load give these errors.
type rungs struct {
	*httpFeature
	errs []error
}

func (r rungs) ladder() []rung {
	var l []rung
	for _, err := range r.errs {
		l = append(l, rung{"something", func(*environment) error { return err }})
	}
	return l
}

func TestClimb(t *testing.T) {
	bad, denied := fmt.Errorf("x: %w", btf.ErrNotFound), fmt.Errorf("x: %w", unix.EPERM)
	for _, tc := range []struct {
		errs   []error
		state  State
		reason string
	}{
		{[]error{nil}, Loaded, ""},
		{[]error{bad, nil}, Loaded, "something (no such tracepoint"},
		{[]error{bad, bad}, Unsupported, "no such tracepoint"},
		{[]error{denied, nil}, Denied, ""},
		{nil, Unsupported, "no way"},
	} {
		state, reason := climb(rungs{errs: tc.errs}, nil)
		require.Equal(t, tc.state, state)
		require.True(t, strings.HasPrefix(reason, tc.reason), reason)
	}
}

// Features that are off, or not started, are told and export nothing else.
func TestStates(t *testing.T) {
	c := DefaultConfig()
	c.Features = nil
	p, err := New(Options{Config: c, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	reg := prometheus.NewPedanticRegistry()
	for _, c := range p.Collectors() {
		require.NoError(t, reg.Register(c))
	}
	const head = `
# HELP vedette_ebpf_feature What became of each eBPF feature; the value is always 1. A loaded one has a reason when it does not see all it could.
# TYPE vedette_ebpf_feature gauge
`
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(head+
		`vedette_ebpf_feature{name="http",reason="not started",state="off"} 1
vedette_ebpf_feature{name="tcp",reason="not started",state="off"} 1
`)))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	<-p.Started()
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(head+
		`vedette_ebpf_feature{name="http",reason="configuration",state="off"} 1
vedette_ebpf_feature{name="tcp",reason="configuration",state="off"} 1
`)))
	cancel()
	require.NoError(t, <-done)
}

func TestDecodeArrival(t *testing.T) {
	b := make([]byte, 32)
	binary.NativeEndian.PutUint64(b, 123)
	binary.NativeEndian.PutUint32(b[8:], 7)
	copy(b[16:], "nginx")
	k, thread, ok := decodeArrival(b)
	require.True(t, ok)
	require.EqualValues(t, 123, k.StartNanos)
	require.EqualValues(t, 7, k.PID)
	require.Equal(t, "nginx", thread)
	_, _, ok = decodeArrival(b[:31])
	require.False(t, ok)
}

func FuzzDecodeArrival(f *testing.F) {
	f.Add(make([]byte, 32))
	f.Fuzz(func(t *testing.T, b []byte) { decodeArrival(b) })
}

func TestPrune(t *testing.T) {
	now := time.Unix(1000, 0)
	retired := map[string]*tcpTotals{"lives": {}, "gone": {}}
	gone := func(t *tcpTotals) *time.Time { return &t.gone }
	live := map[string]bool{"lives": true}
	prune(retired, live, now, gone)
	prune(retired, live, now.Add(keepRetired), gone)
	require.Len(t, retired, 2)
	prune(retired, live, now.Add(keepRetired+1), gone)
	require.Len(t, retired, 1)
	require.Contains(t, retired, "lives")
}

// The committed objects are readable and have what load sets.
func TestSpecs(t *testing.T) {
	for name, load := range map[string]func() (*ebpf.CollectionSpec, error){"http": bpf.LoadHttp, "tcp": bpf.LoadTcp} {
		spec, err := load()
		require.NoError(t, err)
		require.NotEmpty(t, spec.Programs, name)
		require.NotNil(t, spec.Variables[bpf.HttpVarSelfTgid], name)
	}
}
