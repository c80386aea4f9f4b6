package container

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ebpf/identity"
)

// Collector reads the cgroups of a host. It implements prometheus.Collector.
type Collector struct {
	cfg        Config
	log        *slog.Logger
	metrics    *metrics
	now        func() time.Time
	cgroupRoot string
	proc       procFS
	kinds      [numKinds]bool
	sources    []source

	infos    [numFamilies]familyInfo
	descs    [numFamilies]*prometheus.Desc
	machines []*prometheus.Desc
	broken   *prometheus.Desc

	names    atomic.Pointer[catalog]
	services *services

	mu       sync.Mutex // guards what follows
	last     snapshot
	complain bool // a failure has been logged since the last success
}

// New returns a Collector whose own metrics are in reg. It reads nothing yet.
func New(cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Collector, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure containers: %w", err)
	}
	c := &Collector{
		cfg:        cfg,
		log:        log,
		metrics:    newMetrics(reg),
		now:        time.Now,
		cgroupRoot: filepath.Join(cfg.HostRoot, "sys/fs/cgroup"),
		proc:       procFS(filepath.Join(cfg.HostRoot, "proc")),
		infos:      families(),
	}
	for k := kindRoot; k < numKinds; k++ {
		c.kinds[k] = slices.Contains(cfg.Kinds, k.listedBy())
	}
	c.sources = newSources(cfg)
	c.names.Store(&catalog{})
	c.services = newServices(c)
	labels := []string{"id", "name", "image", "container", "pod", "namespace"}
	for _, l := range cfg.Labels {
		labels = append(labels, labelName(l))
	}
	for f, info := range c.infos {
		c.descs[f] = prometheus.NewDesc(info.name, info.help, slices.Concat(labels, info.extra), nil)
	}
	for _, info := range machineInfo() {
		c.machines = append(c.machines, prometheus.NewDesc(info.name, info.help, []string{"machine_id", "system_uuid", "boot_id"}, nil))
	}
	c.broken = prometheus.NewDesc("container_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise", nil, nil)
	return c, nil
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
	for _, d := range c.machines {
		ch <- d
	}
	ch <- c.broken
}

// Collect implements prometheus.Collector: it reads the kernel's files.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	c.collectMachine(ch)
	s, err := c.scan()
	c.report(err)
	if err != nil {
		ch <- prometheus.MustNewConstMetric(c.broken, gauge, 1)
		return
	}
	ch <- prometheus.MustNewConstMetric(c.broken, gauge, 0)
	names := c.names.Load()
	devices := c.proc.deviceNames()
	networks := c.networks(s)
	named := 0
	for _, g := range s.list {
		meta := names.of(g)
		if g.kind == kindContainer && meta.known {
			named++
		}
		e := emitter{c: c, ch: ch, labels: c.labels(g, meta)}
		limits := s.h.spec(g)
		c.collectSpec(e, g, limits)
		c.collectCPU(e, s.h, g, limits.quota != 0)
		c.collectMemory(e, s.h, g)
		c.collectIO(e, s.h, g, devices)
		c.collectTasks(e, s.h, g)
		c.collectPressure(e, s.h, g)
		e.network(networks[g])
	}
	c.metrics.named.Set(float64(named))
}

// report logs the first of several failures in a row.
func (c *Collector) report(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.complain = false
		return
	}
	c.metrics.errors.WithLabelValues("scan").Inc()
	if !c.complain {
		c.complain = true
		c.log.Warn("no container metrics", "reason", err)
	}
}

// labels are the values of the labels that all series of a cgroup carry.
func (c *Collector) labels(g *cgroup, m meta) []string {
	values := make([]string, 0, 6+len(c.cfg.Labels)+4)
	values = append(values, g.path, cmp.Or(m.Name, g.id), m.Image, m.Container, m.Pod, m.Namespace)
	for _, l := range c.cfg.Labels {
		values = append(values, m.Labels[l])
	}
	for i, v := range values {
		values[i] = strings.ToValidUTF8(v, "\ufffd")
	}
	return values
}

