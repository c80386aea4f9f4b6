package rows

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/internal/vfs"
)

// TestCacheBoundsWhatBlocksKeep reads blocks from several goroutines with a cache
// that is too small for them together, or for a single one.
func TestCacheBoundsWhatBlocksKeep(t *testing.T) {
	fs := vfs.NewMem()
	g := newGenerator(5)
	const n = 6
	var want [n][]string
	for i := range n {
		b := g.batch(300)
		want[i] = describeAll(b)
		writeBlock(t, fs, fmt.Sprint("/b", i), WriteOptions{}, tableOf(t, DefaultConfig(), b))
	}
	read := func(max int64) int64 {
		c := NewCache(max)
		var blocks [n]*Block
		for i := range blocks {
			var err error
			blocks[i], err = Open(fs, fmt.Sprint("/b", i))
			require.NoError(t, err)
			blocks[i].UseCache(c)
		}
		var wg sync.WaitGroup
		for k := range 3 {
			wg.Go(func() {
				for round := range 6 {
					i := (k + round) % n
					if got := describeAll(spansOf(t, blocks[i])); fmt.Sprint(got) != fmt.Sprint(want[i]) {
						t.Errorf("block %d reads differently", i)
					}
				}
			})
		}
		wg.Wait()
		used := c.Bytes()
		for _, b := range blocks {
			require.NoError(t, b.Close())
		}
		require.Zero(t, c.Bytes())
		return used
	}
	all := read(1 << 40)
	require.Positive(t, all)
	require.LessOrEqual(t, read(all/2), all/2)
	require.Less(t, read(1), all)
}
