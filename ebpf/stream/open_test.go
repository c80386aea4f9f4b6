package stream

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/identity"
	"github.com/vedette-io/vedette/ebpf/protocol"
)

// keeper keeps calls.
type keeper struct{ calls []feature.Call }

func (k *keeper) Wanted(traceparent string, _ uint32, _, _ netip.AddrPort) bool {
	return traceparent != "unwanted"
}
func (*keeper) Full() bool { return false }

func (k *keeper) Add(c *feature.Call) { k.calls = append(k.calls, *c) }

// A request is visited while it is open, with the place that it has when it is added.
func TestOpen(t *testing.T) {
	table, keep := NewTable(TableOptions{Name: "test", Bounds: []float64{1}}), new(keeper)
	table.Use(&feature.Environment{MaxSeries: 64, Calls: keep, Resolver: identity.New("/proc", nil)})
	c := Conn{
		ID: 7, Process: identity.Key{PID: 1, StartNanos: 2}, TLS: true, NetNS: 3,
		Local: netip.MustParseAddrPort("10.0.0.1:443"), Peer: netip.MustParseAddrPort("10.0.0.2:4000"),
	}
	take := func(c Conn, d protocol.Direction, seq uint32, s string) {
		table.Take(c, protocol.Unknown, &protocol.Piece{Direction: d, Data: []byte(s), Seq: seq, ReadyNanos: 10, AtNanos: 20})
	}
	open := func() (all []feature.Call, lost uint64) {
		lost, err := table.Open(func(c *feature.Call) { all = append(all, *c) })
		require.NoError(t, err)
		return all, lost
	}
	take(c, protocol.Received, 100, "GET /a HTTP/1.1\r\ntraceparent: x\r\n\r\nGET /b HTTP/1.1\r\ntraceparent: unwanted\r\n\r\n")
	visited, lost := open()
	require.Zero(t, lost)
	require.Len(t, visited, 1)
	take(c, protocol.Sent, 900, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
	again, _ := open()
	require.Equal(t, visited, again, "a response under way")
	take(c, protocol.Sent, 901, "k")
	require.Len(t, keep.calls, 1)
	got := keep.calls[0]
	got.EndNanos, got.Name, got.Attributes = 0, "", nil
	require.Equal(t, visited[0], got)
	require.Equal(t, uint32(100), got.Seq)
	visited, _ = open()
	require.Empty(t, visited)
	// One whose other end cannot be told is so at both times, too.
	c.ID, c.Unplaced, c.Local, c.Peer = 8, true, netip.AddrPort{}, netip.AddrPort{}
	take(c, protocol.Received, 0, "GET /a HTTP/1.1\r\n\r\n")
	visited, _ = open()
	require.Len(t, visited, 1)
	require.Equal(t, uint64(8), visited[0].Conn)
	// What is lost of such connections puts in doubt who is first.
	take(c, protocol.Sent, 0, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")
	_, lost = open()
	require.NotZero(t, lost)
}
