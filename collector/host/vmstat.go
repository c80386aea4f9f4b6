package host

import "regexp"

func openVMStat(s *sources) func(*batch) error {
	var r reader
	wanted := regexp.MustCompile(`^(oom_kill|pgpg|pswp|pg.*fault).*`)
	families := newNames(func(name string) *family {
		if !wanted.MatchString(name) {
			return nil
		}
		return untyped("node_vmstat_"+name, "/proc/vmstat information field "+name+".")
	})
	return func(b *batch) error {
		data, err := r.read(s.proc("vmstat"))
		if err != nil {
			return err
		}
		var room [4][]byte
		for line := range lines(data) {
			words := fields(room[:0], line)
			if len(words) < 2 {
				continue
			}
			if f := families.get(words[0]); f != nil {
				if v, ok := parseNumber(words[1]); ok {
					b.add(f, v)
				}
			}
		}
		return nil
	}
}
