package host

import "fmt"

func openLoadavg(s *sources) func(*batch) error {
	var r reader
	loads := []*family{
		gauge("node_load1", "1m load average."),
		gauge("node_load5", "5m load average."),
		gauge("node_load15", "15m load average."),
	}
	return func(b *batch) error {
		data, err := r.read(s.proc("loadavg"))
		if err != nil {
			return err
		}
		words := fields(nil, data)
		if len(words) < len(loads) {
			return fmt.Errorf("parse loadavg: got %q, want three numbers", data)
		}
		for i, f := range loads {
			v, ok := parseNumber(words[i])
			if !ok {
				return fmt.Errorf("parse loadavg: got %q, want a number", words[i])
			}
			b.add(f, v)
		}
		return nil
	}
}
