package host

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
)

// userHZ is the unit of the times in /proc/stat, the same on every architecture.
const userHZ = 100

// maxStepBack is how far the idle time of a processor may fall without being
// taken for a new processor; the kernel's idle and iowait do fall at times.
const maxStepBack = 3.0

var cpuModes = [...]string{"user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"}

// idle is the index in cpuModes.
const idle = 3

// cpuTimes are the times of a processor in seconds: cpuModes, then guest and
// guest_nice.
type cpuTimes [len(cpuModes) + 2]float64

type cpu struct {
	src        *sources
	reader     reader
	last       map[string]cpuTimes
	places     map[string]place
	seconds    *family
	guest      *family
	core, pack *family
	isolated   *family
}

// place is where a processor sits.
type place struct{ core, pack string }

func openCPU(s *sources) func(*batch) error {
	c := &cpu{
		src: s, last: map[string]cpuTimes{}, places: map[string]place{},
		seconds:  counter("node_cpu_seconds_total", "Seconds the CPUs spent in each mode.", "cpu", "mode"),
		guest:    counter("node_cpu_guest_seconds_total", "Seconds the CPUs spent in guests (VMs) for each mode.", "cpu", "mode"),
		core:     counter("node_cpu_core_throttles_total", "Number of times this CPU core has been throttled.", "package", "core"),
		pack:     counter("node_cpu_package_throttles_total", "Number of times this CPU package has been throttled.", "package"),
		isolated: gauge("node_cpu_isolated", "Whether each core is isolated, information from /sys/devices/system/cpu/isolated.", "cpu"),
	}
	return c.collect
}

func (c *cpu) collect(b *batch) error {
	data, err := c.src.stat(b.round)
	if err != nil {
		return err
	}
	now := map[string]cpuTimes{}
	for line := range lines(data) {
		name, rest, _ := bytes.Cut(line, []byte{' '})
		n, ok := numbered(string(name), "cpu")
		if !ok {
			continue
		}
		t, ok := parseTimes(rest)
		if !ok {
			return errors.New("parse stat: line of " + strconv.Quote(string(name)) + ": want numbers")
		}
		t = steady(c.last[n], t)
		now[n] = t
		for i, mode := range cpuModes {
			b.add(c.seconds, t[i], n, mode)
		}
		b.add(c.guest, t[len(cpuModes)], n, "user")
		b.add(c.guest, t[len(cpuModes)+1], n, "nice")
	}
	c.last = now
	c.throttles(b, now)
	c.isolation(b)
	return nil
}

func parseTimes(line []byte) (t cpuTimes, ok bool) {
	var room [16][]byte
	for i, f := range fields(room[:0], line) {
		if i == len(t) {
			break
		}
		v, ok := parseNumber(f)
		if !ok {
			return t, false
		}
		t[i] = v / userHZ
	}
	return t, true
}

// steady keeps times from falling, unless the processor is a new one.
func steady(last, now cpuTimes) cpuTimes {
	if last[idle]-now[idle] >= maxStepBack {
		return now
	}
	for i := range now {
		now[i] = max(now[i], last[i])
	}
	return now
}

// throttles reads what some processors of Intel count.
func (c *cpu) throttles(b *batch, cpus map[string]cpuTimes) {
	for n := range cpus {
		dir := c.src.sys("devices/system/cpu/cpu" + n)
		core, ok := c.reader.number(dir + "/thermal_throttle/core_throttle_count")
		pack, packOK := c.reader.number(dir + "/thermal_throttle/package_throttle_count")
		if !ok && !packOK {
			continue
		}
		at, known := c.places[n]
		if !known {
			at = place{c.id(dir + "/topology/core_id"), c.id(dir + "/topology/physical_package_id")}
			c.places[n] = at
		}
		if at.pack == "" {
			continue
		}
		if ok && at.core != "" {
			b.add(c.core, core, at.pack, at.core)
		}
		if packOK {
			b.add(c.pack, pack, at.pack)
		}
	}
}

func (c *cpu) id(path string) string {
	text, err := c.reader.text(path)
	if _, bad := strconv.ParseUint(text, 10, 32); err != nil || bad != nil {
		return ""
	}
	return text
}

func (c *cpu) isolation(b *batch) {
	text, err := c.reader.text(c.src.sys("devices/system/cpu/isolated"))
	if err != nil {
		return
	}
	for _, n := range cpuList(text) {
		b.add(c.isolated, 1, strconv.Itoa(n))
	}
}

// maxCPUs is more than the kernel knows of.
const maxCPUs = 1 << 14

// cpuList reads a list of processors such as 1,3-5.
func cpuList(text string) []int {
	var out []int
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err != nil || err2 != nil || from < 0 || to >= maxCPUs {
			continue
		}
		for ; from <= to && len(out) < maxCPUs; from++ {
			out = append(out, from)
		}
	}
	return out
}
