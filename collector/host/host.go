package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Options are what a Host is made of.
type Options struct {
	Config Config

	// Logger is told when a part begins or ceases to fail.
	Logger *slog.Logger

	// Registerer takes the Host's own metrics; nil if they are not wanted. The Host
	// itself is for the caller to register.
	Registerer prometheus.Registerer
}

// Host measures the machine; it is a prometheus.Collector.
type Host struct {
	timeout time.Duration
	log     *slog.Logger
	metrics *metrics

	duration, success *prometheus.Desc

	// mu lets one collection run at a time.
	mu    sync.Mutex
	round uint64
	parts []*running
}

// running is a part that is collected.
type running struct {
	name    string
	collect collectFunc
	busy    atomic.Bool // its goroutine is there
	size    int         // how many samples it yielded last
	failing string      // why it failed last
}

// result is what a part had to say in one collection.
type result struct {
	part   *running
	batch  *batch
	took   time.Duration
	err    error
	reason string
}

// New returns a Host; it opens nothing and starts nothing.
func New(o Options) (*Host, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, fmt.Errorf("configure host metrics: %w", err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Host{
		timeout:  o.Config.Timeout,
		log:      o.Logger,
		metrics:  newMetrics(o.Registerer),
		duration: prometheus.NewDesc("node_scrape_collector_duration_seconds", "node_exporter: Duration of a collector scrape.", []string{"collector"}, nil),
		success:  prometheus.NewDesc("node_scrape_collector_success", "node_exporter: Whether a collector succeeded.", []string{"collector"}, nil),
	}
	src := &sources{Config: o.Config, rounds: &shared{}}
	for _, p := range parts {
		if o.Config.enabled(p) {
			h.parts = append(h.parts, &running{name: p.name, collect: p.open(src, h.metrics)})
		}
	}
	return h, nil
}

// Describe implements prometheus.Collector. It describes nothing, for what comes
// depends on the machine: to a registry the Host is an unchecked collector.
func (h *Host) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector. It returns within the timeout.
func (h *Host) Collect(ch chan<- prometheus.Metric) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.round++
	round := h.round // for those who are late
	ctx, cancel := context.WithTimeout(context.Background(), h.timeout)
	defer cancel()
	began := time.Now()
	results := make(chan result, len(h.parts)) // so that nobody who is late blocks
	waiting := map[*running]bool{}
	for _, p := range h.parts {
		if p.busy.CompareAndSwap(false, true) {
			waiting[p] = true
			go func() { results <- p.run(ctx, round) }()
			continue
		}
		h.report(ch, result{part: p, err: errors.New("it has not returned from an earlier collection"), reason: "timeout"})
	}
	var text *batch
	taken := map[string]*family{}
	for len(waiting) > 0 {
		select {
		case r := <-results:
			delete(waiting, r.part)
			h.report(ch, r)
			r.part.size = len(r.batch.samples)
			if len(r.batch.other) > 0 {
				text = r.batch
			}
			for i := range r.batch.samples {
				ch <- &r.batch.samples[i]
			}
			for _, f := range r.batch.touched {
				taken[f.name] = f
			}
		case <-ctx.Done():
			for p := range waiting {
				h.report(ch, result{part: p, took: time.Since(began), err: fmt.Errorf("no answer within %s", h.timeout), reason: "timeout"})
			}
			clear(waiting)
		}
	}
	if text != nil {
		h.metrics.refused.Add(float64(text.offer(ch, taken)))
	}
}

// run collects the part.
func (p *running) run(ctx context.Context, round uint64) (r result) {
	defer p.busy.Store(false)
	began := time.Now()
	r = result{part: p, batch: &batch{round: round, samples: make([]sample, 0, p.size+p.size/8)}}
	defer func() {
		r.took = time.Since(began)
		if v := recover(); v != nil {
			r.err, r.reason = fmt.Errorf("panic: %v", v), "panic"
		}
	}()
	r.err = p.collect(ctx, r.batch)
	if err := r.batch.finish(); err != nil && r.err == nil {
		r.err = err
	}
	r.reason = "error"
	return r
}

// report yields how a part fared, counts it, and logs it if that is news.
func (h *Host) report(ch chan<- prometheus.Metric, r result) {
	ch <- prometheus.MustNewConstMetric(h.duration, prometheus.GaugeValue, r.took.Seconds(), r.part.name)
	var partial *partialError
	success := r.err == nil || errors.As(r.err, &partial)
	ch <- prometheus.MustNewConstMetric(h.success, prometheus.GaugeValue, truth(success), r.part.name)
	now := ""
	switch {
	case r.err == nil:
	case errors.Is(r.err, errNoData):
		now = errNoData.Error()
	default:
		now = strings.ToValidUTF8(r.err.Error(), "\uFFFD")
		h.metrics.failures.WithLabelValues(r.part.name, r.reason).Inc()
	}
	if now == r.part.failing {
		return
	}
	r.part.failing = now
	switch {
	case r.err == nil:
		h.log.Info("host metrics are collected again", "part", r.part.name)
	case errors.Is(r.err, errNoData):
		h.log.Debug("host metrics are not collected", "part", r.part.name, "err", r.err)
	default:
		h.log.Warn("host metrics are not collected", "part", r.part.name, "err", r.err)
	}
}
