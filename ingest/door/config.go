package door

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vedette-io/vedette/internal/tenant"
)

// Config configures a Door.
type Config struct {
	// MaxBodyBytes is the largest compressed request body that is taken.
	MaxBodyBytes int `yaml:"max_body_bytes"`

	// MaxDecodedBytes is the largest uncompressed request body that is taken.
	MaxDecodedBytes int `yaml:"max_decoded_bytes"`

	// MaxInFlightBytes bounds the memory of all requests under way together:
	// bodies, what they decode to, and batches that the store has not taken yet.
	MaxInFlightBytes int64 `yaml:"max_in_flight_bytes"`

	// MaxConcurrent is how many requests are worked on at a time; more wait.
	MaxConcurrent int `yaml:"max_concurrent"`

	// QueueTimeout is how long a request waits for its turn before it is refused
	// with 503.
	QueueTimeout time.Duration `yaml:"queue_timeout"`

	// BodyTimeout is how long a client may take to send a body.
	BodyTimeout time.Duration `yaml:"body_timeout"`

	// StoreTimeout is how long an answer waits for the store after the data is
	// durable in the buffer.
	StoreTimeout time.Duration `yaml:"store_timeout"`

	// Limits hold for every tenant that has none of its own.
	Limits Limits `yaml:"limits"`

	// TenantLimits holds the limits of single tenants; what is left out there, or
	// 0, is as in limits, and -1 is no limit.
	TenantLimits map[string]Limits `yaml:"tenant_limits"`
}

// SpanLimits bound a tenant's spans. What is beyond them is cut off and marked by
// the span's attribute vedette.truncated; 0 or less is no limit.
type SpanLimits struct {
	// MaxAttributes is how many attributes a span may have, and each of its
	// events and links, and a resource and a scope.
	MaxAttributes int `yaml:"max_attributes"`

	// MaxAttributeBytes is the longest value of an attribute.
	MaxAttributeBytes int `yaml:"max_attribute_bytes"`

	// MaxEvents is how many events a span may have.
	MaxEvents int `yaml:"max_events"`

	// MaxLinks is how many links a span may have.
	MaxLinks int `yaml:"max_links"`

	// MaxBytes is the largest span, as OTLP in protobuf.
	MaxBytes int `yaml:"max_bytes"`

	// PerSecond is the rate at which a tenant may send spans; requests beyond it
	// are refused with 429.
	PerSecond float64 `yaml:"per_second"`

	// Burst is how many spans may come at once above the rate; 0 is ten seconds'
	// worth.
	Burst float64 `yaml:"burst"`
}

// LogLimits bound a tenant's log records; 0 or less is no limit.
type LogLimits struct {
	// MaxBytes is the largest log record, as OTLP in protobuf and with the
	// attributes of its resource and scope. Larger ones are refused.
	MaxBytes int `yaml:"max_bytes"`

	// PerSecond is the rate at which a tenant may send log records; requests
	// beyond it are refused with 429.
	PerSecond float64 `yaml:"per_second"`

	// Burst is how many log records may come at once above the rate; 0 is ten
	// seconds' worth.
	Burst float64 `yaml:"burst"`
}

