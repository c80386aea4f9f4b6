package host

func openARP(s *sources) func(*batch) error {
	var r reader
	entries := gauge("node_arp_entries", "ARP entries by device", "device")
	skip := exclusion(s.NetDevicesExclude)
	return func(b *batch) error {
		data, err := r.read(s.proc("net/arp"))
		if err != nil {
			return absent(err)
		}
		count := map[string]float64{}
		var room [8][]byte
		for line := range lines(data) {
			// IP address, HW type, Flags, HW address, Mask, Device; the title has more words.
			if words := fields(room[:0], line); len(words) == 6 {
				count[string(words[5])]++
			}
		}
		for device, n := range count {
			if !skip(device) {
				b.add(entries, n, device)
			}
		}
		return nil
	}
}
