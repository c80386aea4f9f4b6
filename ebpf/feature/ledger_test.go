package feature

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/identity"
)

// newLedger is a ledger of numbers by name in a map that stands for the kernel's.
func newLedger(kernel map[string][]int) (*Ledger[string, string, []int], Visit[string, string, []int]) {
	add := func(sum, more *[]int) {
		for len(*sum) < len(*more) {
			*sum = append(*sum, 0)
		}
		for i, n := range *more {
			(*sum)[i] += n
		}
	}
	l := NewLedger[string, string](add, func(k string) error { delete(kernel, k); return nil })
	return l, func(visit func(*Entry[string, string, []int])) error {
		for key, n := range kernel {
			visit(&Entry[string, string, []int]{Key: key, Process: identity.Key{PID: 1}, Series: "shop", Counted: &n})
		}
		return nil
	}
}

// What a process counted stays when it is gone, until its series has had no
// process for long, and is there once however often it is asked for.
func TestLedger(t *testing.T) {
	kernel := map[string][]int{"a": {3}, "b": {4}}
	l, visit := newLedger(kernel)
	resolver := identity.New(t.TempDir(), nil) // where no process lives
	want := func(sum, entries int) {
		t.Helper()
		for range 2 {
			got, n, err := l.Totals(visit)
			require.NoError(t, err)
			require.Equal(t, entries, n)
			require.Equal(t, []int{sum}, *got["shop"])
		}
	}
	now := time.Unix(1000, 0)
	want(7, 2)
	require.NoError(t, l.Sweep(now, resolver, visit))
	want(7, 2)
	kernel["a"][0]++ // a last word
	require.NoError(t, l.Sweep(now, resolver, visit))
	want(8, 0)
	kernel["c"] = []int{5} // another of the same service
	want(13, 1)
	delete(kernel, "c")
	require.NoError(t, l.Sweep(now.Add(KeepRetired), resolver, visit))
	want(8, 0)
	require.NoError(t, l.Sweep(now.Add(KeepRetired+time.Second), resolver, visit))
	got, _, err := l.Totals(visit)
	require.NoError(t, err)
	require.Empty(t, got)
}

// A sweep that cannot read all entries counts none of them twice.
func TestLedgerTornSweep(t *testing.T) {
	kernel := map[string][]int{"a": {3}, "b": {4}}
	l, visit := newLedger(kernel)
	resolver := identity.New(t.TempDir(), nil)
	torn := errors.New("torn")
	require.NoError(t, l.Sweep(time.Unix(1000, 0), resolver, visit))
	require.ErrorIs(t, l.Sweep(time.Unix(1010, 0), resolver, func(see func(*Entry[string, string, []int])) error {
		n := kernel["a"]
		see(&Entry[string, string, []int]{Key: "a", Process: identity.Key{PID: 1}, Series: "shop", Counted: &n})
		return torn
	}), torn)
	got, _, err := l.Totals(visit)
	require.NoError(t, err)
	require.Equal(t, []int{7}, *got["shop"])
}

// Processes that soon end, each with a series of its own, do not fill the memory.
func TestLedgerIsBounded(t *testing.T) {
	kernel := make(map[int]bool)
	l := NewLedger[int, int](func(sum, more *int) { *sum += *more }, func(k int) error { delete(kernel, k); return nil })
	resolver := identity.New(t.TempDir(), nil)
	visit := func(visit func(*Entry[int, int, int])) error {
		one := 1
		for key := range kernel {
			visit(&Entry[int, int, int]{Key: key, Series: key, Counted: &one})
		}
		return nil
	}
	now := time.Unix(1000, 0)
	for round := range 4 {
		for i := range maxRetired / 2 {
			kernel[round*maxRetired+i] = true
		}
		require.NoError(t, l.Sweep(now, resolver, visit))
		require.NoError(t, l.Sweep(now.Add(time.Second), resolver, visit))
		now = now.Add(time.Minute)
	}
	got, _, err := l.Totals(visit)
	require.NoError(t, err)
	require.Len(t, got, maxRetired)
	require.Contains(t, got, 3*maxRetired, "the last ones stay")
	require.NotContains(t, got, 0)
}

// Entries are read and taken out of maps of which the kernel can do both at once,
// and of those of which it cannot, as of no hash map before 5.14.
func TestTake(t *testing.T) {
	for _, kind := range []ebpf.MapType{ebpf.Hash, ebpf.LPMTrie} {
		spec := &ebpf.MapSpec{Type: kind, KeySize: 8, ValueSize: 4, MaxEntries: 16}
		if kind == ebpf.LPMTrie {
			spec.Flags = unix.BPF_F_NO_PREALLOC
		}
		m, err := ebpf.NewMap(spec)
		if errors.Is(err, unix.EPERM) || errors.Is(err, ebpf.ErrNotSupported) {
			t.Skip(err)
		}
		require.NoError(t, err)
		defer m.Close()
		k := [2]uint32{32, 7} // of a trie, 32 bits of it
		var v uint32
		require.ErrorIs(t, Take(m, k, &v), ebpf.ErrKeyNotExist, kind)
		require.NoError(t, m.Put(k, uint32(5)))
		require.NoError(t, Take(m, k, &v), kind)
		require.EqualValues(t, 5, v)
		require.ErrorIs(t, m.Lookup(k, &v), ebpf.ErrKeyNotExist, kind)
	}
}

// What an entry that is over has counted stays while its process lives.
func TestLedgerOver(t *testing.T) {
	kernel := map[string]int{"a": 3, "b": 4}
	l := NewLedger[string, string](func(sum, more *int) { *sum += *more }, func(k string) error { delete(kernel, k); return nil })
	resolver := identity.New("/proc", nil)
	self, ok := resolver.Find(uint32(os.Getpid()))
	if !ok {
		t.Skip("/proc does not tell of this process")
	}
	visit := func(visit func(*Entry[string, string, int])) error {
		for key, n := range kernel {
			visit(&Entry[string, string, int]{Key: key, Process: self, Series: "shop", Counted: &n, Over: key == "a"})
		}
		return nil
	}
	now := time.Unix(1000, 0)
	for range 3 {
		require.NoError(t, l.Sweep(now, resolver, visit))
		now = now.Add(KeepRetired + time.Second)
		require.Equal(t, map[string]int{"b": 4}, kernel)
		got, _, err := l.Totals(visit)
		require.NoError(t, err)
		require.Equal(t, 7, *got["shop"])
	}
}
