package rows

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/vedette-io/vedette/internal/signal"
)

// sortKey orders the rows of a batch: by trace, then start, then arrival.
type sortKey struct {
	hi, lo uint64
	start  int64
	row    uint32
}

func compareKeys(a, b sortKey) int {
	if a.hi != b.hi {
		return cmp.Compare(a.hi, b.hi)
	}
	if a.lo != b.lo {
		return cmp.Compare(a.lo, b.lo)
	}
	if a.start != b.start {
		return cmp.Compare(a.start, b.start)
	}
	return cmp.Compare(a.row, b.row)
}

// appender turns batches into groups. One goroutine uses it.
type appender struct {
	groupBuilder
	folder  folder
	seen    tagIndex    // of every row, by fingerprint: the batch that it came with
	batches []batch     // by the numbers in seen
	groups  []*memGroup // of the batches; what was folded is there several times

	keys      []sortKey
	resources []uint32 // of the batch's resources
	scopes    []uint32 // of the batch's scopes
	shapes    [NumLevels][]uint32
	dups      int
}

// maxBatch bounds what a batch adds to any one column.
const maxBatch = 1 << 30

// batch is where in appender.groups the groups of a batch are.
type batch struct{ first, end uint32 }

// resolve finds the batch's resources, scopes and shapes in the space.
func (w *appender) resolve(b *signal.Spans) {
	w.resources, w.scopes = w.resources[:0], w.scopes[:0]
	for i := range b.Resources {
		w.resources = append(w.resources, w.resource(b, &b.Resources[i]))
	}
	for i := range b.Scopes {
		w.scopes = append(w.scopes, w.scope(b, &b.Scopes[i]))
	}
	for l, n := range [...]int{b.Len(), len(b.Events), len(b.Links)} {
		w.shapes[l] = slices.Grow(w.shapes[l][:0], n)[:n]
	}
	for i := range w.shapes[LevelSpan] {
		x := spanExtras(b, i)
		l := w.layout(LevelSpan, b.Buf, b.SpanAttrs(i), x.bits())
		w.shapes[LevelSpan][i] = w.shape(Shape{
			Level: LevelSpan, Kind: b.Kinds[i], Scope: w.scopes[b.Scope[i]], Flags: b.Flags[i],
		}, b.Bytes(b.Names[i]), l)
	}
	for i := range b.Events {
		e := &b.Events[i]
		x := extras{droppedAttrs: e.DroppedAttrs}
		l := w.layout(LevelEvent, b.Buf, b.Attrs[e.AttrBegin:e.AttrEnd], x.bits())
		w.shapes[LevelEvent][i] = w.shape(Shape{Level: LevelEvent}, b.Bytes(e.Name), l)
	}
	for i := range b.Links {
		k := &b.Links[i]
		x := extras{state: k.State, droppedAttrs: k.DroppedAttrs}
		l := w.layout(LevelLink, b.Buf, b.Attrs[k.AttrBegin:k.AttrEnd], x.bits())
		w.shapes[LevelLink][i] = w.shape(Shape{Level: LevelLink, Flags: k.Flags}, nil, l)
	}
}

func spanExtras(b *signal.Spans, i int) extras {
	return extras{
		message: b.Messages[i], state: b.States[i],
		droppedAttrs: b.DroppedAttrs[i], droppedEvents: b.DroppedEvents[i], droppedLinks: b.DroppedLinks[i],
	}
}

// order sorts the batch's rows into keys.
func (w *appender) order(b *signal.Spans) {
	w.keys = slices.Grow(w.keys[:0], b.Len())[:b.Len()]
	for i := range w.keys {
		id := &b.TraceIDs[i]
		w.keys[i] = sortKey{
			hi: binary.BigEndian.Uint64(id[:8]), lo: binary.BigEndian.Uint64(id[8:]),
			start: b.Starts[i], row: uint32(i),
		}
	}
	slices.SortFunc(w.keys, compareKeys)
}

// dedup removes the keys of rows that the table has, or that an earlier key
// stands for.
func (w *appender) dedup(b *signal.Spans) {
	kept, traceFrom := w.keys[:0], 0
	var traceHash uint64
	here := uint32(len(w.batches))
	w.dups = 0
	for i := range w.keys {
		k := w.keys[i]
		if len(kept) == traceFrom || kept[traceFrom].hi != k.hi || kept[traceFrom].lo != k.lo {
			traceFrom = len(kept)
			traceHash = w.hash.bytes(b.TraceIDs[k.row][:])
		}
		h := w.fingerprint(b, k.row, traceHash)
		w.seen.reserve()
		at := w.seen.probe(h)
		found := false
		for ; w.seen.slots[at] != 0; at = w.seen.next(at) {
			if !sameTag(w.seen.slots[at], h) {
				continue
			}
			if n := number(w.seen.slots[at]); n < here {
				found = w.inGroups(w.batches[n], b, k)
			} else {
				found = w.inBatch(kept[traceFrom:], b, k)
			}
			if found {
				break
			}
		}
		if found {
			w.dups++
			continue
		}
		w.seen.set(at, h, here)
		kept = append(kept, k)
	}
	w.keys = kept
}

