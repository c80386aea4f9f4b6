package host

import (
	"errors"
	"io/fs"

	"github.com/prometheus/procfs"
)

func openUDPQueues(s *sources) func(*batch) error {
	queues := gauge("node_udp_queues", "Number of allocated memory in the kernel for UDP datagrams in bytes.", "queue", "ip")
	return func(b *batch) error {
		proc, err := procfs.NewFS(s.ProcFS)
		if err != nil {
			return err
		}
		for ip, read := range map[string]func() (*procfs.NetUDPSummary, error){"v4": proc.NetUDPSummary, "v6": proc.NetUDP6Summary} {
			sum, err := read()
			if errors.Is(err, fs.ErrNotExist) {
				continue // no IPv6, for example
			}
			if err != nil {
				return err
			}
			b.add(queues, float64(sum.TxQueueLength), "tx", ip)
			b.add(queues, float64(sum.RxQueueLength), "rx", ip)
		}
		if len(b.samples) == 0 {
			return errNoData
		}
		return nil
	}
}
