package rows

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/vfs"
)

// cpu returns the CPU time of the process.
func cpu(t testing.TB) time.Duration {
	var u syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestShop prints the sizes and costs that docs/format/spans.md quotes:
//
//	VEDETTE_SPANS=1000000 go test -v -run TestShop ./storage/trace/rows
func TestShop(t *testing.T) {
	spans := 20_000
	if n, err := strconv.Atoi(os.Getenv("VEDETTE_SPANS")); err == nil {
		spans = n
	}
	const flushSpans = 128 << 10
	g := newShopGen(1)
	g.byService = os.Getenv("VEDETTE_BY_SERVICE") != ""
	var fs vfs.FS = vfs.OS
	dir := t.TempDir()
	var blocks []Source
	var inputs int64
	var ids []signal.TraceID
	var appendCPU, flushCPU time.Duration
	total := 0
	b := &signal.Spans{}
	for total < spans {
		table := NewTable(DefaultConfig())
		for table.Rows() < flushSpans && total < spans {
			if g.batch(b, 750); b.Len() == 0 {
				continue
			}
			ids = append(ids, b.TraceIDs[0])
			before := cpu(t)
			added, _, err := table.Append(b)
			require.NoError(t, err)
			appendCPU += cpu(t) - before
			total += added
		}
		view := table.Snapshot()
		before := cpu(t)
		name := fmt.Sprintf("%s/b%d", dir, len(blocks))
		_, err := Write(context.Background(), fs, name, []Source{view}, WriteOptions{Quick: true})
		require.NoError(t, err)
		flushCPU += cpu(t) - before
		block, err := Open(fs, name)
		require.NoError(t, err)
		defer func() { require.NoError(t, block.Close()) }()
		inputs += block.Size()
		blocks = append(blocks, block)
	}
	before := cpu(t)
	m, err := newMerger(blocks, WriteOptions{})
	require.NoError(t, err)
	m.gw.sizes = map[string]int64{}
	meta, err := m.write(context.Background(), fs, dir+"/merged")
	require.NoError(t, err)
	mergeCPU := cpu(t) - before
	merged, err := Open(fs, dir+"/merged")
	require.NoError(t, err)
	defer func() { require.NoError(t, merged.Close()) }()
	require.EqualValues(t, total, meta.Spans)

	n := float64(total)
	t.Logf("%d spans, %d traces, %d shapes, %d groups", total, meta.Traces, meta.Shapes, meta.Groups)
	t.Logf("%.2f B/span merged, %.2f flushed; CPU a span: append %v, flush %v, merge %v", float64(merged.Size())/n, float64(inputs)/n,
		appendCPU/time.Duration(total), flushCPU/time.Duration(total), mergeCPU/time.Duration(total))
	for _, k := range slices.SortedFunc(keys(m.gw.sizes), func(a, b string) int { return int(m.gw.sizes[b] - m.gw.sizes[a]) }) {
		t.Logf("%8.3f B/span  %s", float64(m.gw.sizes[k])/n, k)
	}
	merged.Sections(func(name string, pages int, bytes int64) {
		t.Logf("%8.3f B/span  section %s, %d pages", float64(bytes)/n, name, pages)
	})
	shopScan(t, merged, total)
	shopTraces(t, merged, ids)
}

// shopScan reports what decoding whole columns costs.
func shopScan(t *testing.T, b *Block, rows int) {
	var c Cursor
	scan := func(what string, read func() (int, error)) {
		best, values := time.Duration(1<<62), 0
		for range 3 {
			values = 0
			before := cpu(t)
			for _, g := range b.Groups() {
				require.NoError(t, c.Seek(g))
				n, err := read()
				require.NoError(t, err)
				values += n
			}
			best = min(best, cpu(t)-before)
		}
		t.Logf("%8.2f ns/value  %s (%d)", float64(best)/float64(max(values, 1)), what, values)
	}
	scan("shapes", func() (int, error) { v, err := c.Shapes(); return len(v), err })
	scan("resources with shapes", func() (int, error) { v, err := c.Resources(); return len(v), err })
	scan("starts", func() (int, error) { v, err := c.Starts(); return len(v), err })
	scan("durations", func() (int, error) { v, err := c.Durations(); return len(v), err })
	scan("statuses", func() (int, error) { v, err := c.Statuses(); return len(v), err })
	scan("parents", func() (int, error) { v, err := c.Parents(); return len(v), err })
	sp, err := b.Space()
	require.NoError(t, err)
	for i, info := range sp.Columns {
		scan("column "+info.Key, func() (int, error) {
			if _, err := c.Shapes(); err != nil {
				return 0, err
			}
			before := c.epoch
			col, err := c.Column(i)
			require.Equal(t, before, c.epoch)
			if col == nil {
				return 0, err
			}
			return col.N, err
		})
	}
}

// shopTraces reports what it costs to find and to read traces.
func shopTraces(t *testing.T, b *Block, ids []signal.TraceID) {
	ids = ids[:min(len(ids), 1000)]
	found := make([][]Run, len(ids))
	for range 2 {
		before := time.Now()
		for i, id := range ids {
			runs, err := b.FindTrace(id, found[i][:0])
			require.NoError(t, err)
			require.NotEmpty(t, runs)
			found[i] = runs
		}
		t.Logf("find a trace: %v", time.Since(before)/time.Duration(len(ids)))
	}
	out := &signal.Spans{}
	var c Cursor
	spans := 0
	before := time.Now()
	for _, runs := range found {
		out.Reset()
		for _, r := range runs {
			require.NoError(t, AppendRun(out, &c, r))
		}
		spans += out.Len()
	}
	t.Logf("read a trace: %v, %d spans", time.Since(before)/time.Duration(len(ids)), spans/len(ids))
}

func keys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}
