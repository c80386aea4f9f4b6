package rows

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
	"sort"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/storage/block"
)

// The traces of a block are numbered through its groups, in their order. The
// traces section is one column: the numbers in the order of their ids, each in
// the same number of bits, so that a search reads it where it lies.

// writeTraces writes the index of traces, whose ids are in the order of numbers.
func writeTraces(w *block.Writer, ids []signal.TraceID) int {
	if len(ids) == 0 {
		return 0
	}
	order := make([]uint32, len(ids))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int {
		return cmp.Or(compareTraces(&ids[a], &ids[b]), cmp.Compare(a, b))
	})
	vals := make([]uint64, len(order))
	for i, o := range order {
		vals[i] = uint64(o)
	}
	width := uint(bits.Len(uint(len(ids) - 1)))
	b := binary.AppendVarint([]byte{formFlat}, 0)
	b = binary.AppendUvarint(b, 1)
	b = appendPacked(append(b, byte(width)), vals, width)
	w.Page(sectionTraces, b)
	return len(b)
}

func (b *Block) loadTraces() error {
	b.tracesOnce.Do(func() {
		page, _, err := b.r.Page(sectionTraces, 0, nil)
		if err != nil {
			b.tracesErr = err
			return
		}
		c, err := parseInts(page, int(b.meta.Traces))
		if err != nil || c.form != formFlat || c.width > 32 {
			b.tracesErr = b.corrupt(sectionTraces, 0, "index of %d traces: %v", b.meta.Traces, err)
			return
		}
		b.traces = c
	})
	return b.tracesErr
}

// FindTrace appends the runs that the block has of a trace to dst.
func (b *Block) FindTrace(id signal.TraceID, dst []Run) ([]Run, error) {
	n := int(b.meta.Traces)
	if n == 0 {
		return dst, nil
	}
	if err := b.loadTraces(); err != nil {
		return dst, err
	}
	var failed error
	at := sort.Search(n, func(i int) bool {
		if failed != nil {
			return true
		}
		got, _, _, err := b.traceAt(i)
		if err != nil {
			failed = err
			return true
		}
		return bytes.Compare(got, id[:]) >= 0
	})
	for ; failed == nil && at < n; at++ {
		got, group, trace, err := b.traceAt(at)
		if err != nil {
			return dst, err
		}
		if !bytes.Equal(got, id[:]) {
			break
		}
		run, err := b.run(group, trace)
		if err != nil {
			return dst, err
		}
		dst = append(dst, run)
	}
	return dst, failed
}

// traceAt returns the id and the place of the trace that is number i by id.
func (b *Block) traceAt(i int) (id []byte, group, trace int, err error) {
	number := int(loadBits(b.traces.body, uint(i)*b.traces.width, b.traces.width))
	if number >= int(b.meta.Traces) {
		return nil, 0, 0, b.corrupt(sectionTraces, 0, "trace %d of %d", number, b.meta.Traces)
	}
	group = sort.Search(len(b.heads), func(g int) bool { return b.heads[g].traceBase > number }) - 1
	h := &b.heads[group]
	trace = number - h.traceBase
	page, _, err := (&blockGroup{b: b, head: h}).page(pageTraceIDs, h.info.Traces*16)
	if err != nil {
		return nil, 0, 0, err
	}
	return page[trace*16 : trace*16+16], group, trace, nil
}

// run returns the rows of a trace of a group.
func (b *Block) run(group, trace int) (Run, error) {
	g := &blockGroup{b: b, head: &b.heads[group]}
	var buf []uint32
	rows, err := g.traceRows(&buf)
	if err != nil {
		return Run{}, err
	}
	return Run{Group: b.groups[group], First: int(rows[trace]), End: int(rows[trace+1])}, nil
}

// verifyTraces checks that the index has every trace once, in order.
func (b *Block) verifyTraces() []error {
	if b.meta.Traces == 0 {
		return nil
	}
	if err := b.loadTraces(); err != nil {
		return []error{err}
	}
	var before []byte
	for i := range int(b.meta.Traces) {
		id, _, _, err := b.traceAt(i)
		if err != nil {
			return []error{err}
		}
		if bytes.Compare(before, id) > 0 {
			return []error{b.corrupt(sectionTraces, 0, "trace %x after %x", id, before)}
		}
		before = id
	}
	return nil
}

// compareTraces orders ids by their bytes.
func compareTraces(a, b *signal.TraceID) int {
	if c := cmp.Compare(binary.BigEndian.Uint64(a[:]), binary.BigEndian.Uint64(b[:])); c != 0 {
		return c
	}
	return cmp.Compare(binary.BigEndian.Uint64(a[8:]), binary.BigEndian.Uint64(b[8:]))
}
