package container

import (
	"math"
	"path/filepath"
	"slices"
	"strings"
)

const (
	clockTicks = 100 // a second: USER_HZ is the same on all that Linux runs on but Alpha
	unlimited  = uint64(1) << 62
)

// cpuStats is the use of processors, in seconds.
type cpuStats struct {
	total, user, system float64
	periods, throttled  uint64
	throttledSeconds    float64
}

// spec is what a cgroup may use.
type spec struct {
	hasCPU                bool
	quota, period, shares uint64
	hasMemory             bool
	limit, swapLimit, low uint64
}

type memoryStats struct {
	usage, peak, workingSet, rss, cache, swap uint64
	mapped, kernel, active, inactive          uint64
	hits, oomKills                            uint64
	hasPeak, hasKernel, hasOOM                bool // whether the kernel counts it
	faults, majorFaults                       uint64
	allFaults, allMajorFaults                 uint64
}

// cpu reads the use of processors; false is a cgroup that is not accounted for.
func (h hierarchies) cpu(g *cgroup) (cpuStats, bool) {
	var s cpuStats
	switch {
	case h.onV1("cpuacct", g.path):
		ns, ok := readUint(h.file("cpuacct", g.path, "cpuacct.usage"))
		if !ok {
			return s, false
		}
		s.total = float64(ns) / 1e9
		if ticks, ok := readPairs(h.file("cpuacct", g.path, "cpuacct.stat")); ok {
			s.user, s.system = float64(ticks["user"])/clockTicks, float64(ticks["system"])/clockTicks
		}
	case h.unified != "":
		stat, ok := readPairs(filepath.Join(h.unified, g.path, "cpu.stat"))
		if !ok {
			return s, false
		}
		s.total = float64(stat["usage_usec"]) / 1e6
		s.user, s.system = float64(stat["user_usec"])/1e6, float64(stat["system_usec"])/1e6
		s.throttledBy(stat)
	default:
		return s, false
	}
	if stat, ok := readPairs(h.file("cpu", g.path, "cpu.stat")); ok {
		s.throttledBy(stat)
	}
	if s.periods == 0 && g.limited != "" {
		stat, ok := readPairs(h.file("cpu", g.limited, "cpu.stat"))
		if !ok && h.unified != "" {
			stat, _ = readPairs(filepath.Join(h.unified, g.limited, "cpu.stat"))
		}
		s.throttledBy(stat)
	}
	return s, true
}

// throttledBy takes from cpu.stat, of either version, how often a cgroup used up what it
// has of a period.
func (s *cpuStats) throttledBy(stat map[string]uint64) {
	s.periods, s.throttled = stat["nr_periods"], stat["nr_throttled"]
	s.throttledSeconds = float64(stat["throttled_usec"])/1e6 + float64(stat["throttled_time"])/1e9
}

// spec reads the limits of a cgroup.
func (h hierarchies) spec(g *cgroup) spec {
	s := h.specAt(g.path)
	if g.limited == "" {
		return s
	}
	inside := h.specAt(g.limited)
	if s.quota == 0 && inside.quota != 0 {
		s.quota, s.period = inside.quota, inside.period
	}
	for _, v := range []struct{ to, from *uint64 }{{&s.limit, &inside.limit}, {&s.swapLimit, &inside.swapLimit}, {&s.low, &inside.low}} {
		if *v.to == 0 {
			*v.to = *v.from
		}
	}
	return s
}