// Limits bound what one tenant may send. 0 or less is no limit.
type Limits struct {
	// MaxLabels is how many labels a series may have, its name included.
	MaxLabels int `yaml:"max_labels"`

	// MaxLabelNameBytes is the longest label name.
	MaxLabelNameBytes int `yaml:"max_label_name_bytes"`

	// MaxLabelValueBytes is the longest label value.
	MaxLabelValueBytes int `yaml:"max_label_value_bytes"`

	// MaxFuture is how far ahead of this machine's clock a timestamp may be.
	MaxFuture time.Duration `yaml:"max_future"`

	// SamplesPerSecond is the rate at which a tenant may send samples; requests
	// beyond it are refused with 429.
	SamplesPerSecond float64 `yaml:"samples_per_second"`

	// SamplesBurst is how many samples may come at once above the rate; 0 is ten
	// seconds' worth.
	SamplesBurst float64 `yaml:"samples_burst"`

	// Spans bound what a tenant sends of traces.
	Spans SpanLimits `yaml:"spans"`

	// Logs bound what a tenant sends of logs.
	Logs LogLimits `yaml:"logs"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		MaxBodyBytes:     16 << 20,
		MaxDecodedBytes:  32 << 20,
		MaxInFlightBytes: 256 << 20,
		MaxConcurrent:    64,
		QueueTimeout:     2 * time.Second,
		BodyTimeout:      30 * time.Second,
		StoreTimeout:     5 * time.Second,
		Limits: Limits{
			MaxLabels:          64,
			MaxLabelNameBytes:  1024,
			MaxLabelValueBytes: 4096,
			MaxFuture:          10 * time.Minute,
			Spans: SpanLimits{
				MaxAttributes: 256, MaxAttributeBytes: 64 << 10, MaxEvents: 256, MaxLinks: 256, MaxBytes: 512 << 10,
			},
			Logs: LogLimits{MaxBytes: 1 << 20},
		},
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
	bad(c.MaxBodyBytes > 0, "max_body_bytes: got %d, want > 0", c.MaxBodyBytes)
	bad(c.MaxDecodedBytes > 0 && c.MaxDecodedBytes <= 1<<30, "max_decoded_bytes: got %d, want 1 to %d", c.MaxDecodedBytes, 1<<30)
	bad(c.MaxInFlightBytes >= int64(c.MaxBodyBytes)+2*int64(c.MaxDecodedBytes),
		"max_in_flight_bytes: got %d, want at least max_body_bytes and twice max_decoded_bytes, %d", c.MaxInFlightBytes, int64(c.MaxBodyBytes)+2*int64(c.MaxDecodedBytes))
	bad(c.MaxConcurrent > 0, "max_concurrent: got %d, want > 0", c.MaxConcurrent)
	bad(c.QueueTimeout >= 0, "queue_timeout: got %s, want >= 0", c.QueueTimeout)
	bad(c.BodyTimeout > 0, "body_timeout: got %s, want > 0", c.BodyTimeout)
	bad(c.StoreTimeout >= 0, "store_timeout: got %s, want >= 0", c.StoreTimeout)
	names := make([]string, 0, len(c.TenantLimits))
	for name := range c.TenantLimits {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		var invalid *tenant.InvalidError
		if errors.As(tenant.Validate(name), &invalid) {
			errs = append(errs, fmt.Errorf("tenant_limits: tenant %q: %s", name, invalid.Reason))
		}
	}
	return errors.Join(errs...)
}

// limitsOf returns the limits of a tenant.
func (c *Config) limitsOf(id string) Limits {
	l, own := c.TenantLimits[id]
	if !own {
		return c.Limits
	}
	d := c.Limits
	inherit(&l.MaxLabels, d.MaxLabels)
	inherit(&l.MaxLabelNameBytes, d.MaxLabelNameBytes)
	inherit(&l.MaxLabelValueBytes, d.MaxLabelValueBytes)
	inherit(&l.MaxFuture, d.MaxFuture)
	inherit(&l.SamplesPerSecond, d.SamplesPerSecond)
	inherit(&l.SamplesBurst, d.SamplesBurst)
	s, ds := &l.Spans, &d.Spans
	inherit(&s.MaxAttributes, ds.MaxAttributes)
	inherit(&s.MaxAttributeBytes, ds.MaxAttributeBytes)
	inherit(&s.MaxEvents, ds.MaxEvents)
	inherit(&s.MaxLinks, ds.MaxLinks)
	inherit(&s.MaxBytes, ds.MaxBytes)
	inherit(&s.PerSecond, ds.PerSecond)
	inherit(&s.Burst, ds.Burst)
	inherit(&l.Logs.MaxBytes, d.Logs.MaxBytes)
	inherit(&l.Logs.PerSecond, d.Logs.PerSecond)
	inherit(&l.Logs.Burst, d.Logs.Burst)
	return l
}

func inherit[T comparable](v *T, from T) {
	var zero T
	if *v == zero {
		*v = from
	}
}
