package trace

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Config holds the settings of the trace store.
type Config struct {
	// Retention is how long spans are kept, counted from their arrival.
	Retention time.Duration `yaml:"retention"`
	// RetentionBytes bounds the blocks on disk, of all tenants together; what
	// arrived first goes first. 0 is no bound.
	RetentionBytes int64 `yaml:"retention_bytes"`
	// RetentionByService says how long the spans of single services are kept, by
	// service.name, where that is not the retention above. Blocks with spans past
	// it are rewritten without them.
	RetentionByService map[string]time.Duration `yaml:"retention_by_service"`
	// FlushSpans is how many spans the heads gather, all together, before they
	// become blocks. It bounds memory and the time that a restart replays.
	FlushSpans int `yaml:"flush_spans"`
	// FlushBytes bounds the memory of the heads in the same way.
	FlushBytes int64 `yaml:"flush_bytes"`
	// FlushInterval is the longest time that a span stays in a head. Each tenant that
	// gets spans makes a block that often.
	FlushInterval time.Duration `yaml:"flush_interval"`
	// MergeSpans is how many spans a settled block has.
	MergeSpans int `yaml:"merge_spans"`
	// MergeInterval is how long fresh blocks may wait to be merged where too few
	// spans arrive for MergeSpans.
	MergeInterval time.Duration `yaml:"merge_interval"`
	// DecisionWait is how long after its last block tail sampling decides about a
	// trace. It delays merges, and means nothing without tail sampling.
	DecisionWait time.Duration `yaml:"decision_wait"`
}

// DefaultConfig returns the settings that a small site needs none of.
func DefaultConfig() Config {
	return Config{
		Retention:     14 * 24 * time.Hour,
		FlushSpans:    128 << 10,
		FlushBytes:    32 << 20,
		FlushInterval: time.Minute,
		MergeSpans:    1_500_000,
		MergeInterval: 5 * time.Minute,
		DecisionWait:  time.Minute,
	}
}

// Validate returns an error that names every setting that cannot be used.
func (c Config) Validate() error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: "+format, append([]any{key}, args...)...))
	}
	if c.Retention < time.Hour {
		bad("retention", "%s, want at least 1h", c.Retention)
	}
	if c.RetentionBytes < 0 {
		bad("retention_bytes", "%d, want 0 or more", c.RetentionBytes)
	}
	for _, service := range sortedKeys(c.RetentionByService) {
		if d := c.RetentionByService[service]; d < time.Hour {
			bad("retention_by_service."+service, "%s, want at least 1h", d)
		}
	}
	if c.FlushSpans < 1000 {
		bad("flush_spans", "%d, want at least 1000", c.FlushSpans)
	}
	if c.FlushBytes < 1<<20 {
		bad("flush_bytes", "%d, want at least %d", c.FlushBytes, 1<<20)
	}
	if c.FlushInterval < time.Second {
		bad("flush_interval", "%s, want at least 1s", c.FlushInterval)
	}
	if c.MergeSpans < 1000 {
		bad("merge_spans", "%d, want at least 1000", c.MergeSpans)
	}
	if c.MergeInterval < time.Second {
		bad("merge_interval", "%s, want at least 1s", c.MergeInterval)
	}
	if c.DecisionWait < 0 {
		bad("decision_wait", "%s, want 0s or more", c.DecisionWait)
	}
	return errors.Join(errs...)
}

// keep returns how long the spans of a service are kept.
func (c *Config) keep(service string) time.Duration {
	if d, ok := c.RetentionByService[service]; ok {
		return d
	}
	return c.Retention
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