func (h hierarchies) specAt(path string) spec {
	var s spec
	v2 := func(name string) string { return filepath.Join(h.unified, path, name) }
	if h.onV1("cpu", path) {
		s.shares, s.hasCPU = readUint(h.file("cpu", path, "cpu.shares"))
		s.period, _ = readUint(h.file("cpu", path, "cpu.cfs_period_us"))
		s.quota, _ = readUint(h.file("cpu", path, "cpu.cfs_quota_us")) // -1 is none
	} else if h.unified != "" {
		if weight, ok := readUint(v2("cpu.weight")); ok && weight > 0 {
			s.hasCPU = true
			s.shares = 2 + (min(weight, 10000)-1)*262142/9999
		}
		if data, ok := readFile(v2("cpu.max")); ok {
			s.hasCPU = true
			quota, period, _ := strings.Cut(strings.TrimSpace(string(data)), " ")
			if quota != "max" {
				s.quota, _ = parseUint(quota)
			}
			s.period, _ = parseUint(period)
		}
	}
	if h.onV1("memory", path) {
		s.limit, s.hasMemory = readUint(h.file("memory", path, "memory.limit_in_bytes"))
		s.swapLimit, _ = readUint(h.file("memory", path, "memory.memsw.limit_in_bytes"))
		s.low, _ = readUint(h.file("memory", path, "memory.soft_limit_in_bytes"))
	} else if h.unified != "" {
		s.limit, s.hasMemory = readUint(v2("memory.max"))
		s.swapLimit, _ = readUint(v2("memory.swap.max"))
		s.low, _ = readUint(v2("memory.min"))
	}
	for _, v := range []*uint64{&s.limit, &s.swapLimit, &s.low} {
		if *v > unlimited {
			*v = 0
		}
	}
	return s
}

// limitedBy are the cgroups whose limits are those of a cgroup; version 1 counts for
// each how often it was hit.
func (g *cgroup) limitedBy() []string {
	if g.limited == "" {
		return []string{g.path}
	}
	return []string{g.path, g.limited}
}

// memory reads the use of memory; false is a cgroup that is not accounted for.
func (c *Collector) memory(h hierarchies, g *cgroup) (memoryStats, bool) {
	switch {
	case h.onV1("memory", g.path):
		return h.memoryV1(g)
	case h.unified != "":
		return c.memoryV2(h, g)
	}
	return memoryStats{}, false
}

func (h hierarchies) memoryV1(g *cgroup) (memoryStats, bool) {
	var s memoryStats
	file := func(name string) string { return h.file("memory", g.path, name) }
	usage, ok := readUint(file("memory.usage_in_bytes"))
	stat, hasStat := readPairs(file("memory.stat"))
	if !ok || !hasStat {
		return s, false
	}
	s.usage = usage
	s.peak, s.hasPeak = readUint(file("memory.max_usage_in_bytes"))
	for _, path := range g.limitedBy() {
		hits, _ := readUint(h.file("memory", path, "memory.failcnt"))
		s.hits += hits
		if oom, ok := readPairs(h.file("memory", path, "memory.oom_control")); ok {
			kills, counted := oom["oom_kill"] // from Linux 4.13 on
			s.oomKills, s.hasOOM = s.oomKills+kills, counted
		}
	}
	s.kernel, s.hasKernel = readUint(file("memory.kmem.usage_in_bytes"))
	prefix := ""
	if tree, ok := readUint(file("memory.use_hierarchy")); ok && tree == 1 {
		prefix = "total_"
	}
	s.cache, s.rss, s.swap, s.mapped = stat[prefix+"cache"], stat[prefix+"rss"], stat[prefix+"swap"], stat[prefix+"mapped_file"]
	s.active, s.inactive = stat["total_active_file"], stat["total_inactive_file"]
	s.faults, s.majorFaults = stat["pgfault"], stat["pgmajfault"]
	s.allFaults, s.allMajorFaults = stat["total_pgfault"], stat["total_pgmajfault"]
	s.workingSet = s.usage - min(s.usage, s.inactive)
	return s, true
}

