package log

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// Formats of lines.
const (
	FormatPlain  = "plain"
	FormatDocker = "docker"
	FormatCRI    = "cri"
)

// Encodings of files.
const (
	EncodingUTF8    = "utf-8"
	EncodingGBK     = "gbk"
	EncodingGB18030 = "gb18030"
)

// Where files are begun that are there when their source is new.
const (
	StartEnd       = "end"
	StartBeginning = "beginning"
)

// Config configures a Tailer.
type Config struct {
	// Sources are the files to read. A file that several sources name is the first
	// one's.
	Sources []Source `yaml:"sources"`

	// PollInterval is how often files are looked at; new ones are looked for once a
	// second, or as often as that if it is longer.
	PollInterval time.Duration `yaml:"poll_interval"`

	// MaxLineBytes is the longest record. Longer lines become several records, with
	// a mark.
	MaxLineBytes int `yaml:"max_line_bytes"`

	// UnfinishedTimeout is how long the end of a line, or of a group of lines, is
	// waited for.
	UnfinishedTimeout time.Duration `yaml:"unfinished_timeout"`

	// BatchBytes is how large a request grows at most.
	BatchBytes int `yaml:"batch_bytes"`

	// CheckpointInterval is the least time between two checkpoints: what a killed
	// process has sent in that time is sent again.
	CheckpointInterval time.Duration `yaml:"checkpoint_interval"`

	// MaxOpenFiles is how many files are kept open though nothing is read of them
	// now.
	MaxOpenFiles int `yaml:"max_open_files"`

	// StopTimeout is how long a stop waits for a request under way.
	StopTimeout time.Duration `yaml:"stop_timeout"`
}

// Source is a set of files whose lines are alike.
type Source struct {
	// Include are patterns of paths: *, ?, [a-z] within a name and ** for any
	// directories, as in /srv/**/logs/*.log.
	Include []string `yaml:"include"`

	// Exclude are patterns of paths that are not read; one without / is of names.
	// Compressed files are never read.
	Exclude []string `yaml:"exclude"`

	// Format of the lines: plain, docker (json-file) or cri (containerd, CRI-O).
	Format string `yaml:"format"`

	// Encoding of the text: utf-8, gbk or gb18030. Bytes that are no text in it
	// become U+FFFD.
	Encoding string `yaml:"encoding"`

	// Start is where files are begun that are there when the source is new: end or
	// beginning. Files that come later are read from their beginning.
	Start string `yaml:"start"`

	// Attributes are set on the resource of all records, such as service.name; they
	// come before those that are found out.
	Attributes map[string]string `yaml:"attributes"`

	// PathPattern is a regular expression of paths whose named groups become
	// attributes of the resource, _ as a dot: service_name is service.name.
	PathPattern string `yaml:"path_pattern"`

	// Multiline joins lines to records.
	Multiline Multiline `yaml:"multiline"`

	// JSON reads the text of records as JSON.
	JSON JSON `yaml:"json"`
}

// Multiline says which lines belong together; one of start and end may be set.
type Multiline struct {
	// Start is a regular expression of the first lines of records, such as
	// ^\d{4}-\d\d-\d\d.
	Start string `yaml:"start"`

	// End is a regular expression of the last lines of records.
	End string `yaml:"end"`

	// MaxLines is how many lines a record has at most; 0 is 1000.
	MaxLines int `yaml:"max_lines"`
}

// JSON says what the keys of JSON objects mean. Keys that are not named become
// attributes; lines that are no JSON object stay as they are.
type JSON struct {
	// Enabled turns it on.
	Enabled bool `yaml:"enabled"`

	// Timestamp are keys of the time; if none are given, these are time, timestamp,
	// ts, @timestamp. Values are RFC 3339 or numbers since 1970.
	Timestamp []string `yaml:"timestamp"`

	// Severity are keys of the severity: level, severity, lvl, log.level.
	Severity []string `yaml:"severity"`

	// Body are keys of the text: msg, message, log.
	Body []string `yaml:"body"`

	// TraceID are keys of the trace id in hex: trace_id, traceId, trace.id.
	TraceID []string `yaml:"trace_id"`

	// SpanID are keys of the span id in hex: span_id, spanId, span.id.
	SpanID []string `yaml:"span_id"`
}

