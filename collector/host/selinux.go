package host

import "strings"

func openSELinux(s *sources) func(*batch) error {
	var r reader
	enabled := gauge("node_selinux_enabled", "SELinux is enabled, 1 is true, 0 is false")
	current := gauge("node_selinux_current_mode", "Current SELinux enforcement mode")
	config := gauge("node_selinux_config_mode", "Configured SELinux enforcement mode")
	return func(b *batch) error {
		mode, ok := r.number(s.sys("fs/selinux/enforce"))
		b.add(enabled, truth(ok))
		if !ok {
			return nil
		}
		b.add(current, mode)
		text, err := r.read(s.root("etc/selinux/config"))
		if err != nil {
			return nil
		}
		for line := range strings.SplitSeq(string(text), "\n") {
			if value, ok := strings.CutPrefix(strings.TrimSpace(line), "SELINUX="); ok {
				switch value {
				case "enforcing":
					b.add(config, 1)
				case "permissive":
					b.add(config, 0)
				default:
					b.add(config, -1)
				}
			}
		}
		return nil
	}
}
