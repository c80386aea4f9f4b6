package host

// netclassFile is a file of /sys/class/net/<device>, what is made of it, and its
// unit.
type netclassFile struct {
	name   string
	family *family
	unit   float64
}

func openNetclass(s *sources) func(*batch) error {
	var r reader
	skip := exclusion(s.NetDevicesExclude)
	var files []netclassFile
	file := func(name string, make func(string, string, ...string) *family, property string, unit float64) {
		files = append(files, netclassFile{name, make("node_network_"+property, "Network device property: "+property, "device"), unit})
	}
	file("addr_assign_type", gauge, "address_assign_type", 1)
	file("carrier", gauge, "carrier", 1)
	file("carrier_changes", counter, "carrier_changes_total", 1)
	file("carrier_up_count", counter, "carrier_up_changes_total", 1)
	file("carrier_down_count", counter, "carrier_down_changes_total", 1)
	file("dev_id", gauge, "device_id", 1)
	file("dormant", gauge, "dormant", 1)
	file("ifindex", gauge, "iface_id", 1)
	file("iflink", gauge, "iface_link", 1)
	file("link_mode", gauge, "iface_link_mode", 1)
	file("mtu", gauge, "mtu_bytes", 1)
	file("name_assign_type", gauge, "name_assign_type", 1)
	file("netdev_group", gauge, "net_dev_group", 1)
	file("speed", gauge, "speed_bytes", 1e6/8)
	file("tx_queue_len", gauge, "transmit_queue_length", 1)
	file("type", gauge, "protocol_type", 1)
	flags := gauge("node_network_flags", "Network device property: flags", "device")
	up := gauge("node_network_up", "Value is 1 if operstate is 'up', 0 otherwise.", "device")
	info := gauge("node_network_info", "Non-numeric data from /sys/class/net/<iface>, value is always 1.",
		"device", "address", "broadcast", "duplex", "operstate", "adminstate", "ifalias")
	one := func(b *batch, device string) {
		dir, err := r.folder(s.sys("class/net", device))
		if err != nil {
			return // bonding_masters is no device
		}
		defer dir.close()
		operstate, err := dir.text("operstate")
		if err != nil {
			return
		}
		adminstate := "unknown"
		if v, ok := dir.number("flags"); ok {
			b.add(flags, v, device)
			adminstate = adminState(v)
		}
		for _, f := range files {
			if v, ok := dir.number(f.name); ok {
				b.add(f.family, v*f.unit, device)
			}
		}
		b.add(up, truth(operstate == "up"), device)
		text := func(name string) string {
			out, _ := dir.text(name) // not every device has every file
			return out
		}
		b.add(info, 1, device, text("address"), text("broadcast"), text("duplex"), operstate, adminstate, text("ifalias"))
	}
	return func(b *batch) error {
		devices, err := list(s.sys("class/net"))
		if err != nil {
			return err
		}
		for _, device := range devices {
			if !skip(device) {
				one(b, device)
			}
		}
		if len(b.samples) == 0 {
			return errNoData
		}
		return nil
	}
}

func adminState(flags float64) string {
	const iffUp = 1
	if int64(flags)&iffUp != 0 {
		return "up"
	}
	return "down"
}
