package rows

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/block"
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

// TestLargeSpansAreSplit writes a trace of few rows that is more than a group
// takes by its events and by its strings.
func TestLargeSpansAreSplit(t *testing.T) {
	b := &signal.Spans{Tenant: "t", Resources: []signal.Resource{{}}, Scopes: []signal.Scope{{}}}
	big := strings.Repeat("0123456789abcde\n", 3<<16)
	for k := range 8 {
		extend(b, 1)
		b.TraceIDs[k], b.SpanIDs[k] = signal.TraceID{15: 1}, signal.SpanID{byte(k + 1)}
		b.EventBegin[k] = uint32(len(b.Events))
		for i := range 400_000 * (k & 1) {
			b.Events = append(b.Events, signal.Event{Time: int64(i)})
		}
		b.EventEnd[k] = uint32(len(b.Events))
		b.AttrBegin[k] = uint32(len(b.Attrs))
		b.Attrs = append(b.Attrs, signal.Attr{Key: put(b, "big"), Type: signal.AttrString, Num: signal.PackRange(put(b, big[k:]))})
		b.AttrEnd[k] = uint32(len(b.Attrs))
	}
	fs := vfs.NewMem()
	first := writeBlock(t, fs, "/first", WriteOptions{Quick: true}, tableOf(t, DefaultConfig(), b))
	require.Greater(t, len(first.Groups()), 1)
	second := writeBlock(t, fs, "/second", WriteOptions{}, first)
	for _, block := range []*Block{first, second} {
		require.Empty(t, block.Verify())
		got := spansOf(t, block)
		require.Equal(t, b.Len(), got.Len())
		require.Equal(t, len(b.Events), len(got.Events))
		for i := range got.SpanIDs {
			k := int(got.SpanIDs[i][0]) - 1
			require.Equal(t, b.EventEnd[k]-b.EventBegin[k], got.EventEnd[i]-got.EventBegin[i])
			require.Equal(t, big[k:], string(got.Bytes(got.SpanAttrs(i)[0].Range())))
		}
	}
}

