package feature

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPeers(t *testing.T) {
	var p Peers
	loopback, other := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("10.0.0.7")
	require.Empty(t, p.Service(loopback, 80))
	p.Set(map[Place]string{
		{Addr: loopback, NetNS: 1, Port: 80}: "nginx",
		{Addr: loopback, NetNS: 1, Port: 81}: "shop",
		{Addr: loopback, NetNS: 2, Port: 81}: "shop",
		{Addr: loopback, NetNS: 1, Port: 82}: "shop",
		{Addr: loopback, NetNS: 2, Port: 82}: "till",
		{Addr: other, Port: 80}:              "postgres",
	})
	require.Equal(t, "nginx", p.Service(loopback, 80))
	require.Equal(t, "shop", p.Service(loopback, 81), "the same in both namespaces")
	require.Empty(t, p.Service(loopback, 82), "either of two")
	require.Equal(t, "postgres", p.Service(other, 80))
	require.Empty(t, p.Service(other, 81))
	require.Equal(t, "postgres", p.NameOf(other, 80))
	require.Equal(t, "10.0.0.7:81", p.NameOf(other, 81))
	p.Set(nil)
	require.Empty(t, p.Service(other, 80))
}
