package host

import (
	"errors"
	"io/fs"

	"github.com/prometheus/procfs"
	"github.com/prometheus/procfs/sysfs"
)

func openMdadm(s *sources) func(*batch) error {
	state := gauge("node_md_state", "Indicates the state of md-device.", "device", "state")
	disks := gauge("node_md_disks", "Number of active/failed/spare disks of device.", "device", "state")
	required := gauge("node_md_disks_required", "Total number of disks of device.", "device")
	blocks := gauge("node_md_blocks", "Total number of blocks on device.", "device")
	synced := gauge("node_md_blocks_synced", "Number of blocks synced on device.", "device")
	raidDisks := gauge("node_md_raid_disks", "Number of raid disks on device.", "device")
	degraded := gauge("node_md_degraded", "Number of degraded disks on device.", "device")
	// The state of an array as mdstat names it, and as the metric does.
	states := map[string]string{
		"active": "active", "inactive": "inactive", "recovering": "recovering", "resyncing": "resync", "checking": "check",
	}
	return func(b *batch) error {
		proc, err := procfs.NewFS(s.ProcFS)
		if err != nil {
			return err
		}
		arrays, err := proc.MDStat()
		if err != nil {
			return absent(err)
		}
		for _, a := range arrays {
			for theirs, name := range states {
				b.add(state, truth(a.ActivityState == theirs), a.Name, name)
			}
			b.add(disks, float64(a.DisksActive), a.Name, "active")
			b.add(disks, float64(a.DisksFailed), a.Name, "failed")
			b.add(disks, float64(a.DisksSpare), a.Name, "spare")
			b.add(required, float64(a.DisksTotal), a.Name)
			b.add(blocks, float64(a.BlocksTotal), a.Name)
			b.add(synced, float64(a.BlocksSynced), a.Name)
		}
		sys, err := sysfs.NewFS(s.SysFS)
		if err != nil {
			return nil // the rest stands in /proc/mdstat
		}
		raids, err := sys.Mdraids()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, a := range raids {
			if a.Disks != nil {
				b.add(raidDisks, float64(*a.Disks), a.Device)
				b.add(degraded, float64(a.DegradedDisks), a.Device)
			}
		}
		return nil
	}
}