func TestKeep(t *testing.T) {
	g := newGenerator(9)
	batches := []*signal.Spans{g.batch(100), g.batch(100)}
	fs := vfs.NewMem()
	src := tableOf(t, DefaultConfig(), batches...)
	asked := map[signal.TraceID]int{}
	keep := func(id signal.TraceID) bool { return id[15]%2 == 0 }
	b := writeBlock(t, fs, "/a", WriteOptions{Keep: func(id signal.TraceID) bool {
		asked[id]++
		return keep(id)
	}}, src)
	var want []string
	for _, x := range batches {
		for k, id := range x.TraceIDs {
			require.Equal(t, 1, asked[id])
			if keep(id) {
				want = append(want, describe(x, k))
			}
		}
	}
	require.NotEmpty(t, want)
	require.Less(t, len(want), 200)
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

	none := writeBlock(t, fs, "/c", WriteOptions{Keep: func(signal.TraceID) bool { return false }}, src)
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

// TestWriteLeavesNothing breaks a write by its context, by a damaged input and by
// the disk.
func TestWriteLeavesNothing(t *testing.T) {
	fs := vfs.NewMem()
	require.NoError(t, fs.MkdirAll("/d"))
	batch := newGenerator(4).batch(300)
	src := tableOf(t, DefaultConfig(), batch)
	empty := func() {
		t.Helper()
		require.NoError(t, block.RemoveTemporary(fs, "/d"))
		names, err := fs.List("/d")
		require.NoError(t, err)
		require.Empty(t, names)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := Write(ctx, fs, "/d/b", []Source{src}, WriteOptions{})
	require.ErrorIs(t, err, context.Canceled)
	empty()

	whole := writeBlock(t, fs, "/whole", WriteOptions{}, src)
	page, _, err := whole.r.Page(sectionRows, 2, nil)
	require.NoError(t, err)
	rebuild(t, whole, fs, "/bad", sectionRows, 2, page[:len(page)-1])
	bad, err := Open(fs, "/bad")
	require.NoError(t, err)
	_, err = Write(context.Background(), fs, "/d/b", []Source{src, bad}, WriteOptions{})
	require.ErrorIs(t, err, block.ErrCorruption)
	require.ErrorContains(t, err, "block /bad: section rows, page 2")
	require.NoError(t, bad.Close())
	empty()

	full := errors.New("no space")
	for _, fail := range []vfs.OpKind{vfs.OpCreate, vfs.OpWrite, vfs.OpSync, vfs.OpRename} {
		faulty := vfs.Faulty(fs, func(op vfs.Op) error {
			if op.Kind == fail {
				return full
			}
			return nil
		})
		_, err = Write(context.Background(), faulty, "/d/b", []Source{src}, WriteOptions{})
		require.ErrorIs(t, err, full)
		empty()
	}
	checkBlock(t, writeBlock(t, fs, "/d/b", WriteOptions{}, src), describeAll(batch))
}

// TestLateSpans spreads the spans of long traces over many blocks.
func TestLateSpans(t *testing.T) {
	fs := vfs.NewMem()
	g := newShopGen(11)
	var blocks []Source
	var all []*signal.Spans
	for i := range 8 {
		b := &signal.Spans{}
		g.batch(b, 400)
		if i > 0 { // each has some of the first block's traces, and some of its spans again
			for k := range 40 {
				b.TraceIDs[k*5] = all[0].TraceIDs[k]
			}
			again := all[0]
			checkSpans(t, again)
		}
		all = append(all, b)
		blocks = append(blocks, writeBlock(t, fs, fmt.Sprintf("/%d", i), WriteOptions{Quick: true}, tableOf(t, DefaultConfig(), b)))
	}
	merged := writeBlock(t, fs, "/merged", WriteOptions{}, append(blocks, blocks[2])...)
	checkBlock(t, merged, describeAll(all...))
	var c Cursor
	runs, err := merged.FindTrace(all[0].TraceIDs[0], nil)
	require.NoError(t, err)
	require.Len(t, runs, 1)
	require.NoError(t, c.Seek(runs[0].Group))
	starts, err := c.Starts()
	require.NoError(t, err)
	require.True(t, slices.IsSorted(starts[runs[0].First:runs[0].End]))
}

// TestSameSpans merges spans of one id and start: nothing is compared with all.
func TestSameSpans(t *testing.T) {
	fs := vfs.NewMem()
	var blocks []Source
	for i := range 3 {
		b := &signal.Spans{Tenant: "t", Resources: []signal.Resource{{}}, Scopes: []signal.Scope{{}}}
		extend(b, 30_000)
		for k := range b.Len() {
			b.TraceIDs[k], b.SpanIDs[k], b.Ends[k] = signal.TraceID{1}, signal.SpanID{1}, int64(k+10_000*i)
		}
		blocks = append(blocks, writeBlock(t, fs, fmt.Sprintf("/%d", i), WriteOptions{Quick: true}, tableOf(t, DefaultConfig(), b)))
	}
	merged := writeBlock(t, fs, "/merged", WriteOptions{}, blocks...)
	require.EqualValues(t, 50_000, merged.Meta().Spans)
	require.Empty(t, merged.Verify())
}

// TestPruning asks a block's groups what they have.
func TestPruning(t *testing.T) {
	g := newShopGen(12)
	var batches []*signal.Spans
	for range 30 {
		b := &signal.Spans{}
		g.batch(b, 750)
		batches = append(batches, b)
	}
	b := writeBlock(t, vfs.NewMem(), "/b", WriteOptions{}, tableOf(t, DefaultConfig(), batches...))
	require.Greater(t, len(b.Groups()), 2)
	sp, err := b.Space()
	require.NoError(t, err)
	user, ok := sp.FindColumn(ColumnInfo{Key: "user.id", Type: signal.AttrString})
	require.True(t, ok)
	var c Cursor
	absent, before := 0, int64(0)
	for _, g := range b.Groups() {
		info := g.Info()
		require.LessOrEqual(t, before, info.MinTraceStart)
		require.LessOrEqual(t, info.MinTraceStart, info.MaxTraceStart)
		before = info.MaxTraceStart
		require.NoError(t, c.Seek(g))
		shapes, err := c.Shapes()
		require.NoError(t, err)
		for _, s := range shapes {
			require.Contains(t, g.Shapes(), s)
		}
		resources, err := c.Resources()
		require.NoError(t, err)
		for _, r := range resources {
			require.Contains(t, g.Resources(), r)
		}
		col, err := c.Column(user)
		require.NoError(t, err)
		for i := range col.N {
			require.True(t, g.MayHave(user, col.At(i), 0))
		}
		for i := range 1000 {
			if !g.MayHave(user, fmt.Appendf(nil, "nobody-%d", i), 0) {
				absent++
			}
		}
	}
	// The last group may be too small to have given up the dictionary.
	require.Greater(t, absent, 950*(len(b.Groups())-1))
}

// TestConcurrentReaders reads one block, which nobody has read before, from
// several goroutines.
func TestConcurrentReaders(t *testing.T) {
	batches := sampleBatches(300)
	b := writeBlock(t, vfs.NewMem(), "/b", WriteOptions{}, tableOf(t, DefaultConfig(), batches...))
	want := describeAll(batches...)
	var wg sync.WaitGroup
	got := make([][]string, 4)
	for i := range got {
		wg.Go(func() {
			var c Cursor
			out := &signal.Spans{}
			for _, batch := range batches {
				for k, id := range batch.TraceIDs {
					if slices.Index(batch.TraceIDs, id) != k || k%4 != i && i > 1 {
						continue
					}
					if runs, err := b.FindTrace(id, nil); err != nil || len(runs) == 0 {
						t.Errorf("find trace %x: %d runs, %v", id, len(runs), err)
					}
				}
			}
			for n, g := range b.Groups() {
				runs, err := AppendTraceRuns(nil, &c, g, n)
				if err != nil {
					t.Error(err)
				}
				for _, r := range runs {
					if err := AppendRun(out, &c, Run{Group: g, First: r.First, End: r.End}); err != nil {
						t.Error(err)
					}
				}
			}
			got[i] = describeAll(out)
		})
	}
	wg.Wait()
	for _, g := range got {
		require.Equal(t, want, g)
	}
}