// DefaultConfig returns the defaults, which read nothing.
func DefaultConfig() Config {
	return Config{
		PollInterval:       250 * time.Millisecond,
		MaxLineBytes:       256 << 10,
		UnfinishedTimeout:  3 * time.Second,
		BatchBytes:         1 << 20,
		CheckpointInterval: time.Second,
		MaxOpenFiles:       1024,
		StopTimeout:        5 * time.Second,
	}
}

const (
	minLineBytes = 1 << 10
	maxLineBytes = 8 << 20
)

// Validate names every bad key.
func (c *Config) Validate() error {
	var errs []error
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(c.PollInterval >= 10*time.Millisecond, "poll_interval: got %s, want at least 10ms", c.PollInterval)
	bad(c.MaxLineBytes >= minLineBytes && c.MaxLineBytes <= maxLineBytes, "max_line_bytes: got %d, want %d to %d", c.MaxLineBytes, minLineBytes, maxLineBytes)
	bad(c.UnfinishedTimeout > 0, "unfinished_timeout: got %s, want > 0", c.UnfinishedTimeout)
	bad(c.BatchBytes >= minLineBytes && c.BatchBytes <= 2*maxLineBytes, "batch_bytes: got %d, want %d to %d", c.BatchBytes, minLineBytes, 2*maxLineBytes)
	bad(c.CheckpointInterval > 0, "checkpoint_interval: got %s, want > 0", c.CheckpointInterval)
	bad(c.MaxOpenFiles > 0, "max_open_files: got %d, want > 0", c.MaxOpenFiles)
	bad(c.StopTimeout > 0, "stop_timeout: got %s, want > 0", c.StopTimeout)
	for i := range c.Sources {
		c.Sources[i].validate(fmt.Sprintf("sources[%d]", i), bad)
	}
	return errors.Join(errs...)
}

func (s *Source) validate(key string, bad func(ok bool, format string, args ...any)) {
	bad(len(s.Include) > 0, "%s.include: is empty", key)
	for k, list := range map[string][]string{"include": s.Include, "exclude": s.Exclude} {
		for i, pattern := range list {
			_, err := filepath.Match(pattern, "")
			bad(err == nil && pattern != "", "%s.%s[%d]: got %q, want a pattern such as /var/log/*.log", key, k, i, pattern)
			bad(k == "exclude" || filepath.IsAbs(pattern), "%s.%s[%d]: got %q, want a path that begins with /", key, k, i, pattern)
		}
	}
	among := func(name, got string, want ...string) {
		bad(got == "" || slices.Contains(want, got), "%s.%s: got %q, want one of %q", key, name, got, want)
	}
	among("format", s.Format, FormatPlain, FormatDocker, FormatCRI)
	among("encoding", s.Encoding, EncodingUTF8, EncodingGBK, EncodingGB18030)
	among("start", s.Start, StartEnd, StartBeginning)
	for name, pattern := range map[string]string{"path_pattern": s.PathPattern, "multiline.start": s.Multiline.Start, "multiline.end": s.Multiline.End} {
		_, err := regexp.Compile(pattern)
		bad(err == nil, "%s.%s: %v", key, name, err)
	}
	bad(s.Multiline.Start == "" || s.Multiline.End == "", "%s.multiline: got start and end, want one of them", key)
	bad(s.Multiline.MaxLines >= 0, "%s.multiline.max_lines: got %d, want 0 or more", key, s.Multiline.MaxLines)
	for name := range s.Attributes {
		bad(name != "", "%s.attributes: a name is empty", key)
	}
}
