package host

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/prometheus/procfs"
)

func openPressure(s *sources) func(*batch) error {
	waiting := func(resource, help string) *family {
		return counter("node_pressure_"+resource+"_waiting_seconds_total", "Total time in seconds that processes have waited "+help)
	}
	stalled := func(resource, help string) *family {
		return counter("node_pressure_"+resource+"_stalled_seconds_total", "Total time in seconds no process could make progress due to "+help)
	}
	resources := []struct {
		name       string
		some, full *family
	}{
		{"cpu", waiting("cpu", "for CPU time"), nil},
		{"io", waiting("io", "due to IO congestion"), stalled("io", "IO congestion")},
		{"memory", waiting("memory", "for memory"), stalled("memory", "memory congestion")},
		{"irq", nil, stalled("irq", "IRQ congestion")},
	}
	return func(b *batch) error {
		proc, err := procfs.NewFS(s.ProcFS)
		if err != nil {
			return err
		}
		for _, r := range resources {
			psi, err := proc.PSIStatsForResource(r.name)
			switch {
			case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EOPNOTSUPP):
				continue // an old kernel, or one that was told not to
			case err != nil:
				return err
			}
			if r.some != nil && psi.Some != nil {
				b.add(r.some, float64(psi.Some.Total)/micro)
			}
			if r.full != nil && psi.Full != nil {
				b.add(r.full, float64(psi.Full.Total)/micro)
			}
		}
		if len(b.samples) == 0 {
			return errNoData
		}
		return nil
	}
}