// emitter sends the samples of one cgroup.
type emitter struct {
	c      *Collector
	ch     chan<- prometheus.Metric
	labels []string
}

func (e emitter) send(f family, v float64, extra ...string) {
	e.ch <- prometheus.MustNewConstMetric(e.c.descs[f], e.c.infos[f].kind, v, slices.Concat(e.labels, extra)...)
}

func (c *Collector) collectSpec(e emitter, g *cgroup, s spec) {
	e.send(lastSeen, float64(c.now().Unix()))
	e.send(startTime, float64(g.started))
	if s.hasCPU {
		e.send(specPeriod, float64(s.period))
		e.send(specShares, float64(s.shares))
		if s.quota != 0 {
			e.send(specQuota, float64(s.quota))
		}
	}
	if s.hasMemory {
		e.send(specMemory, float64(s.limit))
		e.send(specSwap, float64(s.swapLimit))
		e.send(specReservation, float64(s.low))
	}
}

func (c *Collector) collectCPU(e emitter, h hierarchies, g *cgroup, hasQuota bool) {
	s, ok := h.cpu(g)
	if !ok {
		return
	}
	e.send(cpuUsage, s.total, "total")
	e.send(cpuUser, s.user)
	e.send(cpuSystem, s.system)
	if hasQuota {
		e.send(cfsPeriods, float64(s.periods))
		e.send(cfsThrottled, float64(s.throttled))
		e.send(cfsThrottledSeconds, s.throttledSeconds)
	}
}

func (c *Collector) collectMemory(e emitter, h hierarchies, g *cgroup) {
	s, ok := c.memory(h, g)
	if !ok {
		return
	}
	for _, v := range []struct {
		f family
		v uint64
	}{
		{memUsage, s.usage}, {memWorkingSet, s.workingSet}, {memRSS, s.rss}, {memCache, s.cache}, {memSwap, s.swap},
		{memMapped, s.mapped}, {memActive, s.active}, {memInactive, s.inactive}, {memFailcnt, s.hits},
	} {
		e.send(v.f, float64(v.v))
	}
	if s.hasPeak {
		e.send(memMax, float64(s.peak))
	}
	if s.hasKernel {
		e.send(memKernel, float64(s.kernel))
	}
	e.send(memFailures, float64(s.faults), "pgfault", "container")
	e.send(memFailures, float64(s.majorFaults), "pgmajfault", "container")
	e.send(memFailures, float64(s.allFaults), "pgfault", "hierarchy")
	e.send(memFailures, float64(s.allMajorFaults), "pgmajfault", "hierarchy")
	if s.hasOOM {
		e.send(oomEvents, float64(s.oomKills))
	}
}

func (c *Collector) collectIO(e emitter, h hierarchies, g *cgroup, names map[[2]uint64]string) {
	size, count := h.io(g)
	name := func(d diskIO) (name, major, minor string) {
		major, minor = strconv.FormatUint(d.device[0], 10), strconv.FormatUint(d.device[1], 10)
		return cmp.Or(names[d.device], major+":"+minor), major, minor
	}
	for _, d := range size {
		device, major, minor := name(d)
		e.send(fsReadBytes, float64(d.operations["Read"]), device)
		e.send(fsWriteBytes, float64(d.operations["Write"]), device)
		for operation, v := range d.operations {
			e.send(blkioUsage, float64(v), device, major, minor, operation)
		}
	}
	for _, d := range count {
		device, _, _ := name(d)
		e.send(fsReads, float64(d.operations["Read"]), device)
		e.send(fsWrites, float64(d.operations["Write"]), device)
	}
}

func (c *Collector) collectTasks(e emitter, h hierarchies, g *cgroup) {
	pids := c.pids(h, g)
	e.send(processes, float64(len(pids)))
	if current, limit, ok := h.tasks(g); ok {
		e.send(threads, float64(current))
		e.send(threadsMax, float64(limit))
	}
	if g.kind == kindContainer || g.kind == kindService {
		open := 0
		for _, pid := range pids {
			open += c.proc.descriptors(pid)
		}
		e.send(descriptors, float64(open))
	}
}

