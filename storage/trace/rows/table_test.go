package rows

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/internal/signal"
)

// checkSpans checks what signal.Spans promises.
func checkSpans(t testing.TB, b *signal.Spans) {
	require.True(t, slices.IsSorted(b.Scope))
	require.True(t, slices.IsSortedFunc(b.Scopes, func(x, y signal.Scope) int { return int(x.Resource) - int(y.Resource) }))
	for _, n := range []int{len(b.Scope), len(b.TraceIDs), len(b.Parents), len(b.Starts), len(b.Ends), len(b.Names), len(b.Kinds), len(b.Statuses),
		len(b.Messages), len(b.States), len(b.Flags), len(b.DroppedAttrs), len(b.DroppedEvents), len(b.DroppedLinks),
		len(b.AttrBegin), len(b.AttrEnd), len(b.EventBegin), len(b.EventEnd), len(b.LinkBegin), len(b.LinkEnd)} {
		require.Equal(t, b.Len(), n)
	}
}

// checkGroups checks what holds of every group of a source.
func checkGroups(t testing.TB, src Source) {
	var c Cursor
	for _, g := range src.Groups() {
		require.NoError(t, c.Seek(g))
		info := g.Info()
		require.Positive(t, info.Rows)
		require.LessOrEqual(t, info.Rows, MaxGroupRows)
		starts, err := c.Starts()
		require.NoError(t, err)
		rows, err := c.TraceRows()
		require.NoError(t, err)
		require.Len(t, rows, info.Traces+1)
		require.EqualValues(t, 0, rows[0])
		require.EqualValues(t, info.Rows, rows[info.Traces])
		for i := range info.Traces {
			require.Less(t, rows[i], rows[i+1])
			require.True(t, slices.IsSorted(starts[rows[i]:rows[i+1]]))
		}
		require.Equal(t, slices.Min(starts), info.MinStart)
		require.Equal(t, slices.Max(starts), info.MaxStart)
		checkColumns(t, &c)
	}
}

// checkColumns compares columns with the shapes.
func checkColumns(t testing.TB, c *Cursor) {
	sp := c.Space()
	var owner [NumLevels][]uint32
	var err error
	owner[LevelSpan], err = c.Shapes()
	require.NoError(t, err)
	owner[LevelEvent], err = c.EventShapes()
	require.NoError(t, err)
	owner[LevelLink], err = c.LinkShapes()
	require.NoError(t, err)
	for col := range sp.Columns {
		var want []uint32
		for i, s := range owner[sp.Columns[col].Level] {
			for _, k := range sp.Shapes[s].Columns {
				if k == uint32(col) {
					want = append(want, uint32(i))
				}
			}
		}
		v, err := c.Column(col)
		require.NoError(t, err)
		rows, err := c.RowsOf(col)
		require.NoError(t, err)
		if len(want) == 0 {
			require.Nil(t, v)
			require.Empty(t, rows)
			continue
		}
		require.Equal(t, want, rows)
		require.Equal(t, len(want), v.N)
		require.Contains(t, c.Group().Columns(), uint32(col))
		switch {
		case v.Info.Type == signal.AttrEmpty:
			require.True(t, v.Nums == nil && v.Codes == nil && v.Offsets == nil)
		case v.Info.Type.InBuf() && v.Codes != nil:
			require.Len(t, v.Codes, v.N)
			require.Less(t, int(slices.Max(v.Codes)), v.Dict.Len())
			code, ok := v.Dict.Find(v.At(0))
			require.True(t, ok)
			require.Equal(t, v.Codes[0], code)
		case v.Info.Type.InBuf():
			require.Len(t, v.Offsets, v.N+1)
		default:
			require.Len(t, v.Nums, v.N)
		}
	}
	events, err := c.EventOwners()
	require.NoError(t, err)
	require.Len(t, events, c.Group().Info().Events)
	links, err := c.LinkOwners()
	require.NoError(t, err)
	require.Len(t, links, c.Group().Info().Links)
}

