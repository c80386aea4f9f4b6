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
