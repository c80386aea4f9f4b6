package host

import "github.com/prometheus/procfs/sysfs"

func openNVMe(s *sources) func(*batch) error {
	info := gauge("node_nvme_info", "Non-numeric data from /sys/class/nvme/<device>, value is always 1.",
		"device", "firmware_revision", "model", "serial", "state", "cntlid")
	namespace := gauge("node_nvme_namespace_info", "Information about NVMe namespaces. Value is always 1", "device", "nsid", "ana_state")
	of := func(name, help string) *family { return gauge("node_nvme_namespace_"+name, help, "device", "nsid") }
	capacity := of("capacity_bytes", "Capacity of the NVMe namespace in bytes. Computed as namespace_size * namespace_logical_block_size")
	size := of("size_bytes", "Size of the NVMe namespace in bytes. Available in /sys/class/nvme/<device>/<namespace>/size")
	used := of("used_bytes", "Used space of the NVMe namespace in bytes. Available in /sys/class/nvme/<device>/<namespace>/nuse")
	block := of("logical_block_size_bytes",
		"Logical block size of the NVMe namespace in bytes. Usually 4Kb. Available in /sys/class/nvme/<device>/<namespace>/queue/logical_block_size")
	return func(b *batch) error {
		sys, err := sysfs.NewFS(s.SysFS)
		if err != nil {
			return err
		}
		devices, err := sys.NVMeClass()
		if err != nil {
			return absent(err)
		}
		for _, d := range devices {
			b.add(info, 1, d.Name, d.FirmwareRevision, d.Model, d.Serial, d.State, d.ControllerID)
			for _, ns := range d.Namespaces {
				b.add(namespace, 1, d.Name, ns.ID, ns.ANAState)
				b.add(capacity, float64(ns.CapacityBytes), d.Name, ns.ID)
				b.add(size, float64(ns.SizeBytes), d.Name, ns.ID)
				b.add(used, float64(ns.UsedBytes), d.Name, ns.ID)
				b.add(block, float64(ns.LogicalBlockSize), d.Name, ns.ID)
			}
		}
		return nil
	}
}