// fingerprint is a hash of what makes two rows duplicates.
func (w *appender) fingerprint(b *signal.Spans, row uint32, traceHash uint64) uint64 {
	h := w.hash.mix(traceHash, binary.LittleEndian.Uint64(b.SpanIDs[row][:]))
	h = w.hash.mix(h, uint64(b.Starts[row]))
	h = w.hash.mix(h, uint64(b.Ends[row]))
	return w.hash.mix(h, w.spaceBuilder.shapes[w.shapes[LevelSpan][row]].what)
}

// inBatch reports whether one of the trace's kept rows, of which the last ones
// have the latest start, is a duplicate of k.
func (w *appender) inBatch(kept []sortKey, b *signal.Spans, k sortKey) bool {
	for i := len(kept) - 1; i >= 0 && kept[i].start == k.start; i-- {
		o := kept[i].row
		if b.SpanIDs[o] == b.SpanIDs[k.row] && b.Ends[o] == b.Ends[k.row] && b.Kinds[o] == b.Kinds[k.row] &&
			string(b.Bytes(b.Names[o])) == string(b.Bytes(b.Names[k.row])) {
			return true
		}
	}
	return false
}

// inGroups reports whether a duplicate of k came with an earlier batch.
func (w *appender) inGroups(in batch, b *signal.Spans, k sortKey) bool {
	for _, g := range w.groups[in.first:in.end] {
		first, end, ok := g.findTrace(b.TraceIDs[k.row])
		if ok && w.inRows(g, first, end, b, k) {
			return true
		}
	}
	return false
}

func (w *appender) inRows(g *memGroup, first, end int, b *signal.Spans, k sortKey) bool {
	at, _ := slices.BinarySearch(g.starts()[first:end], k.start)
	duration := b.Ends[k.row] - k.start
	for row := first + at; row < end && g.starts()[row] == k.start; row++ {
		if g.ids()[row] != b.SpanIDs[k.row] || g.durations()[row] != duration {
			continue
		}
		s := &w.Shapes[g.shapes()[row]]
		if s.Kind == b.Kinds[k.row] && s.Name == string(b.Bytes(b.Names[k.row])) {
			return true
		}
	}
	return false
}

// cut returns how many of the keys make the next group: whole traces if they
// fit.
func cut(keys []sortKey) int {
	if len(keys) <= MaxGroupRows {
		return len(keys)
	}
	n := MaxGroupRows
	for n > 0 && keys[n].hi == keys[n-1].hi && keys[n].lo == keys[n-1].lo {
		n--
	}
	if n == 0 {
		return MaxGroupRows
	}
	return n
}

// append adds a batch to the groups of live, which it returns anew.
func (w *appender) append(b *signal.Spans, live []*memGroup) ([]*memGroup, error) {
	if len(b.Buf) > maxBatch {
		return live, fmt.Errorf("append spans: batch of %d bytes, want <= %d", len(b.Buf), maxBatch)
	}
	w.resolve(b)
	w.order(b)
	w.dedup(b)
	if len(w.keys) == 0 {
		return live, nil
	}
	first := uint32(len(w.groups))
	for keys := w.keys; len(keys) > 0; {
		n := cut(keys)
		g := w.group(b, keys[:n])
		g.numbers = []uint32{uint32(len(w.groups))}
		w.groups = append(w.groups, g)
		live = w.settle(append(live, g), g)
		keys = keys[n:]
	}
	w.batches = append(w.batches, batch{first, uint32(len(w.groups))})
	return live, nil
}

// group makes a group of the rows of keys.
func (w *appender) group(b *signal.Spans, keys []sortKey) *memGroup {
	g := &memGroup{}
	w.count(g, b, keys)
	w.plan(g)
	w.room(g)
	w.fixed(g, b, keys)
	event, link := 0, 0
	for row := range keys {
		i := keys[row].row
		w.values(b, w.shapes[LevelSpan][i], b.SpanAttrs(int(i)), spanExtras(b, int(i)))
		if g.info.Events > 0 {
			for e := b.EventBegin[i]; e < b.EventEnd[i]; e++ {
				w.event(g, b, event, int(e))
				event++
			}
			g.uint32s[fieldEventRows][row+1] = uint32(event)
		}
		if g.info.Links > 0 {
			for k := b.LinkBegin[i]; k < b.LinkEnd[i]; k++ {
				w.link(g, b, link, int(k))
				link++
			}
			g.uint32s[fieldLinkRows][row+1] = uint32(link)
		}
	}
	w.finish(g, true)
	return g
}

