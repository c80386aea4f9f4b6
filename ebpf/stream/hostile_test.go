package stream

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
	"github.com/vedette-io/vedette/ebpf/protocol"
)

// What a client sends is its own choice; labels and attributes are UTF-8.
func TestTableHostileNames(t *testing.T) {
	wanted := new(all)
	table, reg := newTable(t, TableOptions{}, func(env *feature.Environment) { env.Calls = wanted })
	k := newTalk(1, self(t))
	k.call(table, "/pkg.\xffSvc/Do\xc3", "0")
	k.call(table, "/pkg.\xffSvc/Do\xc3", "0")
	k.call(table, "/pkg."+strings.Repeat("a", 230)+"/Do", "0")
	methods := make(map[string]uint64)
	for _, m := range featuretest.Family(t, reg, "rpc_server_call_duration_seconds", map[string]string{"server_port": "80"}) {
		methods[featuretest.Label(m, "rpc_method")] += m.GetHistogram().GetSampleCount()
	}
	require.Equal(t, map[string]uint64{"pkg.\uFFFDSvc/Do\uFFFD": 2, "pkg." + strings.Repeat("a", maxLabel-4) + "/Do": 1}, methods)
	require.Equal(t, "pkg.\uFFFDSvc/Do\uFFFD", wanted.calls[0].Name)
}

// A client that asks any number of servers leaves room for others.
func TestTableCrawler(t *testing.T) {
	table, reg := newTable(t, TableOptions{}, func(env *feature.Environment) { env.MaxSeries = maxRemotes + 10 })
	for i := range 1000 {
		k := newTalk(uint64(i+1), self(t))
		k.conn.Peer = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 80)
		k.say(table, protocol.Sent, true, ":method", "GET", ":path", "/")
		k.say(table, protocol.Received, true, ":status", "200")
	}
	all := featuretest.Family(t, reg, "http_client_request_duration_seconds", nil)
	require.Len(t, all, maxRemotes+1)
	rest := featuretest.Family(t, reg, "http_client_request_duration_seconds", map[string]string{"server_address": "_OTHER", "server_port": ""})
	require.Len(t, rest, 1)
	require.EqualValues(t, 1000-maxRemotes, rest[0].GetHistogram().GetSampleCount())
	require.Zero(t, lostFor(t, reg, "max_series"))
	var requests uint64
	require.NoError(t, featuretest.Edges(table, func(e *feature.Edge) {
		if e.Server == other {
			requests += e.Requests
		}
	}))
	require.EqualValues(t, 1000-maxRemotes, requests)
}
