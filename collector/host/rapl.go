package host

import (
	"errors"
	"io/fs"
	"strconv"

	"github.com/prometheus/procfs/sysfs"
)

func openRAPL(s *sources) func(*batch) error {
	families := newNames(func(name string) *family {
		return counter("node_rapl_"+name+"_joules_total", "Current RAPL "+name+" value in joules", "index", "path")
	})
	return func(b *batch) error {
		sys, err := sysfs.NewFS(s.SysFS)
		if err != nil {
			return err
		}
		zones, err := sysfs.GetRaplZones(sys)
		if err != nil {
			return absent(err)
		}
		for _, z := range zones {
			uj, err := z.GetEnergyMicrojoules()
			if errors.Is(err, fs.ErrPermission) {
				return errNoData // only root may read it since a side channel was found
			}
			if err != nil {
				return err
			}
			b.add(families.get([]byte(validName(z.Name))), float64(uj)/micro, strconv.Itoa(z.Index), z.Path)
		}
		return nil
	}
}