func (c *Collector) memoryV2(h hierarchies, g *cgroup) (memoryStats, bool) {
	var s memoryStats
	file := func(name string) string { return filepath.Join(h.unified, g.path, name) }
	stat, ok := readPairs(file("memory.stat"))
	if !ok {
		return s, false
	}
	if g.kind == kindRoot { // has no memory.current
		info := c.proc.meminfo()
		s.usage = info["MemTotal"] - info["MemFree"]
		s.swap = info["SwapTotal"] - info["SwapFree"]
	} else if s.usage, ok = readUint(file("memory.current")); !ok {
		return s, false
	} else {
		s.swap, _ = readUint(file("memory.swap.current"))
	}
	s.peak, s.hasPeak = readUint(file("memory.peak")) // from Linux 5.19 on
	s.kernel, s.hasKernel = stat["kernel"]            // from 5.18 on
	s.cache, s.rss, s.mapped = stat["file"], stat["anon"], stat["file_mapped"]
	s.active, s.inactive = stat["active_file"], stat["inactive_file"]
	s.faults, s.majorFaults = stat["pgfault"], stat["pgmajfault"]
	s.allFaults, s.allMajorFaults = s.faults, s.majorFaults
	if events, ok := readPairs(file("memory.events")); ok {
		s.hits = events["max"]
		s.oomKills, s.hasOOM = events["oom_kill"]
	}
	s.workingSet = s.usage - min(s.usage, s.inactive)
	return s, true
}

// Files of the blkio controller. Of each device counts the first that has seen
// anything of it: schedulers (BFQ, CFQ) count for the devices that they have, and
// throttle, by the kernel's version, for all or for those that are throttled.
var blkioFiles = [2][]string{
	{"blkio.bfq.io_service_bytes_recursive", "blkio.io_service_bytes_recursive", "blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"},
	{"blkio.bfq.io_serviced_recursive", "blkio.io_serviced_recursive", "blkio.throttle.io_serviced_recursive", "blkio.throttle.io_serviced"},
}

// io reads what a cgroup did on block devices, in bytes and in operations.
func (h hierarchies) io(g *cgroup) (size, count []diskIO) {
	if !h.onV1("blkio", g.path) {
		if h.unified == "" {
			return nil, nil
		}
		data, _ := readFile(filepath.Join(h.unified, g.path, "io.stat"))
		return parseIOStat(data)
	}
	var found [2][]diskIO
	for i, names := range blkioFiles {
		for _, name := range names {
			data, _ := readFile(h.file("blkio", g.path, name))
			found[i] = addDisks(found[i], parseBlkio(data))
		}
	}
	return found[0], found[1]
}

// addDisks adds the devices of more that list does not have, or as idle.
func addDisks(list, more []diskIO) []diskIO {
	for _, d := range more {
		i := slices.IndexFunc(list, func(o diskIO) bool { return o.device == d.device })
		switch {
		case i < 0:
			list = append(list, d)
		case list[i].idle():
			list[i] = d
		}
	}
	return list
}

// tasks reads the number of threads and its limit, 0 for none.
func (h hierarchies) tasks(g *cgroup) (current, limit uint64, ok bool) {
	dir := ""
	if h.onV1("pids", g.path) {
		dir = filepath.Join(h.v1["pids"], g.path)
	} else if h.unified != "" {
		dir = filepath.Join(h.unified, g.path)
	}
	current, ok = readUint(filepath.Join(dir, "pids.current"))
	limit, _ = readUint(filepath.Join(dir, "pids.max"))
	if limit == math.MaxUint64 {
		limit = 0
	}
	return current, limit, ok && dir != ""
}

// pressures reads how long tasks waited for the processor, memory and I/O, which
// cgroup v2 alone knows.
func (h hierarchies) pressures(g *cgroup) (p [3]pressure, ok [3]bool) {
	if h.unified == "" {
		return p, ok
	}
	for i, name := range []string{"cpu.pressure", "memory.pressure", "io.pressure"} {
		if data, there := readFile(filepath.Join(h.unified, g.path, name)); there && len(data) > 0 {
			p[i], ok[i] = parsePressure(data), true
		}
	}
	return p, ok
}
