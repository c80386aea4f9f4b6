package buffer

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// SyncMode says when the embedded log fsyncs what it was given.
type SyncMode string

// The sync modes of the embedded log.
const (
	// SyncAlways fsyncs before an append is acknowledged. Appends that arrive
	// while an fsync runs share the next one, for which a millisecond is waited
	// where several senders are at work.
	SyncAlways SyncMode = "always"

	// SyncInterval acknowledges at once and fsyncs every sync_interval. A process
	// that dies loses nothing; a power failure or a kernel crash loses up to an
	// interval of acknowledged data.
	SyncInterval SyncMode = "interval"

	// SyncNever leaves writing back to the kernel until a segment is finished: as
	// SyncInterval, but a power failure may lose half a minute or more of
	// acknowledged data.
	SyncNever SyncMode = "never"
)

// Config configures the embedded log.
type Config struct {
	// How many partitions each topic has; a topic that is not named keeps what it
	// has, and begins with one. More can be added later, none taken away.
	Partitions map[string]int `yaml:"partitions"`

	// When appended data is fsynced: "always" before it is acknowledged,
	// "interval" every sync_interval (a power failure loses up to that much
	// acknowledged data), "never" by the kernel alone (it loses half a minute or
	// more). A process that dies loses nothing in any mode.
	Sync SyncMode `yaml:"sync"`

	// Time between two fsyncs in mode "interval".
	SyncInterval time.Duration `yaml:"sync_interval"`

	// Size at which a segment file is finished and the next one begun.
	SegmentBytes int64 `yaml:"segment_bytes"`

	// Most bytes the log may take on disk before it refuses appends; data that is
	// not yet stored is never dropped to make room. 0 is no limit.
	MaxBytes int64 `yaml:"max_bytes"`

	// Largest payload that is taken.
	MaxRecordBytes int64 `yaml:"max_record_bytes"`

	// Most payload bytes whose decoded form waits in memory for the consumer; it
	// decodes again from disk what is beyond.
	TailBytes int64 `yaml:"tail_bytes"`

	// How long segments stay after every consumer group is done with them. They go
	// at once unless one of the two is set; if both are, the first to be reached counts.
	Retention Retention `yaml:"retention"`

	// What holds for single topics instead of retention. Log records have no store
	// behind the buffer, so that this is how long they are kept.
	RetentionByTopic map[string]Retention `yaml:"retention_by_topic"`
}

// retentionOf returns how long consumed segments of a topic stay.
func (c *Config) retentionOf(topic string) Retention {
	if r, own := c.RetentionByTopic[topic]; own {
		return r
	}
	return c.Retention
}

// Retention says how long consumed segments stay; zero is no wish to keep them.
type Retention struct {
	// Age up to which consumed segments stay.
	Time time.Duration `yaml:"time"`

	// Bytes of consumed segments that stay, per partition.
	Bytes int64 `yaml:"bytes"`
}

// DefaultConfig returns the configuration of a log that loses nothing.
func DefaultConfig() Config {
	return Config{
		Sync:           SyncAlways,
		SyncInterval:   100 * time.Millisecond,
		SegmentBytes:   64 << 20,
		MaxBytes:       16 << 30,
		MaxRecordBytes: 32 << 20,
		TailBytes:      64 << 20,
		RetentionByTopic: map[string]Retention{
			TopicLogs: {Time: 24 * time.Hour, Bytes: 1 << 30},
		},
	}
}

const (
	minSegmentBytes = 4 << 10
	maxSegmentBytes = 1 << 30
	maxPartitions   = 1024
)

// Validate names every value that makes no sense.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, topic := range slices.Sorted(maps.Keys(c.Partitions)) {
		if err := checkName("topic", topic); err != nil {
			bad("partitions: %w", err)
		}
		if n := c.Partitions[topic]; n < 1 || n > maxPartitions {
			bad("partitions.%s: got %d, want 1 to %d", topic, n, maxPartitions)
		}
	}
	switch c.Sync {
	case SyncAlways, SyncNever:
	case SyncInterval:
		if c.SyncInterval <= 0 {
			bad("sync_interval: got %v, want more than 0", c.SyncInterval)
		}
	default:
		bad("sync: got %q, want %q, %q or %q", c.Sync, SyncAlways, SyncInterval, SyncNever)
	}
	if c.SegmentBytes < minSegmentBytes || c.SegmentBytes > maxSegmentBytes {
		bad("segment_bytes: got %d, want %d to %d", c.SegmentBytes, minSegmentBytes, maxSegmentBytes)
	}
	if c.MaxRecordBytes < 1 || c.MaxRecordBytes > maxPayloadBytes {
		bad("max_record_bytes: got %d, want 1 to %d", c.MaxRecordBytes, maxPayloadBytes)
	}
	if c.MaxBytes < 0 || (c.MaxBytes > 0 && c.MaxBytes < 2*c.SegmentBytes) {
		bad("max_bytes: got %d, want 0 or at least twice segment_bytes (%d)", c.MaxBytes, 2*c.SegmentBytes)
	}
	if c.TailBytes < 0 {
		bad("tail_bytes: got %d, want 0 or more", c.TailBytes)
	}
	c.Retention.check("retention", bad)
	for _, topic := range slices.Sorted(maps.Keys(c.RetentionByTopic)) {
		if err := checkName("topic", topic); err != nil {
			bad("retention_by_topic: %w", err)
		}
		r := c.RetentionByTopic[topic]
		r.check("retention_by_topic."+topic, bad)
	}
	return errors.Join(errs...)
}

func (r *Retention) check(key string, bad func(format string, args ...any)) {
	if r.Time < 0 {
		bad("%s.time: got %v, want 0 or more", key, r.Time)
	}
	if r.Bytes < 0 {
		bad("%s.bytes: got %d, want 0 or more", key, r.Bytes)
	}
}

// maxNameLen keeps topic and group names within what file systems take.
const maxNameLen = 128

// checkName says whether a topic or group can be a file name everywhere.
func checkName(what, name string) error {
	if name == "" || len(name) > maxNameLen || name[0] == '.' {
		return fmt.Errorf("%s %q: want 1 to %d letters, digits, '.', '_' or '-', not starting with '.'", what, name, maxNameLen)
	}
	for _, c := range []byte(name) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return fmt.Errorf("%s %q: want 1 to %d letters, digits, '.', '_' or '-', not starting with '.'", what, name, maxNameLen)
		}
	}
	return nil
}
