package featuretest

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A machine that stands still for longer than one waits has counted nothing meanwhile.
func TestAwaitOutlastsAStandstill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		Await(func() int {
			n++
			switch {
			case n == 2:
				<-time.After(10 * patience)
			case n >= 10:
				return 5
			}
			return 4
		}, 5)
		require.Equal(t, 10, n)
	})
}

// What does not come is not waited for for ever.
func TestAwaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		Await(func() int { return 4 }, 5)
		require.LessOrEqual(t, time.Since(began), 2*patience)
	})
}
