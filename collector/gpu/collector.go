package gpu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	retryAbsent = 10 * time.Minute // a driver may be installed later
	retryFailed = time.Minute
)

// Collector reads the GPUs of a machine. It implements prometheus.Collector.
type Collector struct {
	cfg     Config
	lib     Library
	log     *slog.Logger
	metrics *metrics
	host    string
	now     func() time.Time

	families []*family
	events   []string
	event    *prometheus.Desc
	memory   *prometheus.Desc
	busy     *prometheus.Desc

	mu    sync.Mutex // guards what follows; held during a collection
	after time.Time  // when to try again
	said  string     // what the last failure was
}

// New returns a Collector of what lib reads, whose own metrics are in reg. It
// reads nothing yet; Close closes lib.
func New(cfg Config, lib Library, log *slog.Logger, reg prometheus.Registerer) (*Collector, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure GPUs: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("configure GPUs: %w", err)
	}
	c := &Collector{
		cfg: cfg, lib: lib, log: log, metrics: newMetrics(reg), host: host,
		now: time.Now, families: families(), events: clockEvents(),
	}
	labels := []string{"gpu", "UUID", "pci_bus_id", "device", "modelName", "Hostname", "DCGM_FI_DRIVER_VERSION"}
	for _, f := range c.families {
		f.desc = prometheus.NewDesc("DCGM_FI_DEV_"+f.name, f.help, labels, nil)
	}
	c.event = prometheus.NewDesc("vedette_gpu_clock_event_active", "1 if the clocks of the GPU are held back for this reason, 0 if not.",
		slices.Concat(labels, []string{"clock_event"}), nil)
	process := slices.Concat(labels, []string{"pid", "process"})
	c.memory = prometheus.NewDesc("vedette_gpu_process_memory_bytes", "Memory of the GPU that the process uses.", process, nil)
	c.busy = prometheus.NewDesc("vedette_gpu_process_utilization_ratio", "Share of time that an engine of the GPU (sm, memory, encoder, decoder) worked for the process.",
		slices.Concat(process, []string{"engine"}), nil)
	return c, nil
}

// Close closes the library.
func (c *Collector) Close() error { return c.lib.Close() }

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range c.families {
		ch <- f.desc
	}
	ch <- c.event
	ch <- c.memory
	ch <- c.busy
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now().Before(c.after) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.cfg.Timeout)
	defer cancel()
	s, err := c.lib.Read(ctx)
	c.reportLocked(err)
	if err != nil {
		c.metrics.devices.Set(0)
		return
	}
	seen := map[string]bool{}
	for _, d := range s.Devices {
		if seen[d.UUID] || d.UUID == "" {
			continue // no registry takes a GPU twice
		}
		seen[d.UUID] = true
		c.collect(ch, s.Driver, d)
	}
	c.metrics.devices.Set(float64(len(seen)))
}

// reportLocked logs a failure that differs from the last one, and says when to
// try again.
func (c *Collector) reportLocked(err error) {
	switch {
	case err == nil:
		if c.said != "" {
			c.log.Info("GPUs are read again")
		}
		c.said, c.after = "", time.Time{}
		return
	case errors.Is(err, ErrAbsent):
		c.after = c.now().Add(retryAbsent)
		if c.said != err.Error() {
			c.log.Debug("no GPUs", "reason", err)
		}
	default:
		c.metrics.errors.Inc()
		c.after = c.now().Add(retryFailed)
		if c.said != err.Error() {
			c.log.Warn("GPUs are not read", "reason", err)
		}
	}
	c.said = err.Error()
}

func (c *Collector) collect(ch chan<- prometheus.Metric, driver string, d Device) {
	labels := []string{strconv.Itoa(d.Index), d.UUID, d.BusID, "nvidia" + strconv.Itoa(d.Minor), d.Name, c.host, driver}
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "\ufffd")
	}
	for _, f := range c.families {
		v, ok := d.Readings[f.from]
		if f.plus != "" {
			more, has := d.Readings[f.plus]
			v, ok = v+more, ok && has
		}
		if ok {
			ch <- prometheus.MustNewConstMetric(f.desc, f.kind, float64(v)*f.factor, labels...)
		}
	}
	if bits, ok := d.Readings[ClockEvents]; ok {
		for i, name := range c.events {
			ch <- prometheus.MustNewConstMetric(c.event, gauge, float64(bits>>i&1), slices.Concat(labels, []string{name})...)
		}
	}
	c.collectProcesses(ch, labels, d.Processes)
}

func (c *Collector) collectProcesses(ch chan<- prometheus.Metric, labels []string, list []Process) {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Process) int {
		return cmp.Or(cmp.Compare(b.Memory, a.Memory), cmp.Compare(a.PID, b.PID))
	})
	seen := map[uint32]bool{}
	for _, p := range list {
		if seen[p.PID] {
			continue
		}
		if len(seen) >= c.cfg.MaxProcesses {
			if c.cfg.MaxProcesses > 0 {
				c.metrics.skipped.Inc()
			}
			continue
		}
		seen[p.PID] = true
		own := slices.Concat(labels, []string{strconv.FormatUint(uint64(p.PID), 10), strings.ToValidUTF8(p.Name, "\ufffd")})
		ch <- prometheus.MustNewConstMetric(c.memory, gauge, float64(p.Memory), own...)
		for engine, percent := range p.Busy {
			ch <- prometheus.MustNewConstMetric(c.busy, gauge, float64(percent)/100, slices.Concat(own, []string{engine})...)
		}
	}
}
