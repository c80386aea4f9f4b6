package rows

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/internal/signal"
)

// generator makes random batches that say everything that spans can say.
type generator struct {
	*rand.Rand
	traces int // number of trace ids to choose from
	keys   int // number of attribute keys to choose from
	next   uint64
}

func newGenerator(seed uint64) *generator {
	return &generator{Rand: rand.New(rand.NewPCG(seed, 1)), traces: 20, keys: 30}
}

func (g *generator) text(b *signal.Spans, values int) signal.ByteRange {
	switch g.IntN(8) {
	case 0:
		return signal.ByteRange{}
	case 1:
		return put(b, fmt.Sprintf("%x", g.Uint64()))
	}
	return put(b, strings.Repeat("v", g.IntN(4))+fmt.Sprint(g.IntN(values)))
}

func (g *generator) attrs(b *signal.Spans, most int) (begin, end uint32) {
	begin = uint32(len(b.Attrs))
	for range g.IntN(most + 1) {
		a := signal.Attr{Key: put(b, fmt.Sprintf("key%d", g.IntN(g.keys))), Type: signal.AttrType(g.IntN(int(signal.NumAttrTypes)))}
		switch {
		case a.Type.InBuf():
			a.Num = signal.PackRange(g.text(b, 20))
		case a.Type == signal.AttrBool:
			a.Num = g.Uint64N(2)
		case a.Type != signal.AttrEmpty:
			a.Num = g.Uint64() >> g.UintN(64)
		}
		b.Attrs = append(b.Attrs, a)
	}
	return begin, uint32(len(b.Attrs))
}

func (g *generator) sometimes(n uint32) uint32 {
	if g.IntN(5) > 0 {
		return 0
	}
	return g.Uint32N(n)
}

func (g *generator) trace() (id signal.TraceID) {
	binary.BigEndian.PutUint64(id[g.IntN(2)*8:], 1+g.Uint64N(uint64(g.traces)))
	return id
}

func (g *generator) span() (id signal.SpanID) {
	binary.BigEndian.PutUint64(id[:], 1+g.Uint64N(50))
	return id
}

// batch returns a batch of n spans.
func (g *generator) batch(n int) *signal.Spans {
	b := &signal.Spans{Tenant: "t"}
	for left := n; left > 0; {
		res := signal.Resource{DroppedAttrs: g.sometimes(3), SchemaURL: g.text(b, 2)}
		res.AttrBegin, res.AttrEnd = g.attrs(b, 3)
		if g.IntN(2) == 0 {
			b.Attrs = append(b.Attrs, signal.Attr{Key: put(b, "service.name"), Type: signal.AttrString, Num: signal.PackRange(put(b, fmt.Sprintf("svc%d", g.IntN(3))))})
			res.AttrEnd++
		}
		b.Resources = append(b.Resources, res)
		for range 1 + g.IntN(2) {
			s := signal.Scope{Resource: uint32(len(b.Resources) - 1), Name: g.text(b, 3), Version: g.text(b, 2), DroppedAttrs: g.sometimes(3), SchemaURL: g.text(b, 2)}
			s.AttrBegin, s.AttrEnd = g.attrs(b, 2)
			b.Scopes = append(b.Scopes, s)
			for range min(left, 1+g.IntN(n)) {
				g.row(b)
				left--
			}
		}
	}
	return b
}

func (g *generator) row(b *signal.Spans) {
	i := b.Len()
	extend(b, 1)
	b.Scope[i] = uint32(len(b.Scopes) - 1)
	b.TraceIDs[i], b.SpanIDs[i], b.Parents[i] = g.trace(), g.span(), signal.SpanID{}
	if g.IntN(4) > 0 {
		b.Parents[i] = g.span()
	}
	g.next++
	b.Starts[i] = 1_700_000_000_000_000_000 + g.Int64N(1000)
	b.Ends[i] = b.Starts[i] + int64(g.next)<<8 - 500
	if g.IntN(20) == 0 {
		b.Starts[i], b.Ends[i] = int64(g.Uint64()), int64(g.Uint64())
	}
	b.Names[i], b.Kinds[i], b.Statuses[i] = g.text(b, 5), uint8(g.IntN(6)), uint8(g.IntN(3))
	b.Messages[i], b.States[i] = signal.ByteRange{}, signal.ByteRange{}
	if g.IntN(5) == 0 {
		b.Messages[i] = g.text(b, 3)
	}
	if g.IntN(5) == 0 {
		b.States[i] = g.text(b, 3)
	}
	b.Flags[i] = g.sometimes(1 << 20)
	b.DroppedAttrs[i], b.DroppedEvents[i], b.DroppedLinks[i] = g.sometimes(3), g.sometimes(3), g.sometimes(1<<31)
	b.AttrBegin[i], b.AttrEnd[i] = g.attrs(b, 8)
	b.EventBegin[i] = uint32(len(b.Events))
	for range g.sometimes(4) {
		e := signal.Event{Time: int64(g.Uint64()), Name: g.text(b, 3), DroppedAttrs: g.sometimes(2)}
		e.AttrBegin, e.AttrEnd = g.attrs(b, 4)
		b.Events = append(b.Events, e)
	}
	b.EventEnd[i] = uint32(len(b.Events))
	b.LinkBegin[i] = uint32(len(b.Links))
	for range g.sometimes(4) {
		k := signal.Link{TraceID: g.trace(), SpanID: g.span(), State: g.text(b, 2), Flags: g.sometimes(2), DroppedAttrs: g.sometimes(2)}
		k.AttrBegin, k.AttrEnd = g.attrs(b, 4)
		b.Links = append(b.Links, k)
	}
	b.LinkEnd[i] = uint32(len(b.Links))
}

