package traces

import (
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"slices"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/storage/trace/rows"
)

// This file finds spans that are stored twice: clients send again what they got
// no answer for, and the store tells that only within a head and at merges. A
// source has no span twice, so only spans of traces in several sources are
// compared, and only where the sources' times overlap.

// sourceGroup is a group and the number of its source.
type sourceGroup struct {
	*rows.Group
	source int
	info   rows.GroupInfo
}

// repeatedRows returns the rows of groups whose spans an earlier source has as
// well.
func (r *run) repeatedRows() (map[*rows.Group]bitmap, error) {
	groups := r.overlapping()
	if len(groups) == 0 {
		return nil, nil
	}
	w := newWorker(r)
	defer w.charge()
	shared := newSharedTraces(groups)
	for _, g := range groups {
		if err := w.seek(g.Group); err != nil {
			if err := r.damaged(err); err != nil {
				return nil, err
			}
			continue
		}
		ids, err := w.cur.TraceIDs()
		if err != nil {
			if err := r.damaged(err); err != nil {
				return nil, err
			}
			continue
		}
		for i := range ids {
			shared.add(&ids[i], g.source)
		}
	}
	if !shared.any {
		return nil, nil
	}
	known := make(map[spanKey]int)
	out := make(map[*rows.Group]bitmap)
	for _, g := range groups {
		if err := r.check(); err != nil {
			if errors.Is(err, errStop) {
				return out, nil
			}
			return nil, err
		}
		b, err := w.repeated(g, shared, known)
		if err != nil {
			if err := r.damaged(err); err != nil {
				return nil, err
			}
		}
		if b != nil {
			out[g.Group] = b
		}
	}
	return out, nil
}

// overlapping returns the groups of the view whose starts overlap those of a
// group of another source, by source.
func (r *run) overlapping() []sourceGroup {
	in := make(map[*rows.Group]struct{}, len(r.view.Groups()))
	for _, g := range r.view.Groups() {
		in[g] = struct{}{}
	}
	var all []sourceGroup
	for i, s := range r.view.Sources() {
		for _, g := range s.Groups() {
			if _, ok := in[g]; ok {
				all = append(all, sourceGroup{Group: g, source: i, info: g.Info()})
			}
		}
	}
	order := make([]int, len(all))
	for i := range order {
		order[i] = i
	}
	touched := make([]bool, len(all))
	slices.SortFunc(order, func(x, y int) int { return cmp.Compare(all[x].info.MinStart, all[y].info.MinStart) })
	// Going up by first start, a group overlaps one before it if that ends later.
	last := farthest{first: math.MinInt64, second: math.MinInt64, source: -1}
	for _, i := range order {
		g := &all[i]
		touched[i] = last.of(g.source) >= g.info.MinStart
		last.add(g.source, g.info.MaxStart)
	}
	// Going down, it overlaps one after it if that begins before it ends.
	last = farthest{first: math.MinInt64, second: math.MinInt64, source: -1}
	for _, i := range slices.Backward(order) {
		g := &all[i]
		touched[i] = touched[i] || last.of(g.source) >= -g.info.MaxStart
		last.add(g.source, -g.info.MinStart)
	}
	out := all[:0]
	for i, g := range all {
		if touched[i] {
			out = append(out, g)
		}
	}
	return out
}

// farthest is the greatest number so far, and the greatest of other sources.
type farthest struct {
	first, second int64
	source        int // of first
}

// of returns the greatest number of other sources.
func (f *farthest) of(source int) int64 {
	if f.source == source {
		return f.second
	}
	return f.first
}

func (f *farthest) add(source int, v int64) {
	switch {
	case source == f.source:
		f.first = max(f.first, v)
	case v > f.first:
		f.first, f.second, f.source = v, f.first, source
	default:
		f.second = max(f.second, v)
	}
}

// sharedTraces finds trace ids that several sources have, by hash: some that only
// one has may be among them.
type sharedTraces struct {
	slots []sharedSlot
	any   bool
}

type sharedSlot struct {
	hash   uint64 // 0 is empty
	source int32
	shared bool
}

func newSharedTraces(groups []sourceGroup) *sharedTraces {
	n := 0
	for _, g := range groups {
		n += g.info.Traces
	}
	size := 16
	for size < 2*n {
		size *= 2
	}
	return &sharedTraces{slots: make([]sharedSlot, size)}
}

func (s *sharedTraces) slot(id *signal.TraceID) *sharedSlot {
	a, b := binary.LittleEndian.Uint64(id[:8]), binary.LittleEndian.Uint64(id[8:])
	h := (a ^ b*0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>32) | 1
	mask := uint64(len(s.slots) - 1)
	for at := h >> 8 & mask; ; at = (at + 1) & mask {
		slot := &s.slots[at]
		if slot.hash == h {
			return slot
		}
		if slot.hash == 0 {
			slot.hash, slot.source = h, -1
			return slot
		}
	}
}

func (s *sharedTraces) add(id *signal.TraceID, source int) {
	slot := s.slot(id)
	switch {
	case slot.source < 0:
		slot.source = int32(source)
	case slot.source != int32(source):
		slot.shared, s.any = true, true
	}
}

// spanKey is what makes two spans the same, as trace.View.Trace has it.
type spanKey struct {
	trace           signal.TraceID
	span            signal.SpanID
	start, duration int64
	kind            uint8
	name            string
}

// repeated returns the rows of a group whose spans are known from an earlier
// source, and makes the others known.
func (w *worker) repeated(g sourceGroup, shared *sharedTraces, known map[spanKey]int) (bitmap, error) {
	if err := w.seek(g.Group); err != nil {
		return nil, err
	}
	ids, err := w.cur.TraceIDs()
	if err != nil {
		return nil, err
	}
	begins, err := w.cur.TraceRows()
	if err != nil {
		return nil, err
	}
	var out bitmap
	for t := range ids {
		if !shared.slot(&ids[t]).shared {
			continue
		}
		spans, err := w.cur.SpanIDs()
		if err != nil {
			return nil, err
		}
		starts, err := w.cur.Starts()
		if err != nil {
			return nil, err
		}
		durations, err := w.cur.Durations()
		if err != nil {
			return nil, err
		}
		shapes, err := w.cur.Shapes()
		if err != nil {
			return nil, err
		}
		for row := begins[t]; row < begins[t+1]; row++ {
			sh := &w.space.sp.Shapes[shapes[row]]
			key := spanKey{trace: ids[t], span: spans[row], start: starts[row], duration: durations[row], kind: sh.Kind, name: sh.Name}
			if source, ok := known[key]; !ok {
				known[key] = g.source
			} else if source != g.source {
				if out == nil {
					out = make(bitmap, words(w.info.Rows))
				}
				out.set(int(row))
			}
		}
	}
	return out, nil
}