func TestWhatComesInComesOut(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			g := newGenerator(seed)
			g.traces = 1 + g.IntN(40)
			g.keys = 1 + g.IntN(40)
			tab := NewTable(Config{MaxColumns: 1 + g.IntN(200)})
			var in []*signal.Spans
			for range 1 + g.IntN(40) {
				b := g.batch(1 + g.IntN(60))
				in = append(in, b)
				added, dups, err := tab.Append(b)
				require.NoError(t, err)
				require.Zero(t, dups)
				require.Equal(t, b.Len(), added)
			}
			view := tab.Snapshot()
			checkGroups(t, view)
			out := spansOf(t, view)
			checkSpans(t, out)
			want := describeAll(in...)
			require.Equal(t, want, describeAll(out))
			require.Equal(t, len(want), tab.Rows())

			// The same by id, backwards, with one cursor, first whole columns then parts.
			var c Cursor
			for i := range 2 {
				runs := allRuns(t, view)
				slices.Reverse(runs)
				out.Reset()
				for _, r := range runs {
					require.NoError(t, c.Seek(r.Group))
					if i == 0 {
						checkColumns(t, &c)
					}
					require.NoError(t, AppendRun(out, &c, r))
				}
				checkSpans(t, out)
				require.Equal(t, want, describeAll(out))
			}
		})
	}
}

func TestFindTrace(t *testing.T) {
	g := newGenerator(7)
	tab := NewTable(DefaultConfig())
	want := map[signal.TraceID][]string{}
	for range 30 {
		b := g.batch(50)
		for i := range b.Len() {
			want[b.TraceIDs[i]] = append(want[b.TraceIDs[i]], describe(b, i))
		}
		_, _, err := tab.Append(b)
		require.NoError(t, err)
	}
	view := tab.Snapshot()
	var c Cursor
	for range 3 { // group by group, then by index
		for id, spans := range want {
			runs, err := view.FindTrace(id, nil)
			require.NoError(t, err)
			var out signal.Spans
			for _, r := range runs {
				require.NoError(t, AppendRun(&out, &c, r))
			}
			slices.Sort(spans)
			require.Equal(t, spans, describeAll(&out))
		}
		runs, err := view.FindTrace(signal.TraceID{99}, nil)
		require.NoError(t, err)
		require.Empty(t, runs)
	}
}

func TestDuplicatesAreDropped(t *testing.T) {
	g := newGenerator(3)
	tab := NewTable(DefaultConfig())
	var in []*signal.Spans
	for i := range 40 {
		b := g.batch(100)
		in = append(in, b)
		_, _, err := tab.Append(b)
		require.NoError(t, err)
		added, dups, err := tab.Append(in[g.IntN(i+1)])
		require.NoError(t, err)
		require.Zero(t, added)
		require.Equal(t, 100, dups)
	}
	require.Equal(t, describeAll(in...), describeAll(spansOf(t, tab.Snapshot())))

	// Within a batch, and with one thing changed.
	twice := g.batch(1)
	copied := func(change func(b *signal.Spans, i int)) {
		i := twice.Len()
		extend(twice, 1)
		twice.Scope[i], twice.TraceIDs[i], twice.SpanIDs[i], twice.Parents[i] = twice.Scope[0], twice.TraceIDs[0], twice.SpanIDs[0], twice.Parents[0]
		twice.Starts[i], twice.Ends[i], twice.Names[i], twice.Kinds[i] = twice.Starts[0], twice.Ends[0], twice.Names[0], twice.Kinds[0]
		change(twice, i)
	}
	copied(func(*signal.Spans, int) {})
	copied(func(b *signal.Spans, i int) { b.SpanIDs[i][0]++ })
	copied(func(b *signal.Spans, i int) { b.TraceIDs[i][0]++ })
	copied(func(b *signal.Spans, i int) { b.Kinds[i]++ })
	copied(func(b *signal.Spans, i int) { b.Starts[i]++ })
	copied(func(b *signal.Spans, i int) { b.Ends[i]++ })
	copied(func(b *signal.Spans, i int) { b.Names[i] = put(b, "another") })
	copied(func(*signal.Spans, int) {})
	added, dups, err := tab.Append(twice)
	require.NoError(t, err)
	require.Equal(t, 7, added)
	require.Equal(t, 2, dups)
}

