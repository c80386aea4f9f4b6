package stream

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

// Every way that this kernel can load counts exactly.
func TestWays(t *testing.T) {
	for i, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			require.Equal(t, i > 0, w.lacks != "")
			f := New(roomy(), bounds())
			f.only = w.name
			reg := featuretest.Start(t, f, nil)
			for _, tc := range []struct {
				kind       string
				n, workers int
				counted    string
			}{
				{"small", 200, 4, "UnaryCall OK"},
				{"large", 2, 1, "UnaryCall OK"},
				{"missing", 50, 1, "UnaryCall NOT_FOUND"},
				{"both", 20, 2, "FullDuplexCall OK"},
			} {
				addr, _ := featuretest.StartRole(t, "rpc")
				done, _ := featuretest.StartRole(t, "caller", addr, tc.kind, strconv.Itoa(tc.n), strconv.Itoa(tc.workers))
				require.Equal(t, "done", done)
				want := counts{service + tc.counted: uint64(tc.n)}
				rpcCounts(t, reg, "server", featuretest.PortOf(t, addr), want)
				rpcCounts(t, reg, "client", featuretest.PortOf(t, addr), want)
			}
		})
	}
}