// describe says everything about span i.
func describe(b *signal.Spans, i int) string {
	var s strings.Builder
	sc := &b.Scopes[b.Scope[i]]
	r := &b.Resources[sc.Resource]
	fmt.Fprintf(&s, "resource %q dropped %d %s\n", b.Bytes(r.SchemaURL), r.DroppedAttrs, describeAttrs(b, r.AttrBegin, r.AttrEnd))
	fmt.Fprintf(&s, "scope %q %q %q dropped %d %s\n", b.Bytes(sc.Name), b.Bytes(sc.Version), b.Bytes(sc.SchemaURL), sc.DroppedAttrs, describeAttrs(b, sc.AttrBegin, sc.AttrEnd))
	fmt.Fprintf(&s, "span %x %x parent %x %d-%d %q kind %d status %d %q state %q flags %d dropped %d %d %d %s\n",
		b.TraceIDs[i], b.SpanIDs[i], b.Parents[i], b.Starts[i], b.Ends[i], b.Bytes(b.Names[i]), b.Kinds[i], b.Statuses[i],
		b.Bytes(b.Messages[i]), b.Bytes(b.States[i]), b.Flags[i], b.DroppedAttrs[i], b.DroppedEvents[i], b.DroppedLinks[i],
		describeAttrs(b, b.AttrBegin[i], b.AttrEnd[i]))
	for _, e := range b.Events[b.EventBegin[i]:b.EventEnd[i]] {
		fmt.Fprintf(&s, "event %d %q dropped %d %s\n", e.Time, b.Bytes(e.Name), e.DroppedAttrs, describeAttrs(b, e.AttrBegin, e.AttrEnd))
	}
	for _, k := range b.Links[b.LinkBegin[i]:b.LinkEnd[i]] {
		fmt.Fprintf(&s, "link %x %x %q flags %d dropped %d %s\n", k.TraceID, k.SpanID, b.Bytes(k.State), k.Flags, k.DroppedAttrs, describeAttrs(b, k.AttrBegin, k.AttrEnd))
	}
	return s.String()
}

func describeAttrs(b *signal.Spans, begin, end uint32) string {
	var s strings.Builder
	for _, a := range b.Attrs[begin:end] {
		fmt.Fprintf(&s, "(%q %d", b.Bytes(a.Key), a.Type)
		switch {
		case a.Type.InBuf():
			fmt.Fprintf(&s, " %q", b.Bytes(a.Range()))
		case a.Type != signal.AttrEmpty:
			fmt.Fprintf(&s, " %d", a.Num)
		}
		s.WriteByte(')')
	}
	return s.String()
}

// describeAll describes all spans of batches, sorted.
func describeAll(batches ...*signal.Spans) []string {
	var out []string
	for _, b := range batches {
		for i := range b.Len() {
			out = append(out, describe(b, i))
		}
	}
	slices.Sort(out)
	return out
}

// allRuns returns the runs of every trace of a source.
func allRuns(t testing.TB, src Source) []Run {
	var c Cursor
	var runs []Run
	for i, g := range src.Groups() {
		of, err := AppendTraceRuns(nil, &c, g, i)
		require.NoError(t, err)
		for _, r := range of {
			runs = append(runs, Run{Group: g, First: r.First, End: r.End})
		}
	}
	return runs
}

// spansOf returns all spans of a source, as AppendRun makes them.
func spansOf(t testing.TB, src Source) *signal.Spans {
	var c Cursor
	out := &signal.Spans{}
	for _, r := range allRuns(t, src) {
		require.NoError(t, AppendRun(out, &c, r))
	}
	return out
}
