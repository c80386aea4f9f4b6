package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// reloader reads the configuration file again at every SIGHUP and applies what
// it says about scraping. Everything else waits for a restart.
type reloader struct {
	s          *server
	successful prometheus.Gauge
	at         prometheus.Gauge
	hangups    chan os.Signal
}

// newReloader takes the signals from now on: one that came before run listened would
// end the process.
func newReloader(s *server) *reloader {
	r := &reloader{
		s: s, hangups: make(chan os.Signal, 1),
		successful: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "vedette_config_last_reload_successful", Help: "1 if the last reading of the configuration file succeeded, else 0.",
		}),
		at: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "vedette_config_last_reload_success_timestamp_seconds", Help: "Unix time at which the configuration file was last read with success.",
		}),
	}
	s.registry.MustRegister(r.successful, r.at)
	r.note(nil)
	signal.Notify(r.hangups, syscall.SIGHUP)
	return r
}

// run waits for signals until ctx ends.
func (r *reloader) run(ctx context.Context) error {
	defer signal.Stop(r.hangups)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.hangups:
			err := r.reload()
			r.note(err)
			if err != nil {
				r.s.logger.Error("reload configuration: the old one goes on", "err", err)
				continue
			}
			r.s.logger.Info("reloaded the scrape configuration; other settings wait for a restart", "file", r.s.config.file)
		}
	}
}

func (r *reloader) note(err error) {
	if err != nil {
		r.successful.Set(0)
		return
	}
	r.successful.Set(1)
	r.at.Set(float64(time.Now().Unix()))
}

func (r *reloader) reload() error {
	if r.s.config.file == "" {
		return fmt.Errorf("the server was started without a file")
	}
	l, err := loadConfig(r.s.config.file)
	if err != nil {
		return err
	}
	l.agent = r.s.config.agent
	jobs, err := l.scrapeConfig(selfAddress(r.s.listener.Addr()))
	if err != nil {
		return err
	}
	return r.s.scraper.ApplyConfig(jobs)
}