func (c *Collector) collectPressure(e emitter, h hierarchies, g *cgroup) {
	p, ok := h.pressures(g)
	for i, f := range [3][2]family{{cpuWaiting, cpuStalled}, {memoryWaiting, memoryStalled}, {ioWaiting, ioStalled}} {
		if ok[i] {
			e.send(f[0], float64(p[i].some)/1e6)
			e.send(f[1], float64(p[i].full)/1e6)
		}
	}
}

func (e emitter) network(devices []netDevice) {
	rx := [4]family{rxBytes, rxPackets, rxErrors, rxDropped}
	tx := [4]family{txBytes, txPackets, txErrors, txDropped}
	for _, d := range devices {
		for i := range rx {
			e.send(rx[i], float64(d.rx[i]), d.name)
			e.send(tx[i], float64(d.tx[i]), d.name)
		}
	}
}

// networks reads the interfaces of every network namespace once: the host's for
// the root, others for the oldest container in them, which in a pod is the one
// that holds the namespace open.
func (c *Collector) networks(s snapshot) map[*cgroup][]netDevice {
	found := map[*cgroup][]netDevice{}
	host, err := c.proc.hostNetns()
	if err != nil {
		c.metrics.errors.WithLabelValues("network").Inc()
		return found
	}
	containers := slices.DeleteFunc(slices.Clone(s.list), func(g *cgroup) bool { return g.kind != kindContainer })
	slices.SortStableFunc(containers, func(a, b *cgroup) int { return cmp.Compare(a.started, b.started) })
	seen := map[string]bool{host: true}
	for _, g := range s.list {
		if g.kind == kindRoot {
			found[g], _ = c.proc.netDevices(1)
		}
	}
	for _, g := range containers {
		for _, pid := range c.pids(s.h, g) {
			ns, err := c.proc.netns(pid)
			if err != nil {
				continue // gone; another one may be there
			}
			if !seen[ns] {
				if devices, ok := c.proc.netDevices(pid); ok {
					seen[ns] = true
					found[g] = devices
				}
			}
			break
		}
	}
	return found
}

func (c *Collector) collectMachine(ch chan<- prometheus.Metric) {
	logical, cores, sockets := c.proc.cpus()
	memory := c.proc.meminfo()
	if logical == 0 || memory["MemTotal"] == 0 {
		return
	}
	text := func(path string) string {
		data, _ := readFile(path)
		return strings.ToValidUTF8(strings.TrimSpace(string(data)), "\ufffd")
	}
	root := c.cfg.HostRoot
	labels := []string{
		text(filepath.Join(root, "etc/machine-id")),
		text(filepath.Join(root, "sys/class/dmi/id/product_uuid")),
		text(c.proc.path("sys/kernel/random/boot_id")),
	}
	values := []float64{float64(logical), float64(cores), float64(sockets), float64(memory["MemTotal"]), float64(memory["SwapTotal"])}
	for i, v := range values {
		ch <- prometheus.MustNewConstMetric(c.machines[i], gauge, v, labels...)
	}
}

// Names says what engines and the kubelet call a container; see
// identity.Directory. It knows what was there when Run last asked.
func (c *Collector) Names(containerID, podUID string) identity.Names {
	m := c.names.Load().find(containerID, podUID)
	n := identity.Names{Container: m.Container, Pod: m.Pod, PodNamespace: m.Namespace, Workload: m.Workload, Service: m.Service}
	if n.Pod == "" {
		n.Container = m.Name
	}
	return n
}

// Run keeps the names of containers and of their services up to date until ctx ends.
func (c *Collector) Run(ctx context.Context) error {
	named := make(chan struct{})
	go func() {
		defer close(named)
		c.nameServices(ctx)
	}()
	defer func() {
		select {
		case <-named:
		case <-time.After(namePatience):
		}
	}()
	e := enricher{c: c}
	ticker := time.NewTicker(c.cfg.RescanInterval)
	defer ticker.Stop()
	for {
		if s, err := c.scan(); err != nil {
			c.report(err)
		} else {
			e.refresh(ctx, s)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
