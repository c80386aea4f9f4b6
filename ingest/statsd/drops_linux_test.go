//go:build linux && (amd64 || arm64)

package statsd

import (
	"net"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// Packets that nobody reads are dropped by the kernel, and that is told.
func TestKernelDrops(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	reg := prometheus.NewRegistry()
	registerDrops(reg, packetSocket{"udp", c})
	value := func() float64 {
		families, err := reg.Gather()
		require.NoError(t, err)
		require.Len(t, families, 1)
		require.Equal(t, "vedette_ingest_statsd_kernel_dropped_packets_total", families[0].GetName())
		return families[0].Metric[0].Counter.GetValue()
	}
	require.Zero(t, value())
	sender, err := net.Dial("udp", c.LocalAddr().String())
	require.NoError(t, err)
	defer sender.Close()
	packet := make([]byte, 1400)
	for range 5000 {
		_, err := sender.Write(packet)
		require.NoError(t, err)
	}
	dropped := value()
	require.Positive(t, dropped)
	require.NoError(t, c.Close())
	require.Equal(t, dropped, value()) // the last one known
}
