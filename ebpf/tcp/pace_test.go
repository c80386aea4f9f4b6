package tcp

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPace(t *testing.T) {
	var p pace
	now := time.Unix(1000, 0)
	require.True(t, p.due(now))
	p.looked(now, time.Millisecond)
	require.True(t, p.due(now), "a short look may be taken at any time")
	p.looked(now, time.Second)
	require.False(t, p.due(now.Add(49*time.Second)))
	require.True(t, p.due(now.Add(50*time.Second)))
	p.looked(now, time.Millisecond)
	require.True(t, p.due(now))
}

// Waiting for a processor, or for anything else, is not work.
func TestProcessorOf(t *testing.T) {
	took, err := processorOf(func() error {
		<-time.After(200 * time.Millisecond)
		return nil
	})
	require.NoError(t, err)
	require.Less(t, took, 100*time.Millisecond)
	var n uint64
	took, err = processorOf(func() error {
		for range 1 << 24 {
			n = n*2862933555777941757 + 1
		}
		return nil
	})
	require.NoError(t, err)
	require.Positive(t, took)
	require.NotZero(t, n)
}
