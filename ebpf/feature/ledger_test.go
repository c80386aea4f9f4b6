package feature

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/identity"
)

// What a process counted stays when it is gone, until its series has had no
// process for long.
func TestLedger(t *testing.T) {
	l := NewLedger[string, int]()
	resolver := identity.New(t.TempDir(), nil) // where no process lives
	kernel := map[string]int{"a": 3, "b": 4}
	visit := func(visit func(Entry[string, int])) error {
		for key, n := range kernel {
			visit(Entry[string, int]{Key: key, Process: identity.Key{PID: 1}, Series: "shop", Add: func(t *int) { *t += n },
				Drop: func() error { delete(kernel, key); return nil }})
		}
		return nil
	}
	want := func(sum, entries int) {
		t.Helper()
		got, n, err := l.Totals(visit)
		require.NoError(t, err)
		require.Equal(t, entries, n)
		require.Equal(t, sum, *got["shop"])
	}
	now := time.Unix(1000, 0)
	want(7, 2)
	require.NoError(t, l.Sweep(now, resolver, visit))
	want(7, 2)
	kernel["a"]++ // a last word
	require.NoError(t, l.Sweep(now, resolver, visit))
	want(8, 0)
	require.NoError(t, l.Sweep(now.Add(KeepRetired), resolver, visit))
	want(8, 0)
	require.NoError(t, l.Sweep(now.Add(KeepRetired+time.Second), resolver, visit))
	got, _, err := l.Totals(visit)
	require.NoError(t, err)
	require.Empty(t, got)
}

// Processes that soon end, each with a series of its own, do not fill the memory.
func TestLedgerIsBounded(t *testing.T) {
	l := NewLedger[int, int]()
	resolver := identity.New(t.TempDir(), nil)
	kernel := make(map[int]bool)
	visit := func(visit func(Entry[int, int])) error {
		for key := range kernel {
			visit(Entry[int, int]{Key: key, Series: key, Add: func(t *int) { *t++ }, Drop: func() error { delete(kernel, key); return nil }})
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
