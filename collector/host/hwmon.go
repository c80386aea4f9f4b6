package host

import (
	"cmp"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// sensorFile are the files of a chip: kind of sensor, number, property.
var sensorFile = regexp.MustCompile(`^(?P<type>[^0-9]+)(?P<id>[0-9]*)?(?:_(?P<property>.+))?$`)

var sensorKinds = []string{
	"vrm", "beep_enable", "update_interval", "in", "cpu", "fan", "pwm", "temp", "curr", "power", "energy", "humidity", "intrusion", "freq",
}

// fileName is what the name of a sensor's file says.
type fileName struct{ kind, id, property string }

type hwmon struct {
	src      *sources
	reader   reader
	chips    *family
	label    *family
	families map[string]*family
	parsed   map[string]fileName // by name of the file; no kind: not a sensor's
}

func openHwmon(s *sources) func(*batch) error {
	h := &hwmon{
		src:      s,
		chips:    gauge("node_hwmon_chip_names", "Annotation metric for human-readable chip names", "chip", "chip_name"),
		label:    gauge("node_hwmon_sensor_label", "Label for given chip and sensor", "chip", "sensor", "label"),
		families: map[string]*family{},
		parsed:   map[string]fileName{},
	}
	return h.collect
}

func (h *hwmon) collect(b *batch) error {
	dirs, err := os.ReadDir(h.src.sys("class/hwmon"))
	if err != nil {
		return absent(err)
	}
	chips, count := make([]string, len(dirs)), map[string]int{}
	for i, d := range dirs {
		chips[i] = h.chipName(h.src.sys("class/hwmon", d.Name()))
		count[chips[i]]++
	}
	var failed error
	for i, d := range dirs {
		dir, chip := h.src.sys("class/hwmon", d.Name()), chips[i]
		if count[chip] > 1 { // a device with several chips
			suffix, _ := h.reader.text(dir + "/name") // which may have none
			chip += "_" + cmp.Or(cleanName(suffix), cleanName(d.Name()))
		}
		if err := h.chip(b, dir, chip); err != nil {
			failed = err
		}
	}
	return failed
}

// chipName returns a name that stays over a restart if there is one.
func (h *hwmon) chipName(dir string) string {
	if device, err := filepath.EvalSymlinks(dir + "/device"); err == nil {
		name, bus := cleanName(filepath.Base(device)), cleanName(filepath.Base(filepath.Dir(device)))
		switch {
		case name != "" && bus != "":
			return bus + "_" + name
		case name != "":
			return name
		}
	}
	if text, err := h.reader.text(dir + "/name"); err == nil && cleanName(text) != "" {
		return cleanName(text)
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return cleanName(filepath.Base(real))
	}
	return cleanName(filepath.Base(dir))
}

// cleanName makes a name fit for a label.
func cleanName(name string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == ':' || r == '_' {
			return r
		}
		return '_'
	}, strings.ToLower(name)), "_")
}

// sensor is what a chip says of one thing it measures.
type sensor struct {
	kind       string
	properties map[string]string // path of the file, by property
}

func (h *hwmon) chip(b *batch, dir, chip string) error {
	sensors := map[string]*sensor{}
	if err := h.find(sensors, dir); err != nil {
		return err
	}
	// Old drivers put their files into the device.
	if err := h.find(sensors, filepath.Join(dir, "device")); err != nil && !os.IsNotExist(err) {
		return err
	}
	if text, err := h.reader.text(dir + "/name"); err == nil {
		if name := cleanName(text); name != "" {
			b.add(h.chips, 1, chip, name)
		}
	}
	for name, s := range sensors {
		label := ""
		if path, ok := s.properties["label"]; ok {
			if text, err := h.reader.text(path); err == nil {
				label = strings.ToValidUTF8(text, "\uFFFD")
				b.add(h.label, 1, chip, name, label)
			}
		}
		for property, path := range s.properties {
			if property == "label" {
				continue
			}
			v, ok := h.reader.number(path)
			if !ok {
				continue // no number, or a sensor that does not answer now
			}
			h.add(b, reading{chip, name, s.kind, property, label}, v)
		}
	}
	return nil
}

