package framing

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/protocol"
)

func TestExchange(t *testing.T) {
	var e Exchange[int]
	require.True(t, e.Server())
	e.Begin(protocol.Sent)
	require.True(t, e.Sided)
	require.False(t, e.Server())
	*e.Queue.Push(4) = 1
	require.NotZero(t, e.Queue.Bytes())
	e.GiveUp()
	require.True(t, e.Over)
	require.Equal(t, 1, e.Lost())
	require.Zero(t, e.Queue.Bytes())
	e.End()
	require.Equal(t, 1, e.Lost())
}
