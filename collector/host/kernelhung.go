package host

func openKernelHung(s *sources) func(*batch) error {
	var r reader
	hung := counter("node_kernel_hung_tasks_total", "Total number of tasks that have been detected as hung since the system booted.")
	return func(b *batch) error {
		v, ok := r.number(s.proc("sys/kernel/hung_task_detect_count"))
		if !ok {
			return errNoData
		}
		b.add(hung, v)
		return nil
	}
}