func (h *hwmon) find(sensors map[string]*sensor, dir string) error {
	names, err := list(dir)
	for _, name := range names {
		f := h.parse(name)
		if f.kind == "" {
			continue
		}
		key := f.kind + f.id
		if sensors[key] == nil {
			sensors[key] = &sensor{f.kind, map[string]string{}}
		}
		sensors[key].properties[f.property] = filepath.Join(dir, name)
	}
	return err
}

func (h *hwmon) parse(name string) fileName {
	f, ok := h.parsed[name]
	if !ok {
		if m := sensorFile.FindStringSubmatch(name); m != nil && slices.Contains(sensorKinds, m[1]) {
			f = fileName{m[1], m[2], m[3]}
		} else if slices.Contains(sensorKinds, name) {
			f = fileName{kind: name}
		}
		if f.id == "" {
			f.id = "0"
		}
		if len(h.parsed) >= maxNames {
			clear(h.parsed)
		}
		h.parsed[name] = f
	}
	return f
}

// reading says where a value comes from.
type reading struct{ chip, sensor, kind, property, label string }

// add yields a value in the unit that the kernel's documentation gives for it.
func (h *hwmon) add(b *batch, r reading, v float64) {
	name := "node_hwmon_" + r.kind
	element := r.property
	if r.property == "input" {
		r.property = ""
	}
	with := name
	if r.property != "" {
		with = name + "_" + validName(r.property)
	}
	one := func(name, help string, v float64, id string) { b.add(h.family(gauge, name, help), v, r.chip, id) }
	add := func(name, help string, v float64) { one(name, help, v, r.sensor) }
	in := " (" + element + ")"
	switch {
	case r.kind == "vrm":
		add("node_hwmon_voltage_regulator_version", "Hardware voltage regulator", v)
	case r.kind == "update_interval":
		add("node_hwmon_update_interval_seconds", "Hardware monitor update interval", v/milli)
	case r.kind == "beep_enable":
		add("node_hwmon_beep_enabled", "Hardware beep enabled", v)
	case r.property == "alarm":
		add(name+"_alarm", "Hardware sensor alarm status ("+r.kind+")", v)
	case r.property == "fault":
		add(name+"_fault", "Hardware sensor fault status ("+r.kind+")", v)
	case r.property == "beep":
		add(name+"_beep_enabled", "Hardware monitor sensor has beeping enabled", v)
	case (r.kind == "in" || r.kind == "cpu") && element != "":
		add(with+"_volts", "Hardware monitor for voltage"+in, v/milli)
	case r.kind == "temp" && element != "type":
		add(with+"_celsius", "Hardware monitor for temperature"+in, v/milli)
	case r.kind == "curr":
		add(with+"_amps", "Hardware monitor for current"+in, v/milli)
	case r.kind == "energy":
		b.add(h.family(counter, with+"_joule_total", "Hardware monitor for joules used so far"+in), v/micro, r.chip, r.sensor)
	case r.kind == "power" && element == "accuracy":
		add(with, "Hardware monitor power meter accuracy, as a ratio", v/micro)
	case r.kind == "power" && strings.HasPrefix(element, "average_interval"):
		add(with+"_seconds", "Hardware monitor power usage update interval"+in, v/milli)
	case r.kind == "power":
		add(with+"_watt", "Hardware monitor for power usage in watts"+in, v/micro)
	case r.kind == "humidity":
		add(with, "Hardware monitor for humidity, as a ratio (multiply with 100.0 to get the humidity as a percentage)"+in, v/micro)
	case r.kind == "fan" && slices.Contains([]string{"input", "min", "max", "target"}, element):
		add(with+"_rpm", "Hardware monitor for fan revolutions per minute"+in, v)
	case r.kind == "freq" && r.label == "": // nobody knows which clock it is
	case r.kind == "freq":
		one("node_hwmon_freq_freq_mhz", "Hardware monitor for GPU frequency in MHz", v/micro, r.label)
	default:
		add(with, "Hardware monitor "+r.kind+" element "+element, v)
	}
}

func (h *hwmon) family(make func(string, string, ...string) *family, name, help string) *family {
	f := h.families[name]
	if f == nil {
		if len(h.families) >= maxNames {
			clear(h.families)
		}
		f = make(name, help, "chip", "sensor")
		h.families[name] = f
	}
	return f
}
