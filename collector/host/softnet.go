package host

import (
	"strconv"

	"github.com/prometheus/procfs"
)

func openSoftnet(s *sources) func(*batch) error {
	processed := counter("node_softnet_processed_total", "Number of processed packets", "cpu")
	dropped := counter("node_softnet_dropped_total", "Number of dropped packets", "cpu")
	squeezed := counter("node_softnet_times_squeezed_total", "Number of times processing packets ran out of quota", "cpu")
	collisions := counter("node_softnet_cpu_collision_total", "Number of collision occur while obtaining device lock while transmitting", "cpu")
	rps := counter("node_softnet_received_rps_total", "Number of times cpu woken up received_rps", "cpu")
	limited := counter("node_softnet_flow_limit_count_total", "Number of times flow limit has been reached", "cpu")
	backlog := gauge("node_softnet_backlog_len", "Softnet backlog status", "cpu")
	return func(b *batch) error {
		proc, err := procfs.NewFS(s.ProcFS)
		if err != nil {
			return err
		}
		stats, err := proc.NetSoftnetStat()
		if err != nil {
			return absent(err)
		}
		for _, st := range stats {
			cpu := strconv.FormatUint(uint64(st.Index), 10)
			b.add(processed, float64(st.Processed), cpu)
			b.add(dropped, float64(st.Dropped), cpu)
			b.add(squeezed, float64(st.TimeSqueezed), cpu)
			b.add(collisions, float64(st.CPUCollision), cpu)
			b.add(rps, float64(st.ReceivedRps), cpu)
			b.add(limited, float64(st.FlowLimitCount), cpu)
			b.add(backlog, float64(st.SoftnetBacklogLen), cpu)
		}
		return nil
	}
}
