package pushgateway

import (
	"errors"
	"fmt"
	"time"
)

// Config configures a Gateway.
type Config struct {
	// Interval is how often the last values of every group are written again, so
	// that their series do not end between pushes.
	Interval time.Duration `yaml:"interval"`

	// MaxGroups is how many groups all tenants together may have.
	MaxGroups int `yaml:"max_groups"`

	// MaxSeries is how many series all groups together may have.
	MaxSeries int `yaml:"max_series"`

	// MaxSeriesPerGroup is how many series one group may have.
	MaxSeriesPerGroup int `yaml:"max_series_per_group"`

	// MaxPushBytes is the largest body of a push, uncompressed.
	MaxPushBytes int `yaml:"max_push_bytes"`

	// UTF8Names allows any UTF-8 in metric and label names, and undoes the
	// escaping of label names in URLs (U__…).
	UTF8Names bool `yaml:"utf8_names"`

	// DisableConsistencyCheck takes metrics whose type differs from that of
	// metrics of the same name in other groups. Pushes are then answered with 202
	// in place of 200.
	DisableConsistencyCheck bool `yaml:"disable_consistency_check"`

	// EnableAdminAPI allows to wipe all groups of a tenant.
	EnableAdminAPI bool `yaml:"enable_admin_api"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		Interval:          15 * time.Second,
		MaxGroups:         10_000,
		MaxSeries:         500_000,
		MaxSeriesPerGroup: 20_000,
		MaxPushBytes:      8 << 20,
	}
}

// Validate names every bad key.
func (c Config) Validate() error {
	var errs []error
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(c.Interval >= time.Second, "interval: got %s, want >= 1s", c.Interval)
	bad(c.MaxGroups > 0, "max_groups: got %d, want > 0", c.MaxGroups)
	bad(c.MaxSeries > 0, "max_series: got %d, want > 0", c.MaxSeries)
	bad(c.MaxSeriesPerGroup > 0, "max_series_per_group: got %d, want > 0", c.MaxSeriesPerGroup)
	bad(c.MaxPushBytes > 0 && c.MaxPushBytes <= 1<<30, "max_push_bytes: got %d, want 1 to %d", c.MaxPushBytes, 1<<30)
	return errors.Join(errs...)
}
