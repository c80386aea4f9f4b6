package rows

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/internal/signal"
)

func TestReadersBesideAppend(t *testing.T) {
	g := newGenerator(11)
	var batches []*signal.Spans
	for range 120 {
		batches = append(batches, g.batch(1+g.IntN(20)))
	}
	tab := NewTable(Config{MaxColumns: 60})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			var c Cursor
			var out signal.Spans
			for {
				view := tab.Snapshot()
				rows, before := 0, tab.Rows()
				for i, group := range view.Groups() {
					if !scan(t, &c, group) {
						return
					}
					runs, err := AppendTraceRuns(nil, &c, group, i)
					if err != nil {
						t.Error(err)
						return
					}
					for _, r := range runs {
						out.Reset()
						found, _ := view.FindTrace(r.ID, nil)
						if err := AppendRun(&out, &c, Run{Group: group, First: r.First, End: r.End}); err != nil || len(found) == 0 {
							t.Error(err, len(found))
							return
						}
						rows += out.Len()
					}
				}
				if rows > before {
					t.Errorf("view has %d rows, table has %d", rows, before)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for i, b := range batches {
		_, _, err := tab.Append(b)
		require.NoError(t, err)
		_, dups, err := tab.Append(batches[i/2])
		require.NoError(t, err)
		require.Equal(t, batches[i/2].Len(), dups)
		require.Positive(t, tab.Bytes())
	}
	close(stop)
	wg.Wait()
	view := tab.Snapshot()
	require.Less(t, len(view.Groups()), 40)
	require.Equal(t, describeAll(batches...), describeAll(spansOf(t, view)))
}

// scan reads every column of a group.
func scan(t *testing.T, c *Cursor, g *Group) bool {
	if err := c.Seek(g); err != nil {
		t.Error(err)
		return false
	}
	if _, err := c.Parents(); err != nil {
		t.Error(err)
		return false
	}
	for _, col := range g.Columns() {
		v, err := c.Column(int(col))
		if err != nil || v == nil {
			t.Error(err, col)
			return false
		}
		for i, n := 0, v.N; i < n && v.Info.Type.InBuf(); i++ {
			_ = v.At(i)
		}
	}
	return true
}

func TestViewsDoNotChange(t *testing.T) {
	g := newGenerator(5)
	tab := NewTable(Config{MaxColumns: 50})
	var in []*signal.Spans
	var views []*TableView
	for range 600 {
		in = append(in, g.batch(1+g.IntN(4)))
		_, _, err := tab.Append(in[len(in)-1])
		require.NoError(t, err)
		views = append(views, tab.Snapshot())
	}
	for n := 0; n < len(views); n += 37 {
		require.Equal(t, describeAll(in[:n+1]...), describeAll(spansOf(t, views[n])))
	}
	require.Same(t, views[len(views)-1], tab.Snapshot())
	require.Less(t, len(tab.Snapshot().Groups()), 50)
	checkGroups(t, tab.Snapshot())
}