func TestLargeBatchesAreCut(t *testing.T) {
	for _, traces := range []int{1, 3, 1000} {
		g := newGenerator(1)
		g.traces = traces
		b := g.batch(20_000)
		tab := NewTable(DefaultConfig())
		added, _, err := tab.Append(b)
		require.NoError(t, err)
		require.Equal(t, b.Len(), added)
		_, dups, err := tab.Append(b)
		require.NoError(t, err)
		require.Equal(t, b.Len(), dups)
		view := tab.Snapshot()
		require.Equal(t, describeAll(b), describeAll(spansOf(t, view)))
		runs, err := view.FindTrace(b.TraceIDs[0], nil)
		require.NoError(t, err)
		n := 0
		for _, r := range runs {
			n += r.End - r.First
		}
		want := 0
		for _, id := range b.TraceIDs {
			if id == b.TraceIDs[0] {
				want++
			}
		}
		require.Equal(t, want, n)
	}
}

func TestParents(t *testing.T) {
	tab := NewTable(DefaultConfig())
	b := &signal.Spans{Resources: make([]signal.Resource, 1), Scopes: make([]signal.Scope, 1)}
	add := func(trace, id, parent byte, start int64, kind uint8) {
		i := b.Len()
		*b = withRow(b)
		b.TraceIDs[i][0], b.SpanIDs[i][0], b.Parents[i][0], b.Starts[i], b.Kinds[i] = trace, id, parent, start, kind
	}
	add(1, 1, 0, 1, 1)
	add(1, 2, 1, 2, 3) // client
	add(1, 2, 1, 3, 2) // server with the same id
	add(1, 3, 2, 4, 1) // child of both: the server's
	add(1, 4, 9, 5, 1) // parent missing
	add(1, 5, 5, 6, 1) // its own parent
	add(2, 6, 1, 1, 1) // parent in another trace
	for i := range byte(60) {
		add(3, 10+i, 11+i, int64(i), 1)
	}
	add(3, 70, 70, 100, 1)
	_, _, err := tab.Append(b)
	require.NoError(t, err)
	var c Cursor
	require.NoError(t, c.Seek(tab.Snapshot().Groups()[0]))
	parents, err := c.Parents()
	require.NoError(t, err)
	want := []int32{ParentNone, 0, 0, 2, ParentElsewhere, ParentElsewhere, ParentElsewhere}
	for i := range int32(60) {
		want = append(want, 7+i+1)
	}
	want = append(want, ParentElsewhere)
	require.Equal(t, want, parents)
	ids, err := c.ParentIDs()
	require.NoError(t, err)
	require.Equal(t, b.Parents, ids)
}

// withRow returns b with one more zero row.
func withRow(b *signal.Spans) signal.Spans {
	s := *b
	extend(&s, 1)
	i := s.Len() - 1
	s.Scope[i], s.TraceIDs[i], s.SpanIDs[i], s.Parents[i] = 0, signal.TraceID{}, signal.SpanID{}, signal.SpanID{}
	s.Starts[i], s.Ends[i], s.Kinds[i], s.Statuses[i], s.Flags[i] = 0, 0, 0, 0, 0
	s.Names[i], s.Messages[i], s.States[i] = signal.ByteRange{}, signal.ByteRange{}, signal.ByteRange{}
	s.DroppedAttrs[i], s.DroppedEvents[i], s.DroppedLinks[i] = 0, 0, 0
	s.AttrBegin[i], s.AttrEnd[i] = 0, 0
	s.EventBegin[i], s.EventEnd[i], s.LinkBegin[i], s.LinkEnd[i] = 0, 0, 0, 0
	return s
}
