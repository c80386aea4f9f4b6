package feature

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/vedette-io/vedette/ebpf/identity"
)

// KeepRetired is how long the series of a service without processes is exported.
const KeepRetired = 15 * time.Minute

// maxRetired bounds the series without processes that a ledger keeps: a host that
// asks ever new addresses by processes that soon end would make them without
// bound.
const maxRetired = 4096

// Entry is one entry of a kernel's map that counts for one process.
type Entry[K, S comparable, T any] struct {
	Key     K
	Process identity.Key
	Series  S
	Counted *T
	// Over: it leaves the kernel with the next sweep, though its process lives.
	Over bool
}

// Visit calls visit for each entry of a feature's maps. The entry is valid during
// the call, so that one may serve for all of them.
type Visit[K, S comparable, T any] func(visit func(*Entry[K, S, T])) error

// Ledger folds the entries of processes, with keys of type K, into series of type
// S, each with totals of type T, and keeps what processes that are gone have
// counted, so that no count falls. It is not safe for use by several goroutines.
type Ledger[K, S comparable, T any] struct {
	add     func(sum, more *T)
	drop    func(K) error
	dead    map[K]bool // entries whose process the last sweep found dead
	retired map[S]*retired[T]
}

type retired[T any] struct {
	total T
	gone  time.Time // when the last process of the series was swept; zero: some live
}

// NewLedger returns an empty ledger. add adds more to sum, of which it keeps
// nothing; drop takes an entry out of the kernel.
func NewLedger[K, S comparable, T any](add func(sum, more *T), drop func(K) error) *Ledger[K, S, T] {
	return &Ledger[K, S, T]{add: add, drop: drop, dead: make(map[K]bool), retired: make(map[S]*retired[T])}
}

// Totals gives the sums of what lives and what is gone, and the number of
// entries in the kernel.
func (l *Ledger[K, S, T]) Totals(entries Visit[K, S, T]) (map[S]*T, int, error) {
	totals := make(map[S]*T, len(l.retired))
	for s, r := range l.retired {
		totals[s] = new(T)
		l.add(totals[s], &r.total)
	}
	n := 0
	err := entries(func(e *Entry[K, S, T]) {
		n++
		t := totals[e.Series]
		if t == nil {
			t = new(T)
			totals[e.Series] = t
		}
		l.add(t, e.Counted)
	})
	return totals, n, err
}

// Sweep takes the entries of processes that two sweeps found dead out of the
// kernel: what their last connections had to say when they closed is then in.
// Series that have had no process for KeepRetired are forgotten.
func (l *Ledger[K, S, T]) Sweep(now time.Time, resolver *identity.Resolver, entries Visit[K, S, T]) error {
	alive := make(map[identity.Key]bool)
	live := make(map[S]bool)
	dead := make(map[K]bool)
	var bury []K
	err := entries(func(e *Entry[K, S, T]) {
		if _, known := alive[e.Process]; !known {
			alive[e.Process] = resolver.Alive(e.Process)
		}
		if alive[e.Process] {
			live[e.Series] = true
		}
		switch {
		case alive[e.Process] && !e.Over:
		case !alive[e.Process] && !l.dead[e.Key]:
			live[e.Series] = true
			dead[e.Key] = true
		default:
			r := l.retired[e.Series]
			if r == nil {
				r = new(retired[T])
				l.retired[e.Series] = r
			}
			l.add(&r.total, e.Counted)
			bury = append(bury, e.Key)
		}
	})
	// Also where the rest could not be read, for these are in the totals now.
	for _, k := range bury {
		_ = l.drop(k)
	}
	if err != nil {
		return err
	}
	l.dead = dead
	for s, r := range l.retired {
		switch {
		case live[s]:
			r.gone = time.Time{}
		case r.gone.IsZero():
			r.gone = now
		case now.Sub(r.gone) > KeepRetired:
			delete(l.retired, s)
		}
	}
	l.makeRoom(live)
	return nil
}

// makeRoom forgets those of the series without processes that have had none for
// longest.
func (l *Ledger[K, S, T]) makeRoom(live map[S]bool) {
	beyond := len(l.retired) - maxRetired
	if beyond <= 0 {
		return
	}
	var idle []S
	for s := range l.retired {
		if !live[s] {
			idle = append(idle, s)
		}
	}
	slices.SortFunc(idle, func(a, b S) int { return l.retired[a].gone.Compare(l.retired[b].gone) })
	for _, s := range idle[:min(beyond, len(idle))] {
		delete(l.retired, s)
	}
}

// EachEntry reads a hash map in batches, or entry by entry where the kernel
// knows no batches. An entry that is changed meanwhile is seen before or after.
func EachEntry[K, V any](m *ebpf.Map, visit func(K, *V)) error {
	const batch = 256
	keys, values := make([]K, batch), make([]V, batch)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		if errors.Is(err, ebpf.ErrNotSupported) {
			break
		}
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("read %s: %w", m, err)
		}
		for i := range n {
			visit(keys[i], &values[i])
		}
		if err != nil {
			return nil
		}
	}
	var k K
	var v V
	it := m.Iterate()
	for it.Next(&k, &v) {
		visit(k, &v)
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read %s: %w", m, err)
	}
	return nil
}

// Take reads an entry and takes it out of its map, at once where the kernel knows
// how, for hash maps from 5.14 on.
func Take[K, V any](m *ebpf.Map, k K, v *V) error {
	err := m.LookupAndDelete(k, v)
	if err == nil || errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	if err := m.Lookup(k, v); err != nil {
		return err
	}
	return m.Delete(k)
}

// AddrOf reads an address as the programs keep it: 16 bytes in network order,
// IPv4 mapped into IPv6.
func AddrOf(words [4]uint32) netip.Addr {
	return netip.AddrFrom16(*(*[16]byte)(unsafe.Pointer(&words))).Unmap()
}

// WordsOf is AddrOf the other way round.
func WordsOf(a netip.Addr) [4]uint32 {
	b := a.As16()
	return *(*[4]uint32)(unsafe.Pointer(&b))
}
