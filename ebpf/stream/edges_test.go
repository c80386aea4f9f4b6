package stream

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature"
)

// What is counted by bound comes out of the probe's slots as it went in.
func TestSlotsFoldToBounds(t *testing.T) {
	for _, bounds := range [][]float64{bounds(), {0.001}, {0.0001, 0.1, 2, 15}} {
		slots, err := slotsOf(bounds)
		require.NoError(t, err)
		require.Len(t, slots, len(bounds)+1)
		b, err := feature.NewBuckets(bounds)
		require.NoError(t, err)
		counted := make([]uint64, feature.MaxSlots)
		for i, s := range slots {
			counted[s] += uint64(1) << i
		}
		cumulative, total := b.Fold(counted)
		var want uint64
		for i, bound := range bounds {
			want += 1 << i
			require.Equal(t, want, cumulative[i], "%v of %v", bound, bounds)
		}
		require.Equal(t, want+1<<len(bounds), total)
	}
}
