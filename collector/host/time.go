package host

import (
	"strings"
	"time"
)

func openTime(s *sources) func(*batch) error {
	var r reader
	now := gauge("node_time_seconds", "System time in seconds since epoch (1970).")
	zone := gauge("node_time_zone_offset_seconds", "System time zone offset in seconds.", "time_zone")
	available := gauge("node_time_clocksource_available_info", "Available clocksources read from '/sys/devices/system/clocksource'.", "device", "clocksource")
	current := gauge("node_time_clocksource_current_info", "Current clocksource read from '/sys/devices/system/clocksource'.", "device", "clocksource")
	return func(b *batch) error {
		t := time.Now()
		name, offset := t.Zone()
		b.add(now, float64(t.UnixNano())/nano)
		b.add(zone, float64(offset), name)
		sources, err := list(s.sys("devices/system/clocksource"))
		if err != nil {
			return err
		}
		for _, source := range sources {
			n, ok := numbered(source, "clocksource")
			if !ok {
				continue
			}
			dir := s.sys("devices/system/clocksource", source)
			if text, err := r.text(dir + "/available_clocksource"); err == nil {
				for _, clock := range strings.Fields(text) {
					b.add(available, 1, n, clock)
				}
			}
			if text, err := r.text(dir + "/current_clocksource"); err == nil {
				b.add(current, 1, n, text)
			}
		}
		return nil
	}
}
