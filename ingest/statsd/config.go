package statsd

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/vedette-io/vedette/internal/tenant"
)

// Observers says what timers, histograms and distributions become.
const (
	ObserversSummary   = "summary"
	ObserversHistogram = "histogram"
	ObserversNative    = "native"
)

// Config configures a Server.
type Config struct {
	// ListenUDP is the address for UDP packets, such as 127.0.0.1:8125. Empty is
	// off.
	ListenUDP string `yaml:"listen_udp"`

	// ListenUnixgram is the path of a Unix datagram socket. Empty is off.
	ListenUnixgram string `yaml:"listen_unixgram"`

	// ListenUnix is the path of a Unix stream socket that takes packets behind their
	// length, as DogStatsD clients send them. Empty is off.
	ListenUnix string `yaml:"listen_unix"`

	// ListenTCP is the address for lines over TCP. Empty is off.
	ListenTCP string `yaml:"listen_tcp"`

	// FlushInterval is the time between two samples of a series.
	FlushInterval time.Duration `yaml:"flush_interval"`

	// Observers is what timers, histograms and distributions become: summary
	// (quantiles 0.5, 0.9 and 0.99 of the last ten minutes), histogram (with
	// buckets) or native.
	Observers string `yaml:"observers"`

	// Buckets are the upper bounds of observers: histogram, in seconds for timers.
	Buckets []float64 `yaml:"buckets"`

	// TTL is how long a series may be without events before it ends. 0 is for ever.
	TTL time.Duration `yaml:"ttl"`

	// MaxSeries is how many series are kept, by name and tags; events of further
	// ones are dropped.
	MaxSeries int `yaml:"max_series"`

	// Tenant is whom the series belong to.
	Tenant string `yaml:"tenant"`
}

// DefaultConfig returns the defaults, which listen nowhere.
func DefaultConfig() Config {
	return Config{
		FlushInterval: 10 * time.Second,
		Observers:     ObserversSummary,
		Buckets:       []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		MaxSeries:     100_000,
		Tenant:        tenant.Default,
	}
}

// Enabled reports whether there is anything to listen on.
func (c Config) Enabled() bool {
	return c.ListenUDP != "" || c.ListenUnixgram != "" || c.ListenUnix != "" || c.ListenTCP != ""
}

// Validate names every bad key.
func (c Config) Validate() error {
	var errs []error
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(c.ListenUnix == "" || c.ListenUnix != c.ListenUnixgram, "listen_unix: got %q, want another path than listen_unixgram", c.ListenUnix)
	bad(c.FlushInterval >= 100*time.Millisecond, "flush_interval: got %s, want at least 100ms", c.FlushInterval)
	bad(slices.Contains([]string{ObserversSummary, ObserversHistogram, ObserversNative}, c.Observers),
		"observers: got %q, want summary, histogram or native", c.Observers)
	bad(c.Observers != ObserversHistogram || len(c.Buckets) > 0, "buckets: want at least one")
	for i, b := range c.Buckets {
		bad(!math.IsNaN(b) && !math.IsInf(b, 0) && (i == 0 || b > c.Buckets[i-1]), "buckets: got %g at position %d, want rising finite numbers", b, i)
	}
	bad(c.TTL >= 0, "ttl: got %s, want 0 or more", c.TTL)
	bad(c.MaxSeries > 0 && c.MaxSeries <= math.MaxInt32, "max_series: got %d, want 1 to %d", c.MaxSeries, math.MaxInt32)
	var invalid *tenant.InvalidError
	if errors.As(tenant.Validate(c.Tenant), &invalid) {
		errs = append(errs, fmt.Errorf("tenant: got %q: %s", c.Tenant, invalid.Reason))
	}
	return errors.Join(errs...)
}
