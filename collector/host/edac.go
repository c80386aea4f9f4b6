package host

import (
	"path/filepath"
	"regexp"
)

var (
	channelFile = regexp.MustCompile(`^ch(\d+)_(ce|ue)_count$`)
	unnamedDIMM = regexp.MustCompile(`^mc#?(\d+)csrow#?(\d+)channel#?(\d+)$`)
)

func openEDAC(s *sources) func(*batch) error {
	type counts struct{ ce, ue *family }
	var r reader
	pair := func(where, help string, labels ...string) counts {
		return counts{
			counter("node_edac_"+where+"correctable_errors_total", "Total correctable memory errors"+help+".", labels...),
			counter("node_edac_"+where+"uncorrectable_errors_total", "Total uncorrectable memory errors"+help+".", labels...),
		}
	}
	controller := pair("", "", "controller")
	row := pair("csrow_", " for this csrow", "controller", "csrow")
	channel := pair("channel_", " for this channel", "controller", "csrow", "channel", "dimm_label")
	read := func(b *batch, c counts, ce, ue string, labels ...string) {
		if v, ok := r.number(ce); ok {
			b.add(c.ce, v, labels...)
		}
		if v, ok := r.number(ue); ok {
			b.add(c.ue, v, labels...)
		}
	}
	channels := func(b *batch, dir, mc, n string) error {
		files, err := list(dir)
		for _, name := range files {
			m := channelFile.FindStringSubmatch(name)
			if m == nil {
				continue
			}
			f := channel.ce
			if m[2] == "ue" {
				f = channel.ue
			}
			label, _ := r.text(filepath.Join(dir, "ch"+m[1]+"_dimm_label")) // empty if there is none
			label = unnamedDIMM.ReplaceAllString(label, "mc${1}_csrow${2}_channel$3")
			if v, ok := r.number(filepath.Join(dir, name)); ok {
				b.add(f, v, mc, n, m[1], label)
			}
		}
		return err
	}
	return func(b *batch) error {
		controllers, err := list(s.sys("devices/system/edac/mc"))
		if err != nil {
			return err
		}
		for _, name := range controllers {
			mc, ok := numbered(name, "mc")
			if !ok {
				continue
			}
			dir := s.sys("devices/system/edac/mc", name)
			read(b, controller, dir+"/ce_count", dir+"/ue_count", mc)
			read(b, row, dir+"/ce_noinfo_count", dir+"/ue_noinfo_count", mc, "unknown")
			rows, err := list(dir)
			if err != nil {
				return err
			}
			for _, name := range rows {
				n, ok := numbered(name, "csrow")
				if !ok {
					continue
				}
				rowDir := filepath.Join(dir, name)
				read(b, row, rowDir+"/ce_count", rowDir+"/ue_count", mc, n)
				if err := channels(b, rowDir, mc, n); err != nil {
					return err
				}
			}
		}
		return nil
	}
}
