package http1

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

// Every way that this kernel can load counts exactly, but for what it says it
// lacks.
func TestHTTPWays(t *testing.T) {
	for i, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			f := newFeature(t)
			f.only = w.name
			reg := featuretest.Start(t, f, nil)
			leaveOut := ""
			if slices.Contains(w.without, bpf.HttpProgClosed) {
				leaveOut = "closed without a response"
			}
			if i > 0 {
				require.NotEmpty(t, w.lacks)
			}
			driveGoServer(t, reg, leaveOut)
			addr, _ := featuretest.StartRole(t, "server", "4")
			// a server that is gone may have had this port
			want := countsOn(t, reg, "client", featuretest.PortOf(t, addr))
			want["GET 200"] += 50
			done, _ := featuretest.StartRole(t, "client", "http://"+addr+"/chunked", "50")
			require.Equal(t, "done", done)
			requireCounts(t, reg, "client", featuretest.PortOf(t, addr), want)
		})
	}
}
