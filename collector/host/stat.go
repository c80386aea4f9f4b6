package host

import "bytes"

func openStat(s *sources) func(*batch) error {
	type stat struct {
		family *family
		key    string
	}
	stats := []stat{
		{counter("node_intr_total", "Total number of interrupts serviced."), "intr"},
		{counter("node_context_switches_total", "Total number of context switches."), "ctxt"},
		{counter("node_forks_total", "Total number of forks."), "processes"},
		{gauge("node_boot_time_seconds", "Node boot time, in unixtime."), "btime"},
		{gauge("node_procs_running", "Number of processes in runnable state."), "procs_running"},
		{gauge("node_procs_blocked", "Number of processes blocked waiting for I/O to complete."), "procs_blocked"},
	}
	return func(b *batch) error {
		data, err := s.stat(b.round)
		if err != nil {
			return err
		}
		for line := range lines(data) {
			key, rest, _ := bytes.Cut(line, []byte{' '})
			for _, st := range stats {
				if string(key) != st.key {
					continue
				}
				first, _, _ := bytes.Cut(rest, []byte{' '})
				if v, ok := parseNumber(first); ok {
					b.add(st.family, v)
				}
			}
		}
		return nil
	}
}
