package scrape

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	promscrape "github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/util/logging"

	"github.com/vedette-io/vedette/internal/tenant"
)

// Options are what a Scraper is made of.
type Options struct {
	Writer Writer
	Tenant string // of everything that is scraped; tenant.Default if empty
	// Config is what to scrape, as config.Load of Prometheus returns it.
	Config *config.Config

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Scraper discovers targets and scrapes them. Its target methods are those of
// Prometheus's scrape manager.
type Scraper struct {
	*promscrape.Manager

	cfg       *config.Config
	discovery *discovery.Manager
	stop      context.CancelFunc // ends discovery
	applyMu   sync.Mutex
	applied   bool // a configuration was; under applyMu
}

// New returns a scraper; Run starts it.
func New(o Options) (*Scraper, error) {
	if o.Tenant == "" {
		o.Tenant = tenant.Default
	}
	if err := tenant.Validate(o.Tenant); err != nil {
		return nil, err
	}
	p := newAppendable(o.Writer, o.Tenant, o.Logger, newMetrics(o.Registerer))
	registerCache(o.Registerer, p.series)
	manager, err := promscrape.NewManager(&promscrape.Options{
		AppendMetadata:           true,
		ParseST:                  true,
		DiscoveryReloadOnStartup: true,
		DiscoveryReloadInterval:  model.Duration(time.Second),
	}, o.Logger, logging.NewJSONFileLogger, nil, p, o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("set up scraper: %w", err)
	}
	sd, err := setUpDiscoveries(o.Logger, o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("set up discovery: %w", err)
	}
	// The discovery manager wants its context before it runs.
	ctx, stop := context.WithCancel(context.Background())
	s := &Scraper{
		Manager: manager, cfg: o.Config, stop: stop,
		discovery: discovery.NewManager(ctx, o.Logger, o.Registerer, sd, discovery.Name("scrape"), discovery.Updatert(100*time.Millisecond)),
	}
	if s.discovery == nil {
		stop()
		return nil, errors.New("set up discovery: its metrics are registered already")
	}
	return s, nil
}

// Run discovers and scrapes until ctx ends; a scrape under way is finished.
func (s *Scraper) Run(ctx context.Context) error {
	defer s.stop()
	if err := s.applyFirst(); err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.discovery.Run() }) // returns the end of its context
	wg.Go(func() { _ = s.Manager.Run(s.discovery.SyncCh()) })
	<-ctx.Done()
	s.Stop()
	s.stop()
	wg.Wait()
	return nil
}

// ApplyConfig replaces what is scraped. It may be called before Run.
func (s *Scraper) ApplyConfig(cfg *config.Config) error {
	s.applyMu.Lock()
	defer s.applyMu.Unlock()
	return s.applyLocked(cfg)
}

// applyFirst applies the configuration that New was given, unless another has come
// before.
func (s *Scraper) applyFirst() error {
	s.applyMu.Lock()
	defer s.applyMu.Unlock()
	if s.applied {
		return nil
	}
	return s.applyLocked(s.cfg)
}

func (s *Scraper) applyLocked(cfg *config.Config) error {
	if err := s.Manager.ApplyConfig(cfg); err != nil {
		return fmt.Errorf("apply scrape configuration: %w", err)
	}
	jobs, err := cfg.GetScrapeConfigs()
	if err != nil {
		return fmt.Errorf("apply scrape configuration: %w", err)
	}
	targets := make(map[string]discovery.Configs, len(jobs))
	for _, job := range jobs {
		targets[job.JobName] = job.ServiceDiscoveryConfigs
	}
	if err := s.discovery.ApplyConfig(targets); err != nil {
		return fmt.Errorf("apply scrape configuration: discovery: %w", err)
	}
	s.applied = true
	return nil
}
