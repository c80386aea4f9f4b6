package identity

// Find gives the key of the process that has this id now. Its start is only as
// fine as /proc tells it, which is a hundredth of a second.
func (r *Resolver) Find(pid uint32) (Key, bool) {
	s, err := r.stat(pid)
	if err != nil || s.start < 0 {
		return Key{}, false
	}
	return Key{PID: pid, StartNanos: uint64(s.start * nanosPerTick)}, true
}
