package host

import (
	"github.com/prometheus/procfs/sysfs"
)

func openThermalZone(s *sources) func(*batch) error {
	temp := gauge("node_thermal_zone_temp", "Zone temperature in Celsius", "zone", "type")
	current := gauge("node_cooling_device_cur_state", "Current throttle state of the cooling device", "name", "type")
	most := gauge("node_cooling_device_max_state", "Maximum throttle state of the cooling device", "name", "type")
	return func(b *batch) error {
		sys, err := sysfs.NewFS(s.SysFS)
		if err != nil {
			return err
		}
		zones, err := sys.ClassThermalZoneStats()
		if err != nil {
			return absent(err)
		}
		for _, z := range zones {
			if z.ReadErrors == nil {
				b.add(temp, float64(z.Temp)/milli, z.Name, z.Type)
			}
		}
		devices, err := sys.ClassCoolingDeviceStats()
		if err != nil {
			return err
		}
		for _, d := range devices {
			b.add(current, float64(d.CurState), d.Name, d.Type)
			b.add(most, float64(d.MaxState), d.Name, d.Type)
		}
		return nil
	}
}
