package metric

import (
	"errors"
	"fmt"
	"time"
)

// Config holds the settings of the metric store.
type Config struct {
	// Retention is how long samples are kept, counted from their own time.
	Retention time.Duration `yaml:"retention"`
	// RetentionBytes bounds the blocks on disk, of all tenants together; the
	// oldest windows go first. 0 is no bound.
	RetentionBytes int64 `yaml:"retention_bytes"`
	// Window is the stretch of time whose series share one index. It cannot be
	// changed for data that is there already.
	Window time.Duration `yaml:"window"`
	// OutOfOrderWindow is how much older than its series' newest sample a sample
	// may be.
	OutOfOrderWindow time.Duration `yaml:"out_of_order_window"`
	// FlushSamples is how many samples the heads gather, all together, before
	// they become blocks. It bounds memory and the time that a restart replays.
	FlushSamples int `yaml:"flush_samples"`
	// FlushInterval is the longest time that a sample stays in a head.
	FlushInterval time.Duration `yaml:"flush_interval"`
	// MaxSeries bounds the series of one tenant in one window; 0 is no bound.
	MaxSeries int `yaml:"max_series"`
	// MaxSeriesPerMetric bounds the series of one metric name in one window; 0 is
	// no bound.
	MaxSeriesPerMetric int `yaml:"max_series_per_metric"`
	// IndexCacheBytes is the memory for the indexes of windows that are not being
	// written to. They are read from the blocks when a query needs them.
	IndexCacheBytes int64 `yaml:"index_cache_bytes"`
}

// DefaultConfig returns the settings that a small site needs none of.
func DefaultConfig() Config {
	return Config{
		Retention:        15 * 24 * time.Hour,
		Window:           24 * time.Hour,
		OutOfOrderWindow: 30 * time.Minute,
		FlushSamples:     1 << 20,
		FlushInterval:    2 * time.Minute,
		MaxSeries:        5_000_000,
		IndexCacheBytes:  512 << 20,
	}
}

// Validate returns an error that names every setting that cannot be used.
func (c Config) Validate() error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: "+format, append([]any{key}, args...)...))
	}
	if c.Window < time.Minute || (24*time.Hour)%c.Window != 0 && c.Window%(24*time.Hour) != 0 {
		bad("window", "%s, want at least 1m and a divisor or a multiple of 24h", c.Window)
	}
	if c.Retention < c.Window {
		bad("retention", "%s, want at least the window of %s", c.Retention, c.Window)
	}
	if c.RetentionBytes < 0 {
		bad("retention_bytes", "%d, want 0 or more", c.RetentionBytes)
	}
	if c.OutOfOrderWindow < 0 {
		bad("out_of_order_window", "%s, want 0s or more", c.OutOfOrderWindow)
	}
	if c.FlushSamples < 1000 {
		bad("flush_samples", "%d, want at least 1000", c.FlushSamples)
	}
	if c.FlushInterval < time.Second {
		bad("flush_interval", "%s, want at least 1s", c.FlushInterval)
	}
	if c.MaxSeries < 0 {
		bad("max_series", "%d, want 0 or more", c.MaxSeries)
	}
	if c.MaxSeriesPerMetric < 0 {
		bad("max_series_per_metric", "%d, want 0 or more", c.MaxSeriesPerMetric)
	}
	if c.IndexCacheBytes < 0 {
		bad("index_cache_bytes", "%d, want 0 or more", c.IndexCacheBytes)
	}
	return errors.Join(errs...)
}
