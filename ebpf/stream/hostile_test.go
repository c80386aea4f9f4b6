package stream

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
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
