package profile

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/profile/symbol"
)

// Instead of the number of a stack; see profile.h.
const lostStack = 1

// batchEntries is how many entries one call reads.
const batchEntries = 128

// counted is one process, its stacks, and how often they were seen.
type counted struct {
	key bpf.ProfileProfileKey
	n   uint64
}

// extent is where the addresses of a stack are in a batch.
type extent struct{ begin, end int }

// batch is what one reading took out of the kernel. Its memory is used again.
type batch struct {
	counts []counted
	stacks map[uint64]extent
	at     []uint64
}

// read empties both maps, which nobody writes to.
func (b *batch) read(counts, stacks *ebpf.Map) error {
	b.counts, b.at = b.counts[:0], b.at[:0]
	if b.stacks == nil {
		b.stacks = make(map[uint64]extent)
	}
	clear(b.stacks)
	err := takeAll(counts, func(k *bpf.ProfileProfileKey, n *uint64) {
		b.counts = append(b.counts, counted{*k, *n})
	})
	if err != nil {
		return err
	}
	return takeAll(stacks, func(id *uint64, s *bpf.ProfileProfileStack) {
		begin := len(b.at)
		b.at = append(b.at, s.At[:min(s.Depth, uint64(len(s.At)))]...)
		b.stacks[*id] = extent{begin, len(b.at)}
	})
}

// stack gives the addresses of a stack.
func (b *batch) stack(id uint64) ([]uint64, bool) {
	e, ok := b.stacks[id]
	return b.at[e.begin:e.end], ok
}

// takeAll visits and deletes all entries of a map, in batches where the kernel
// knows them (5.6).
func takeAll[K, V any](m *ebpf.Map, visit func(*K, *V)) error {
	keys, values := make([]K, batchEntries), make([]V, batchEntries)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := m.BatchLookupAndDelete(&cursor, keys, values, nil)
		if errors.Is(err, ebpf.ErrNotSupported) {
			break
		}
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("empty %s: %w", m, err)
		}
		for i := range n {
			visit(&keys[i], &values[i])
		}
		if err != nil {
			return nil
		}
	}
	var k K
	var v V
	keys = keys[:0]
	it := m.Iterate()
	for it.Next(&k, &v) {
		visit(&k, &v)
		keys = append(keys, k)
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read %s: %w", m, err)
	}
	for i := range keys {
		if err := m.Delete(&keys[i]); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("empty %s: %w", m, err)
		}
	}
	return nil
}

// text is a name that ends with a zero.
func text(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

// kthread is the name that the threads of one kind have in common: kworker/0:1
// and kworker/u8:2 are both kworker.
func kthread(name string) string {
	kind, _, _ := strings.Cut(name, "/")
	return symbol.Clean(kind)
}
