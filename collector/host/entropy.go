package host

func openEntropy(s *sources) func(*batch) error {
	var r reader
	available := gauge("node_entropy_available_bits", "Bits of available entropy.")
	pool := gauge("node_entropy_pool_size_bits", "Bits of entropy pool.")
	return func(b *batch) error {
		if v, ok := r.number(s.proc("sys/kernel/random/entropy_avail")); ok {
			b.add(available, v)
		}
		if v, ok := r.number(s.proc("sys/kernel/random/poolsize")); ok {
			b.add(pool, v)
		}
		if len(b.samples) == 0 {
			return errNoData
		}
		return nil
	}
}
