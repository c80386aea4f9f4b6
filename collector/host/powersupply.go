package host

import (
	"path/filepath"
	"strings"
)

// powerFile is a file of /sys/class/power_supply/<power_supply>, and what its
// number is divided by.
type powerFile struct {
	name, metric string
	unit         float64
}

// powerFiles are the files that hold a number. The kernel counts in millionths,
// and temperatures in tenths.
func powerFiles() []powerFile {
	out := []powerFile{
		{"cycle_count", "cyclecount", 1},
		{"time_to_empty_now", "time_to_empty_seconds", 1},
		{"time_to_full_now", "time_to_full_seconds", 1},
		{"current_now", "current_ampere", micro},
		{"energy_now", "energy_watthour", micro},
		{"voltage_now", "voltage_volt", micro},
		{"charge_now", "charge_ampere", micro},
		{"power_now", "power_watt", micro},
		{"temp", "temp_celsius", 10},
		{"temp_alert_max", "temp_alert_max_celsius", 10},
		{"temp_alert_min", "temp_alert_min_celsius", 10},
		{"temp_ambient", "temp_ambient_celsius", 10},
		{"temp_ambient_max", "temp_ambient_max_celsius", 10},
		{"temp_ambient_min", "temp_ambient_min_celsius", 10},
		{"temp_max", "temp_max_celsius", 10},
		{"temp_min", "temp_min_celsius", 10},
	}
	for _, name := range []string{
		"authentic", "calibrate", "capacity", "capacity_alert_max", "capacity_alert_min", "online", "present",
	} {
		out = append(out, powerFile{name, name, 1})
	}
	for _, name := range []string{
		"current_boot", "current_max", "energy_empty", "energy_empty_design", "energy_full", "energy_full_design",
		"voltage_boot", "voltage_max", "voltage_max_design", "voltage_min", "voltage_min_design", "voltage_ocv",
		"charge_control_limit", "charge_control_limit_max", "charge_counter", "charge_empty", "charge_empty_design",
		"charge_full", "charge_full_design", "charge_term_current", "constant_charge_current", "constant_charge_current_max",
		"constant_charge_voltage", "constant_charge_voltage_max", "precharge_current", "input_current_limit",
	} {
		out = append(out, powerFile{name, name, micro})
	}
	return out
}

func openPowerSupply(s *sources) func(*batch) error {
	const where = " of /sys/class/power_supply/<power_supply>."
	type file struct {
		family *family
		unit   float64
	}
	var r reader
	files := map[string]file{}
	for _, f := range powerFiles() {
		files[f.name] = file{gauge("node_power_supply_"+f.metric, f.metric+" value"+where, "power_supply"), f.unit}
	}
	texts := []string{
		"capacity_level", "charge_type", "health", "manufacturer", "model_name", "serial_number", "status", "technology", "type", "usb_type", "scope",
	}
	info := gauge("node_power_supply_info", "info"+where, append([]string{"power_supply"}, texts...)...)
	return func(b *batch) error {
		supplies, err := list(s.sys("class/power_supply"))
		if err != nil {
			return err
		}
		for _, supply := range supplies {
			dir := s.sys("class/power_supply", supply)
			names, err := list(dir)
			if err != nil {
				return err
			}
			for _, name := range names {
				if f, ok := files[name]; ok {
					if v, ok := r.number(filepath.Join(dir, name)); ok {
						b.add(f.family, v/f.unit, supply)
					}
				}
			}
			labels := []string{supply}
			for _, name := range texts {
				text, _ := r.text(filepath.Join(dir, name)) // empty if it is not there
				labels = append(labels, strings.ToValidUTF8(text, "\uFFFD"))
			}
			b.add(info, 1, labels...)
		}
		return nil
	}
}
