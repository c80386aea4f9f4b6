package feature

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/bpf"
)

// kernelSlot is duration_slot of http.h.
func kernelSlot(b *Buckets, minExp int, nanos uint64) int {
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
	case e >= minExp+20:
		f = fineBuckets - 1
	}
	if nanos > b.Edge[f] {
		return int(b.Slot[f]) + 1
	}
	return int(b.Slot[f])
}

func TestBucketsFoldExactly(t *testing.T) {
	for minExp, bounds := range map[int][]float64{
		defaultExp: {0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10},
		10:         {0.000002, 0.00001, 0.0001, 0.001, 0.01, 0.1, 1, 10},
	} {
		b, err := NewBucketsFrom(minExp, bounds)
		require.NoError(t, err)
		requireExact(t, b, minExp)
	}
}

func requireExact(t *testing.T, b *Buckets, minExp int) {
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
	durations = append(durations, 0, 1, 1<<minExp, 1<<minExp+1, 1<<(minExp+20), 1<<(minExp+20)+1, math.MaxUint64)
	slots := make([]uint64, MaxSlots)
	for _, d := range durations {
		s := kernelSlot(b, minExp, d)
		require.LessOrEqual(t, d, b.upper[s], "duration %d in slot %d", d, s)
		if s > 0 {
			require.Greater(t, d, b.upper[s-1], "duration %d in slot %d", d, s)
		}
		slots[s]++
	}
	got, total := b.Fold(slots)
	require.EqualValues(t, len(durations), total)
	for i, bound := range b.bounds {
		var want uint64
		for _, d := range durations {
			if d <= uint64(math.Round(bound*1e9)) {
				want++
			}
		}
		require.Equal(t, want, got[i], "le %v", bound)
	}
}

func TestFoldSizes(t *testing.T) {
	bounds := SizeBounds()
	var v bpf.HttpHttpValue
	require.Len(t, v.RequestSizes, len(bounds)+1)
	v.RequestSizes[0], v.RequestSizes[2], v.RequestSizes[11] = 5, 3, 1
	got, total := FoldSizes(v.RequestSizes[:])
	require.EqualValues(t, 9, total)
	require.EqualValues(t, 5, got[0])
	require.EqualValues(t, 5, got[1])
	require.EqualValues(t, 8, got[2])
	require.EqualValues(t, 8, got[10])
}

func TestClassify(t *testing.T) {
	unsure := Unsupported // what says that the kernel lacks something, without rights
	if missingCapabilities("/proc/self/status") != "" {
		unsure = Denied
	}
	for _, tc := range []struct {
		err   error
		state State
	}{
		{fmt.Errorf("load: %w", ebpf.ErrNotSupported), unsure},
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
	// A map of a kind that the kernel does not have, as in 4.4, and a program.
	_, reason := classify(fmt.Errorf("map events: map create: %w", unix.EINVAL))
	require.Equal(t, "the kernel refuses it: map events: map create: invalid argument", reason)
	_, reason = classify(fmt.Errorf("program x: %w", &ebpf.VerifierError{Cause: unix.EINVAL}))
	require.Contains(t, reason, "the kernel's verifier refuses it: program x: ")
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

func TestMissingToLook(t *testing.T) {
	for caps, want := range map[string]string{
		"0000000000000000": "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
		"000001ffffffffff": "",
		"0000000000080000": "CAP_DAC_READ_SEARCH",
		"0000000000000004": "CAP_SYS_PTRACE",
		"0000000000080002": "",
		"nonsense":         "",
	} {
		path := filepath.Join(t.TempDir(), "status")
		require.NoError(t, os.WriteFile(path, []byte("CapEff:\t"+caps+"\n"), 0o600))
		require.Equal(t, want, MissingToLook(path), caps)
	}
	require.Empty(t, MissingToLook("/nonexistent"))
}

// rungs is a feature whose ways to load give these errors. The last may need no
// rights.
type rungs struct {
	Feature
	errs      []error
	rightless bool
}

func (r rungs) Ladder() []Rung {
	var l []Rung
	for _, err := range r.errs {
		l = append(l, Rung{Lacks: "something", Load: func(*Environment) error { return err }})
	}
	if r.rightless {
		l[len(l)-1].Rightless = true
	}
	return l
}

func TestClimb(t *testing.T) {
	// One way that is forbidden stops nothing, a right that is missing does.
	forbidden, prefix := Loaded, "something"
	if missingCapabilities("/proc/self/status") != "" {
		forbidden, prefix = Denied, "missing"
	}
	bad, denied := fmt.Errorf("x: %w", btf.ErrNotFound), fmt.Errorf("x: %w", unix.EPERM)
	for _, tc := range []struct {
		errs      []error
		rightless bool
		state     State
		reason    string
	}{
		{[]error{nil}, false, Loaded, ""},
		{[]error{bad, nil}, false, Loaded, "something (no such tracepoint"},
		{[]error{bad, bad}, false, Unsupported, "no such tracepoint"},
		{[]error{denied, nil}, false, forbidden, prefix},
		{[]error{denied, bad, nil}, true, Loaded, "something ("},
		{nil, false, Unsupported, "no way"},
	} {
		state, reason := Climb(rungs{errs: tc.errs, rightless: tc.rightless}, nil)
		require.Equal(t, tc.state, state)
		require.True(t, strings.HasPrefix(reason, tc.reason), reason)
	}
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
