package host

import (
	"path/filepath"
	"strings"
)

func openBonding(s *sources) func(*batch) error {
	var r reader
	slaves := gauge("node_bonding_slaves", "Number of configured slaves per bonding interface.", "master")
	active := gauge("node_bonding_active", "Number of active slaves per bonding interface.", "master")
	up := func(master, slave string) bool {
		for _, link := range []string{"lower_", "slave_"} { // kernels before 4.10 have only the second
			path := filepath.Join(s.sys("class/net", master), link+slave, "bonding_slave/mii_status")
			if state, err := r.text(path); err == nil {
				return state == "up"
			}
		}
		return false
	}
	return func(b *batch) error {
		masters, err := r.read(s.sys("class/net/bonding_masters"))
		if err != nil {
			return absent(err)
		}
		for _, master := range strings.Fields(string(masters)) {
			text, err := r.read(s.sys("class/net", master, "bonding/slaves"))
			if err != nil {
				return err
			}
			all, ok := strings.Fields(string(text)), 0
			for _, slave := range all {
				if up(master, slave) {
					ok++
				}
			}
			b.add(slaves, float64(len(all)), master)
			b.add(active, float64(ok), master)
		}
		return nil
	}
}
