package host

import "github.com/prometheus/procfs/sysfs"

func openWatchdog(s *sources) func(*batch) error {
	of := func(metric, file string) *family {
		return gauge("node_watchdog_"+metric, "Value of /sys/class/watchdog/<watchdog>/"+file, "name")
	}
	bootstatus := of("bootstatus", "bootstatus")
	fw := of("fw_version", "fw_version")
	nowayout := of("nowayout", "nowayout")
	timeleft := of("timeleft_seconds", "timeleft")
	timeout := of("timeout_seconds", "timeout")
	pretimeout := of("pretimeout_seconds", "pretimeout")
	access := of("access_cs0", "access_cs0")
	info := gauge("node_watchdog_info", "Info of /sys/class/watchdog/<watchdog>",
		"name", "options", "identity", "state", "status", "pretimeout_governor")
	return func(b *batch) error {
		sys, err := sysfs.NewFS(s.SysFS)
		if err != nil {
			return err
		}
		dogs, err := sys.WatchdogClass()
		if err != nil {
			return absent(err)
		}
		for _, d := range dogs {
			for f, v := range map[*family]*int64{
				bootstatus: d.Bootstatus, fw: d.FwVersion, nowayout: d.Nowayout, timeleft: d.Timeleft,
				timeout: d.Timeout, pretimeout: d.Pretimeout, access: d.AccessCs0,
			} {
				if v != nil {
					b.add(f, float64(*v), d.Name)
				}
			}
			text := func(s *string) string {
				if s == nil {
					return ""
				}
				return *s
			}
			b.add(info, 1, d.Name, text(d.Options), text(d.Identity), text(d.State), text(d.Status), text(d.PretimeoutGovernor))
		}
		return nil
	}
}
