package host

import "github.com/prometheus/procfs"

func openSchedstat(s *sources) func(*batch) error {
	running := counter("node_schedstat_running_seconds_total", "Number of seconds CPU spent running a process.", "cpu")
	waiting := counter("node_schedstat_waiting_seconds_total", "Number of seconds spent by processing waiting for this CPU.", "cpu")
	slices := counter("node_schedstat_timeslices_total", "Number of timeslices executed by CPU.", "cpu")
	return func(b *batch) error {
		proc, err := procfs.NewFS(s.ProcFS)
		if err != nil {
			return err
		}
		stats, err := proc.Schedstat()
		if err != nil {
			return absent(err)
		}
		for _, c := range stats.CPUs {
			b.add(running, float64(c.RunningNanoseconds)/nano, c.CPUNum)
			b.add(waiting, float64(c.WaitingNanoseconds)/nano, c.CPUNum)
			b.add(slices, float64(c.RunTimeslices), c.CPUNum)
		}
		return nil
	}
}
