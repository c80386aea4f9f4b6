package rows

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/vfs"
)

// writeBlock writes sources as a block in memory and opens it.
func writeBlock(t testing.TB, fs vfs.FS, dir string, o WriteOptions, sources ...Source) *Block {
	t.Helper()
	m, err := Write(context.Background(), fs, dir, sources, o)
	require.NoError(t, err)
	b, err := Open(fs, dir)
	require.NoError(t, err)
	require.Equal(t, m, b.Meta())
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// tableOf returns a table with the batches.
func tableOf(t testing.TB, c Config, batches ...*signal.Spans) *TableView {
	t.Helper()
	table := NewTable(c)
	for _, b := range batches {
		_, _, err := table.Append(b)
		require.NoError(t, err)
	}
	return table.Snapshot()
}

// checkBlock compares what the block says with what it should.
func checkBlock(t testing.TB, b *Block, want []string) {
	t.Helper()
	require.Empty(t, b.Verify())
	checkGroups(t, b)
	got := spansOf(t, b)
	checkSpans(t, got)
	require.Equal(t, want, describeAll(got))
	require.EqualValues(t, len(want), b.Meta().Spans)
	// Every trace lies together and is found.
	var c Cursor
	seen := map[signal.TraceID]bool{}
	for i, g := range b.Groups() {
		runs, err := AppendTraceRuns(nil, &c, g, i)
		require.NoError(t, err)
		for _, r := range runs {
			found, err := b.FindTrace(r.ID, nil)
			require.NoError(t, err)
			require.Contains(t, found, Run{Group: g, First: r.First, End: r.End})
			if g.info.Rows < MaxGroupRows {
				require.False(t, seen[r.ID], "trace %x lies apart", r.ID)
			}
			seen[r.ID] = true
		}
	}
	for _, id := range []signal.TraceID{{}, {0xff, 15: 0xff}, {7: 99}} {
		found, err := b.FindTrace(id, nil)
		require.NoError(t, err)
		require.Equal(t, seen[id], len(found) > 0)
	}
}

func TestBlockRoundTrip(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			g := newGenerator(seed)
			g.traces = 1 + int(seed*seed)
			if seed%3 == 0 {
				g.keys = 300
			}
			config := DefaultConfig()
			if seed%4 == 1 {
				config.MaxColumns = 10
			}
			fs := vfs.NewMem()
			var blocks []Source
			var all []*signal.Spans
			for i := range 4 {
				var batches []*signal.Spans
				for range 1 + i {
					batches = append(batches, g.batch(1+g.IntN(60)))
				}
				all = append(all, batches...)
				b := writeBlock(t, fs, fmt.Sprintf("/b%d", i), WriteOptions{Quick: i%2 == 0}, tableOf(t, config, batches...))
				checkBlock(t, b, describeAll(batches...))
				blocks = append(blocks, b)
			}
			want := describeAll(all...)
			merged := writeBlock(t, fs, "/merged", WriteOptions{}, blocks...)
			checkBlock(t, merged, want)
			// What is there already adds nothing.
			again := writeBlock(t, fs, "/again", WriteOptions{Quick: true}, append(slices.Clone(blocks[:2]), merged)...)
			checkBlock(t, again, want)
		})
	}
}

func TestLargeTraceIsSplit(t *testing.T) {
	g := newGenerator(5)
	g.traces = 1
	b := g.batch(10)
	// More rows of one trace than a group takes: whole groups of it, and others beside.
	big := g.batch(2*MaxGroupRows + 100)
	for i := range big.TraceIDs {
		big.TraceIDs[i] = signal.TraceID{15: 1}
	}
	v := tableOf(t, DefaultConfig(), b, big)
	block := writeBlock(t, vfs.NewMem(), "/b", WriteOptions{}, v)
	require.Empty(t, block.Verify())
	require.Equal(t, describeAll(spansOf(t, v)), describeAll(spansOf(t, block)))
	runs, err := block.FindTrace(signal.TraceID{15: 1}, nil)
	require.NoError(t, err)
	require.Len(t, runs, 3)
}

func TestKeep(t *testing.T) {
	g := newGenerator(9)
	batches := []*signal.Spans{g.batch(100), g.batch(100)}
	fs := vfs.NewMem()
	src := tableOf(t, DefaultConfig(), batches...)
	var seen []TraceInfo
	b := writeBlock(t, fs, "/a", WriteOptions{Keep: func(i *TraceInfo) bool {
		c := *i
		c.Services = slices.Clone(i.Services)
		seen = append(seen, c)
		return i.Errors > 3
	}}, src)
	var want []string
	spans := 0
	for _, i := range seen {
		spans += i.Spans
		require.GreaterOrEqual(t, i.Duration, int64(0))
		if i.Errors <= 3 {
			continue
		}
		for _, x := range batches {
			for k := range x.Len() {
				if x.TraceIDs[k] == i.ID {
					want = append(want, describe(x, k))
				}
			}
		}
	}
	require.Equal(t, 200, spans)
	slices.Sort(want)
	checkBlock(t, b, want)

	gone := writeBlock(t, fs, "/b", WriteOptions{KeepService: func(s string) bool { return s == "" }}, src)
	require.Empty(t, gone.Verify())
	sp, err := gone.Space()
	require.NoError(t, err)
	for _, r := range sp.Resources {
		require.Empty(t, r.Service)
	}
	require.Less(t, gone.Meta().Spans, int64(200))
	require.Positive(t, gone.Meta().Spans)

	none := writeBlock(t, fs, "/c", WriteOptions{Keep: func(*TraceInfo) bool { return false }}, src)
	checkBlock(t, none, nil)
}

// TestManyKeys merges blocks whose keys are more than a block has columns for.
func TestManyKeys(t *testing.T) {
	fs := vfs.NewMem()
	var blocks []Source
	var all []*signal.Spans
	for i := range 6 {
		b := &signal.Spans{Tenant: "t", Resources: []signal.Resource{{}}, Scopes: []signal.Scope{{}}}
		for k := range 100 {
			extend(b, 1)
			b.TraceIDs[k], b.SpanIDs[k] = signal.TraceID{0: byte(i), 1: byte(k), 15: 1}, signal.SpanID{byte(k), 1}
			b.AttrBegin[k] = uint32(len(b.Attrs))
			for a := range 10 {
				b.Attrs = append(b.Attrs, signal.Attr{Key: put(b, fmt.Sprintf("k%d.%d.%d", i, k, a)), Type: signal.AttrInt, Num: uint64(a)})
			}
			b.AttrEnd[k] = uint32(len(b.Attrs))
		}
		all = append(all, b)
		blocks = append(blocks, writeBlock(t, fs, fmt.Sprintf("/%d", i), WriteOptions{}, tableOf(t, DefaultConfig(), b)))
	}
	merged := writeBlock(t, fs, "/merged", WriteOptions{}, blocks...)
	sp, err := merged.Space()
	require.NoError(t, err)
	require.LessOrEqual(t, len(sp.Columns), maxBlockColumns+int(NumLevels))
	checkBlock(t, merged, describeAll(all...))
}
