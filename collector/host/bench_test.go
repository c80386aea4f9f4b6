package host

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// BenchmarkCollect measures this machine; see docs/host.md for node_exporter's
// figures.
func BenchmarkCollect(b *testing.B) {
	h, err := New(Options{Config: DefaultConfig()})
	require.NoError(b, err)
	reg := prometheus.NewRegistry()
	require.NoError(b, reg.Register(h))
	b.ReportAllocs()
	for b.Loop() {
		_, err := reg.Gather()
		require.NoError(b, err)
	}
}
