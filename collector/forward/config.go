package forward

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/vedette-io/vedette/ingest/buffer/kafka"
	"github.com/vedette-io/vedette/internal/config"
	"github.com/vedette-io/vedette/internal/tlsclient"
)

// Config says where what is collected goes: to endpoint or to Kafka.
type Config struct {
	// Endpoint is the URL of a Vedette, `http://host:9190`, or of anything else that
	// takes OTLP below `/v1/` and remote write at `/api/v1/write`.
	Endpoint string `yaml:"endpoint"`

	// BearerToken is sent to the endpoint in an Authorization header.
	BearerToken config.Secret `yaml:"bearer_token"`

	// BearerTokenFile is where BearerToken was read from, and is read again.
	BearerTokenFile string `yaml:"-"`

	// Headers are sent to the endpoint with every request.
	Headers map[string]config.Secret `yaml:"headers"`

	// TLS is used if the endpoint is an `https` one. Its files, and that of the token, are
	// read again when they change.
	TLS TLS `yaml:"tls"`

	// Compression of OTLP on its way: `snappy`, in which the queue has it already and
	// which Vedette takes, or `gzip`, `zstd` or `none` for others. Remote write is
	// always snappy.
	Compression string `yaml:"compression"`

	// Timeout is how long the endpoint may take to answer.
	Timeout time.Duration `yaml:"timeout"`

	// MaxBackoff is the longest pause between two attempts; the first is 100ms.
	MaxBackoff time.Duration `yaml:"max_backoff"`

	// BatchBytes is how much messages that wait may amount to, uncompressed, when
	// they share a request. A larger message goes alone.
	BatchBytes int `yaml:"batch_bytes"`

	// Queue holds what is not delivered yet.
	Queue QueueConfig `yaml:"queue"`

	// Kafka is where messages are produced to, if it names brokers; the server reads
	// them with `buffer.kind: kafka`. The consumer's keys are not used.
	Kafka kafka.Config `yaml:"kafka"`
}

// QueueConfig bounds the queue.
type QueueConfig struct {
	// MaxBytes is what the queue may take on disk. When it is full, the oldest
	// sixteenth is dropped.
	MaxBytes int64 `yaml:"max_bytes"`

	// MaxAge is the age at which messages are dropped undelivered; 0 is none.
	MaxAge time.Duration `yaml:"max_age"`
}

// TLS configures encryption.
type TLS struct {
	// CAFile has the certificates that may have signed the endpoint's; empty means
	// the system's.
	CAFile string `yaml:"ca_file"`

	// CertFile has this agent's certificate, if the endpoint asks for one.
	CertFile string `yaml:"cert_file"`

	// KeyFile has the key to CertFile.
	KeyFile string `yaml:"key_file"`

	// ServerName that the endpoint's certificate has to name, instead of its host.
	ServerName string `yaml:"server_name"`

	// InsecureSkipVerify takes any certificate: anybody in between can read and
	// write.
	InsecureSkipVerify bool `yaml:"insecure_skip_verify"`
}

// Compressions of OTLP.
const (
	compressionSnappy = "snappy"
	compressionGzip   = "gzip"
	compressionZstd   = "zstd"
	compressionNone   = "none"
)

const (
	firstBackoff  = 100 * time.Millisecond
	maxRetryAfter = 5 * time.Minute // a server may ask for more, and does not get it
	minQueueBytes = 256 << 10       // less has no room for a span in a segment
	segmentShare  = 16              // segments in a full queue
)

// DefaultConfig returns the configuration of a queue of 1 GiB, whose destination
// is not known.
func DefaultConfig() Config {
	c := Config{
		Compression: compressionSnappy,
		Timeout:     30 * time.Second,
		MaxBackoff:  10 * time.Second,
		BatchBytes:  1 << 20,
		Queue:       QueueConfig{MaxBytes: 1 << 30, MaxAge: 7 * 24 * time.Hour},
		Kafka:       kafka.DefaultConfig(),
	}
	c.Kafka.Brokers = nil
	return c
}

// IsSet says whether there is a destination.
func (c *Config) IsSet() bool { return c.Endpoint != "" || c.ToKafka() }

// attemptLasts bounds how long an attempt may take.
func (c *Config) attemptLasts() time.Duration {
	if c.ToKafka() { // to connect, to look for what is there, and to append
		return 3 * max(c.Kafka.Producer.Timeout, time.Second)
	}
	return c.Timeout
}

// ToKafka says whether messages go to Kafka.
func (c *Config) ToKafka() bool { return len(c.Kafka.Brokers) > 0 }

// Validate names every bad key. That there is no destination is not one: IsSet.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Endpoint != "" {
		u, err := url.Parse(c.Endpoint)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			// A password is not for everybody who reads what is wrong.
			bad("endpoint: got %q, want http://host:port or https://host:port", c.Endpoint[strings.LastIndexByte(c.Endpoint, '@')+1:])
		}
	}
	if c.Endpoint != "" && c.ToKafka() {
		bad("endpoint: got both this and kafka.brokers, want one of them")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(c.Headers[name].Reveal()) {
			bad("headers: got %q, want a name and a value that HTTP takes", name)
		}
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		bad("tls: got one of cert_file and key_file, want both or none")
	}
	switch c.Compression {
	case compressionSnappy, compressionGzip, compressionZstd, compressionNone:
	default:
		bad("compression: got %q, want %q, %q, %q or %q", c.Compression, compressionSnappy, compressionGzip, compressionZstd, compressionNone)
	}
	if c.Timeout < 100*time.Millisecond {
		bad("timeout: got %s, want 100ms or more", c.Timeout)
	}
	if c.MaxBackoff < firstBackoff {
		bad("max_backoff: got %s, want %s or more", c.MaxBackoff, firstBackoff)
	}
	if c.BatchBytes < 1 {
		bad("batch_bytes: got %d, want more than 0", c.BatchBytes)
	}
	if c.Queue.MaxBytes < minQueueBytes {
		bad("queue.max_bytes: got %d, want %d or more", c.Queue.MaxBytes, minQueueBytes)
	}
	if c.Queue.MaxAge < 0 {
		bad("queue.max_age: got %s, want 0 or more", c.Queue.MaxAge)
	}
	if c.ToKafka() {
		if err := c.Kafka.Validate(); err != nil {
			bad("kafka: %w", err)
		}
	}
	return errors.Join(errs...)
}

// files are the package tlsclient's.
func (t *TLS) files() tlsclient.Files {
	return tlsclient.Files{CA: t.CAFile, Cert: t.CertFile, Key: t.KeyFile, ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify}
}

// header returns what every request carries, but for the token.
func (c *Config) header() http.Header {
	h := http.Header{"User-Agent": {"Vedette"}}
	for name, value := range c.Headers {
		h.Set(name, value.Reveal())
	}
	return h
}
