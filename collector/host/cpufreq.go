package host

import "strings"

func openCPUFreq(s *sources) func(*batch) error {
	type file struct {
		name   string
		family *family
	}
	files := []file{
		{"cpuinfo_cur_freq", gauge("node_cpu_frequency_hertz", "Current CPU thread frequency in hertz.", "cpu")},
		{"cpuinfo_avg_freq", gauge("node_cpu_frequency_avg_hertz", "Average CPU thread frequency in hertz.", "cpu")},
		{"cpuinfo_min_freq", gauge("node_cpu_frequency_min_hertz", "Minimum CPU thread frequency in hertz.", "cpu")},
		{"cpuinfo_max_freq", gauge("node_cpu_frequency_max_hertz", "Maximum CPU thread frequency in hertz.", "cpu")},
		{"scaling_cur_freq", gauge("node_cpu_scaling_frequency_hertz", "Current scaled CPU thread frequency in hertz.", "cpu")},
		{"scaling_min_freq", gauge("node_cpu_scaling_frequency_min_hertz", "Minimum scaled CPU thread frequency in hertz.", "cpu")},
		{"scaling_max_freq", gauge("node_cpu_scaling_frequency_max_hertz", "Maximum scaled CPU thread frequency in hertz.", "cpu")},
	}
	governor := gauge("node_cpu_scaling_governor", "Current enabled CPU frequency governor.", "cpu", "governor")
	var r reader
	one := func(b *batch, path, n string) {
		dir, err := r.folder(path)
		if err != nil {
			return // a virtual machine
		}
		defer dir.close()
		for _, f := range files {
			if kHz, ok := dir.number(f.name); ok {
				b.add(f.family, kHz*1000, n)
			}
		}
		current, err := dir.text("scaling_governor")
		if err != nil {
			return
		}
		all, _ := dir.text("scaling_available_governors") // none if it is not there
		for _, g := range strings.Fields(all) {
			b.add(governor, truth(g == current), n, g)
		}
	}
	return func(b *batch) error {
		cpus, err := list(s.sys("devices/system/cpu"))
		if err != nil {
			return err
		}
		for _, name := range cpus {
			n, ok := numbered(name, "cpu")
			if !ok {
				continue
			}
			one(b, s.sys("devices/system/cpu", name, "cpufreq"), n)
		}
		return nil
	}
}