// count counts rows, traces, events, links, shapes and resources.
func (w *appender) count(g *memGroup, b *signal.Spans, keys []sortKey) {
	shapes, resources := &w.counts[0], &w.counts[1]
	shapes.grow(len(w.Shapes))
	resources.grow(len(w.Resources))
	g.info.Rows = len(keys)
	for n := range keys {
		if n == 0 || keys[n].hi != keys[n-1].hi || keys[n].lo != keys[n-1].lo {
			g.info.Traces++
		}
		i := keys[n].row
		shapes.add(w.shapes[LevelSpan][i])
		resources.add(w.resources[b.Scopes[b.Scope[i]].Resource])
		for e := b.EventBegin[i]; e < b.EventEnd[i]; e++ {
			shapes.add(w.shapes[LevelEvent][e])
			g.info.Events++
		}
		for k := b.LinkBegin[i]; k < b.LinkEnd[i]; k++ {
			shapes.add(w.shapes[LevelLink][k])
			g.info.Links++
		}
	}
}

// fixed sets what every row has.
func (w *appender) fixed(g *memGroup, b *signal.Spans, keys []sortKey) {
	shapes, resources, rows := g.uint32s[fieldShapes], g.uint32s[fieldResources], g.uint32s[fieldTraceRows]
	starts, durations, ids, parents := g.starts(), g.durations(), g.ids(), g.spans[fieldParentIDs-fieldSpanIDs]
	trace := 0
	for n := range keys {
		k := &keys[n]
		i := k.row
		if n == 0 || k.hi != keys[n-1].hi || k.lo != keys[n-1].lo {
			g.tids()[trace], rows[trace] = b.TraceIDs[i], uint32(n)
			trace++
		}
		shapes[n] = w.shapes[LevelSpan][i]
		resources[n] = w.resources[b.Scopes[b.Scope[i]].Resource]
		starts[n], durations[n] = k.start, b.Ends[i]-k.start
		ids[n], parents[n] = b.SpanIDs[i], b.Parents[i]
		g.statuses[n] = b.Statuses[i]
	}
	rows[trace] = uint32(len(keys))
	g.sum()
}

// values takes the values of a row, event or link.
func (w *appender) values(b *signal.Spans, shape uint32, attrs []signal.Attr, x extras) {
	cols := w.Shapes[shape].Columns
	for j := range attrs {
		a := &attrs[j]
		col := cols[j]
		switch s := &w.sinks[col]; {
		case w.Columns[col].Role == RoleRest:
			w.rest(b, s, a)
		case a.Type.InBuf():
			r := a.Range()
			w.addBytes(s, col, b.Buf[r.Off:r.Off+r.Len])
		case a.Type != signal.AttrEmpty:
			s.num(a.Num)
		}
	}
	for _, col := range cols[len(attrs):] {
		s := &w.sinks[col]
		switch w.Columns[col].Role {
		case RoleMessage:
			w.addBytes(s, col, b.Bytes(x.message))
		case RoleState:
			w.addBytes(s, col, b.Bytes(x.state))
		case RoleDroppedAttrs:
			s.num(uint64(x.droppedAttrs))
		case RoleDroppedEvents:
			s.num(uint64(x.droppedEvents))
		case RoleDroppedLinks:
			s.num(uint64(x.droppedLinks))
		}
	}
}

// rest takes an attribute that has no column.
func (w *appender) rest(b *signal.Spans, s *valueSink, a *signal.Attr) {
	var value []byte
	if a.Type.InBuf() {
		value = b.Bytes(a.Range())
	}
	s.text = AppendRest(s.text, b.Bytes(a.Key), a.Type, a.Num, value)
	s.u32[s.next+1] = uint32(len(s.text))
	s.next++
}

func (w *appender) event(g *memGroup, b *signal.Spans, n, i int) {
	e := &b.Events[i]
	shape := w.shapes[LevelEvent][i]
	g.uint32s[fieldEventShapes][n] = shape
	g.int64s[fieldEventTimes-fieldStarts][n] = e.Time
	w.values(b, shape, b.Attrs[e.AttrBegin:e.AttrEnd], extras{droppedAttrs: e.DroppedAttrs})
}

func (w *appender) link(g *memGroup, b *signal.Spans, n, i int) {
	k := &b.Links[i]
	shape := w.shapes[LevelLink][i]
	g.uint32s[fieldLinkShapes][n] = shape
	g.traces[fieldLinkTraceIDs-fieldTraceIDs][n] = k.TraceID
	g.spans[fieldLinkSpanIDs-fieldSpanIDs][n] = k.SpanID
	w.values(b, shape, b.Attrs[k.AttrBegin:k.AttrEnd], extras{state: k.State, droppedAttrs: k.DroppedAttrs})
}
