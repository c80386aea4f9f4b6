package mesos

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	maxAnswer  = 64 << 20
	atOnce     = 16 // requests under way
	maxTargets = 10_000
)

// Collector asks masters and agents. It implements prometheus.Collector.
type Collector struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	client  *http.Client
	master  []*family
	agent   []*family
	stats   []*statistic

	mu      sync.Mutex      // guards failing
	failing map[string]bool // URLs whose last answer was none
}

// New returns a Collector whose own metrics are in reg. It asks nobody yet.
func New(cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Collector, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure mesos: %w", err)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: cfg.InsecureSkipVerify}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("configure mesos: ca_file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("configure mesos: ca_file: got no certificate in %s", cfg.CAFile)
		}
	}
	return &Collector{
		cfg:     cfg,
		log:     log,
		metrics: newMetrics(reg),
		client:  &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment}},
		master:  masterFamilies(),
		agent:   agentFamilies(),
		stats:   statistics(),
		failing: map[string]bool{},
	}, nil
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, list := range [][]*family{c.master, c.agent} {
		for _, f := range list {
			ch <- f.desc
		}
	}
	for _, s := range c.stats {
		ch <- s.desc
	}
}

// Collect implements prometheus.Collector: it asks all masters and agents at
// once.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), c.cfg.Timeout)
	defer cancel()
	agents := c.agents(ctx)
	c.metrics.targets.WithLabelValues("master").Set(float64(len(c.cfg.Masters)))
	c.metrics.targets.WithLabelValues("agent").Set(float64(len(agents)))

	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	each := func(urls []string, ask func(base, instance string)) {
		for _, base := range urls {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				ask(base, hostOf(base))
			})
		}
	}
	each(c.cfg.Masters, func(base, instance string) { c.snapshot(ctx, ch, c.master, base, instance) })
	each(agents, func(base, instance string) { c.snapshot(ctx, ch, c.agent, base, instance) })
	each(agents, func(base, instance string) { c.statistics(ctx, ch, base, instance) })
	wg.Wait()
}

func hostOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return base
	}
	return u.Host
}

// agents are those that are configured and those that the first master to answer
// knows.
func (c *Collector) agents(ctx context.Context) []string {
	list := append([]string(nil), c.cfg.Agents...)
	if !c.cfg.DiscoverAgents {
		return list
	}
	seen := map[string]bool{}
	for _, a := range list {
		seen[hostOf(a)] = true
	}
	for _, master := range c.cfg.Masters {
		address := strings.TrimSuffix(master, "/") + "/slaves"
		data, ok := c.get(ctx, "slaves", address)
		if !ok {
			continue
		}
		hosts, err := decodeAgents(data)
		if err != nil {
			c.fail("slaves", address, err)
			continue
		}
		c.recovered(address)
		scheme, _, _ := strings.Cut(master, "://")
		for _, h := range hosts[:min(len(hosts), maxTargets)] {
			if !seen[h] {
				list = append(list, scheme+"://"+h)
			}
		}
		break
	}
	return list
}

func (c *Collector) snapshot(ctx context.Context, ch chan<- prometheus.Metric, families []*family, base, instance string) {
	address := strings.TrimSuffix(base, "/") + "/metrics/snapshot"
	data, ok := c.get(ctx, "snapshot", address)
	if !ok {
		return
	}
	values, err := decodeSnapshot(data)
	if err != nil {
		c.fail("snapshot", address, err)
		return
	}
	c.recovered(address)
	var o outcome
	o.addSnapshot(families, values, instance, c.cfg.MaxExecutors)
	c.send(ch, o)
}

func (c *Collector) statistics(ctx context.Context, ch chan<- prometheus.Metric, base, instance string) {
	address := strings.TrimSuffix(base, "/") + "/monitor/statistics"
	data, ok := c.get(ctx, "statistics", address)
	if !ok {
		return
	}
	list, err := decodeStatistics(data)
	if err != nil {
		c.fail("statistics", address, err)
		return
	}
	c.recovered(address)
	var o outcome
	o.addStatistics(c.stats, list, instance, c.cfg.MaxExecutors)
	c.send(ch, o)
}

func (c *Collector) send(ch chan<- prometheus.Metric, o outcome) {
	c.metrics.skipped.WithLabelValues("limit").Add(float64(o.limited))
	c.metrics.skipped.WithLabelValues("repeated").Add(float64(o.repeated))
	for _, m := range o.samples {
		ch <- m
	}
}

// get makes a request; false is one that failed, which has been reported.
func (c *Collector) get(ctx context.Context, endpoint, address string) ([]byte, bool) {
	c.metrics.requests.WithLabelValues(endpoint).Inc()
	data, err := c.fetch(ctx, address)
	if err != nil {
		c.fail(endpoint, address, err)
		return nil, false
	}
	return data, true
}

// recovered notes an answer that could be read.
func (c *Collector) recovered(address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failing[address] {
		delete(c.failing, address)
		c.log.Info("answers again", "url", address)
	}
}

func (c *Collector) fetch(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	switch {
	case c.cfg.Token != "":
		req.Header.Set("Authorization", "token="+c.cfg.Token.Reveal())
	case c.cfg.Username != "":
		req.SetBasicAuth(c.cfg.Username, c.cfg.Password.Reveal())
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("got status %s, want 200", resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(data) > maxAnswer {
		err = fmt.Errorf("got more than %d bytes", maxAnswer)
	}
	return data, err
}

// fail counts a failure and logs the first of several in a row.
func (c *Collector) fail(endpoint, address string, err error) {
	c.metrics.errors.WithLabelValues(endpoint).Inc()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.failing[address] && len(c.failing) < maxTargets {
		c.failing[address] = true
		c.log.Warn("no answer", "url", address, "reason", err)
	}
}
