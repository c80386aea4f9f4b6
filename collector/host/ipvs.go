package host

import (
	"strconv"

	"github.com/prometheus/procfs"
)

func openIPVS(s *sources) func(*batch) error {
	connections := counter("node_ipvs_connections_total", "The total number of connections made.")
	inPackets := counter("node_ipvs_incoming_packets_total", "The total number of incoming packets.")
	outPackets := counter("node_ipvs_outgoing_packets_total", "The total number of outgoing packets.")
	inBytes := counter("node_ipvs_incoming_bytes_total", "The total amount of incoming data.")
	outBytes := counter("node_ipvs_outgoing_bytes_total", "The total amount of outgoing data.")
	labels := []string{"local_address", "local_port", "remote_address", "remote_port", "proto", "local_mark"}
	active := gauge("node_ipvs_backend_connections_active", "The current active connections by local and remote address.", labels...)
	inactive := gauge("node_ipvs_backend_connections_inactive", "The current inactive connections by local and remote address.", labels...)
	weight := gauge("node_ipvs_backend_weight", "The current backend weight by local and remote address.", labels...)
	return func(b *batch) error {
		proc, err := procfs.NewFS(s.ProcFS)
		if err != nil {
			return err
		}
		stats, err := proc.IPVSStats()
		if err != nil {
			return absent(err)
		}
		b.add(connections, float64(stats.Connections))
		b.add(inPackets, float64(stats.IncomingPackets))
		b.add(outPackets, float64(stats.OutgoingPackets))
		b.add(inBytes, float64(stats.IncomingBytes))
		b.add(outBytes, float64(stats.OutgoingBytes))
		backends, err := proc.IPVSBackendStatus()
		if err != nil {
			return err
		}
		for _, e := range backends {
			local := ""
			if len(e.LocalAddress) > 0 {
				local = e.LocalAddress.String()
			}
			at := []string{
				local, strconv.Itoa(int(e.LocalPort)), e.RemoteAddress.String(), strconv.Itoa(int(e.RemotePort)), e.Proto, e.LocalMark,
			}
			b.add(active, float64(e.ActiveConn), at...)
			b.add(inactive, float64(e.InactConn), at...)
			b.add(weight, float64(e.Weight), at...)
		}
		return nil
	}
}
