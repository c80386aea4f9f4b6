package host

import (
	"bytes"
	"regexp"
)

var netdevColumns = [...]string{
	"receive_bytes", "receive_packets", "receive_errs", "receive_drop", "receive_fifo", "receive_frame", "receive_compressed", "receive_multicast",
	"transmit_bytes", "transmit_packets", "transmit_errs", "transmit_drop", "transmit_fifo", "transmit_colls", "transmit_carrier", "transmit_compressed",
}

func openNetdev(s *sources) func(*batch) error {
	var r reader
	skip := exclusion(s.NetDevicesExclude)
	statistic := func(name string) *family {
		return counter("node_network_"+name+"_total", "Network device statistic "+name+".", "device")
	}
	var columns [len(netdevColumns)]*family
	for i, name := range netdevColumns {
		columns[i] = statistic(name)
	}
	noHandler := statistic("receive_nohandler")
	return func(b *batch) error {
		data, err := r.read(s.proc("net/dev"))
		if err != nil {
			return err
		}
		var devices []string
		var room [20][]byte
		for line := range lines(data) {
			at := bytes.LastIndexByte(line, ':')
			if at < 0 || bytes.IndexByte(line, '|') >= 0 {
				continue
			}
			device := string(bytes.TrimSpace(line[:at]))
			words := fields(room[:0], line[at+1:])
			if skip(device) || len(words) < len(columns) {
				continue
			}
			devices = append(devices, device)
			for i, f := range columns {
				if v, ok := parseNumber(words[i]); ok {
					b.add(f, v, device)
				}
			}
		}
		for _, device := range devices {
			if v, ok := r.number(s.sys("class/net", device, "statistics/rx_nohandler")); ok {
				b.add(noHandler, v, device)
			}
		}
		return nil
	}
}

// exclusion returns whether a name matches a pattern; an empty one matches none.
func exclusion(pattern string) func(string) bool {
	if pattern == "" {
		return func(string) bool { return false }
	}
	return regexp.MustCompile(pattern).MatchString
}
