package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/segmentio/kafka-go/compress"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/vedette-io/vedette/internal/config"
	"github.com/vedette-io/vedette/internal/tlsclient"
)

// Config configures the buffer on Kafka.
type Config struct {
	// Addresses of some brokers, as host:port; the others are learnt from them.
	Brokers []string `yaml:"brokers"`

	// ClientID is what brokers show in their logs and quotas.
	ClientID string `yaml:"client_id"`

	// Topics says how topics are named and created.
	Topics Topics `yaml:"topics"`

	// Producer configures appending.
	Producer Producer `yaml:"producer"`

	// Consumer configures reading.
	Consumer Consumer `yaml:"consumer"`

	// TLS encrypts the connections.
	TLS TLS `yaml:"tls"`

	// SASL authenticates them.
	SASL SASL `yaml:"sasl"`
}

// Topics says how topics are named, and how those that are missing are created.
// A topic that exists keeps its settings.
type Topics struct {
	// Prefix of the names of topics and consumer groups, for clusters that several
	// installations share.
	Prefix string `yaml:"prefix"`

	// Partitions that a topic is created with, by its name without the prefix; one
	// that is not named gets 4.
	Partitions map[string]int `yaml:"partitions"`

	// ReplicationFactor that topics are created with; 0 is the cluster's default.
	// From 3 on, two replicas have to be in sync for a write.
	ReplicationFactor int `yaml:"replication_factor"`

	// Retention that topics are created with.
	Retention Retention `yaml:"retention"`

	// MaxMessageBytes is the largest record batch: topics are created with it, and
	// what is sent is split to stay below it.
	MaxMessageBytes int64 `yaml:"max_message_bytes"`
}

// Retention says how long Kafka keeps messages, whether they were consumed or
// not.
type Retention struct {
	// Time that messages are kept at least; 0 is for ever.
	Time time.Duration `yaml:"time"`

	// Bytes per partition beyond which the oldest are removed; 0 is no limit.
	Bytes int64 `yaml:"bytes"`
}

// Producer configures appending.
type Producer struct {
	// Compression of record batches: none, gzip, snappy, lz4 or zstd. Batches of
	// payloads that are compressed already, as remote write's, are sent as they are.
	Compression string `yaml:"compression"`

	// MaxInFlightBytes is how many payload bytes may wait for Kafka; appends beyond
	// it are refused at once.
	MaxInFlightBytes int64 `yaml:"max_in_flight_bytes"`

	// Timeout after which an append that Kafka did not acknowledge is refused.
	Timeout time.Duration `yaml:"timeout"`
}

// Consumer configures reading.
type Consumer struct {
	// InstanceID makes this process a static member of its consumer group: started
	// again under the same id, within session_timeout, it has its partitions back
	// at once. Two processes with one id end the older one. Empty means that the
	// group waits for session_timeout after a crash.
	InstanceID string `yaml:"instance_id"`

	// SessionTimeout after which a consumer that is not heard of loses its
	// partitions to others. Brokers take 6s or more unless configured otherwise.
	SessionTimeout time.Duration `yaml:"session_timeout"`

	// RebalanceTimeout is how long the group waits for a member to give up a
	// partition.
	RebalanceTimeout time.Duration `yaml:"rebalance_timeout"`

	// TailBytes is how many payload bytes may wait in memory in decoded form, per
	// partition, for the consumer of the same process; it fetches and decodes
	// what is beyond.
	TailBytes int64 `yaml:"tail_bytes"`
}

// TLS configures encryption. Files are read again when they change, for connections
// that are made from then on.
type TLS struct {
	// Enabled turns it on.
	Enabled bool `yaml:"enabled"`

	// CAFile has the certificates that may have signed the brokers'; empty means
	// the system's.
	CAFile string `yaml:"ca_file"`

	// CertFile has the client's certificate, if brokers ask for one.
	CertFile string `yaml:"cert_file"`

	// KeyFile has the key to CertFile.
	KeyFile string `yaml:"key_file"`

	// ServerName that the brokers' certificates have to name, instead of the host
	// that is connected to.
	ServerName string `yaml:"server_name"`

	// InsecureSkipVerify takes any certificate: anybody in between can read and
	// write.
	InsecureSkipVerify bool `yaml:"insecure_skip_verify"`
}

// SASL configures authentication.
type SASL struct {
	// Mechanism is plain, scram-sha-256 or scram-sha-512; empty is none.
	Mechanism string `yaml:"mechanism"`

	// Username to authenticate as.
	Username string `yaml:"username"`

	// Password of the user.
	Password config.Secret `yaml:"password"`

	// PasswordFile is where Password was read from, and is read again.
	PasswordFile string `yaml:"-"`
}

// The SASL mechanisms.
const (
	mechanismPlain    = "plain"
	mechanismSCRAM256 = "scram-sha-256"
	mechanismSCRAM512 = "scram-sha-512"
)

const (
	defaultPartitions = 4
	maxPartitions     = 1024
	minMessageBytes   = 64 << 10
	maxMessageBytes   = 64 << 20
)

// DefaultConfig returns the configuration for brokers on this machine.
func DefaultConfig() Config {
	return Config{
		Brokers:  []string{"127.0.0.1:9092"},
		ClientID: "vedette",
		Topics: Topics{
			Retention:       Retention{Time: 7 * 24 * time.Hour},
			MaxMessageBytes: 4 << 20,
		},
		Producer: Producer{
			Compression:      "lz4",
			MaxInFlightBytes: 64 << 20,
			Timeout:          10 * time.Second,
		},
		Consumer: Consumer{
			SessionTimeout:   10 * time.Second,
			RebalanceTimeout: 30 * time.Second,
			TailBytes:        64 << 20,
		},
	}
}

// Validate names every value that makes no sense.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Brokers) == 0 {
		bad("brokers: got none, want at least one host:port")
	}
	for _, b := range c.Brokers {
		if _, port, err := net.SplitHostPort(b); err != nil || port == "" {
			bad("brokers: got %q, want host:port", b)
		}
	}
	c.Topics.validate(bad)
	if _, err := parseCompression(c.Producer.Compression); err != nil {
		bad("producer.compression: %w", err)
	}
	if c.Producer.MaxInFlightBytes < c.Topics.MaxMessageBytes {
		bad("producer.max_in_flight_bytes: got %d, want topics.max_message_bytes (%d) or more",
			c.Producer.MaxInFlightBytes, c.Topics.MaxMessageBytes)
	}
	if c.Producer.Timeout < 100*time.Millisecond {
		bad("producer.timeout: got %s, want 100ms or more", c.Producer.Timeout)
	}
	if c.Consumer.InstanceID != "" && !validName(c.Consumer.InstanceID) {
		bad("consumer.instance_id: got %q, want at most 200 letters, digits, '.', '_' or '-'", c.Consumer.InstanceID)
	}
	if c.Consumer.SessionTimeout < time.Second {
		bad("consumer.session_timeout: got %s, want 1s or more", c.Consumer.SessionTimeout)
	}
	if c.Consumer.RebalanceTimeout < time.Second {
		bad("consumer.rebalance_timeout: got %s, want 1s or more", c.Consumer.RebalanceTimeout)
	}
	if c.Consumer.TailBytes < 0 {
		bad("consumer.tail_bytes: got %d, want 0 or more", c.Consumer.TailBytes)
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		bad("tls: got one of cert_file and key_file, want both or none")
	}
	switch c.SASL.Mechanism {
	case "":
	case mechanismPlain, mechanismSCRAM256, mechanismSCRAM512:
		if c.SASL.Username == "" {
			bad("sasl.username: is empty")
		}
	default:
		bad("sasl.mechanism: got %q, want %q, %q or %q", c.SASL.Mechanism, mechanismPlain, mechanismSCRAM256, mechanismSCRAM512)
	}
	return errors.Join(errs...)
}

func (t *Topics) validate(bad func(format string, args ...any)) {
	if t.Prefix != "" && !validName(t.Prefix) {
		bad("topics.prefix: got %q, want letters, digits, '.', '_' or '-'", t.Prefix)
	}
	for _, name := range slices.Sorted(maps.Keys(t.Partitions)) {
		if !validName(name) {
			bad("topics.partitions: got topic %q, want letters, digits, '.', '_' or '-'", name)
		}
		if n := t.Partitions[name]; n < 1 || n > maxPartitions {
			bad("topics.partitions.%s: got %d, want 1 to %d", name, n, maxPartitions)
		}
	}
	if t.ReplicationFactor < 0 || t.ReplicationFactor > 32767 {
		bad("topics.replication_factor: got %d, want 0 to 32767", t.ReplicationFactor)
	}
	if t.Retention.Time < 0 {
		bad("topics.retention.time: got %s, want 0 or more", t.Retention.Time)
	}
	if t.Retention.Bytes < 0 {
		bad("topics.retention.bytes: got %d, want 0 or more", t.Retention.Bytes)
	}
	if t.MaxMessageBytes < minMessageBytes || t.MaxMessageBytes > maxMessageBytes {
		bad("topics.max_message_bytes: got %d, want %d to %d", t.MaxMessageBytes, minMessageBytes, maxMessageBytes)
	}
}

// partitions returns how many partitions a topic is created with.
func (t *Topics) partitions(name string) int {
	if n, ok := t.Partitions[name]; ok {
		return n
	}
	return defaultPartitions
}

// validName says whether Kafka takes s as a part of a topic's name.
func validName(s string) bool {
	return s != "" && len(s) <= 200 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

func parseCompression(name string) (compress.Compression, error) {
	switch name {
	case "none", "":
		return compress.None, nil
	case "gzip":
		return compress.Gzip, nil
	case "snappy":
		return compress.Snappy, nil
	case "lz4":
		return compress.Lz4, nil
	case "zstd":
		return compress.Zstd, nil
	}
	return 0, fmt.Errorf("got %q, want none, gzip, snappy, lz4 or zstd", name)
}

// files are the package tlsclient's.
func (t *TLS) files() tlsclient.Files {
	return tlsclient.Files{CA: t.CAFile, Cert: t.CertFile, Key: t.KeyFile, ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify}
}

// mechanism returns kafka-go's mechanism, nil if there is none. The password is
// taken as it is at each login.
func (s *SASL) mechanism() sasl.Mechanism {
	if s.Mechanism == "" {
		return nil
	}
	return &login{SASL: *s, password: config.NewLiveSecret(s.Password, s.PasswordFile)}
}

// login is a sasl.Mechanism.
type login struct {
	SASL
	password *config.LiveSecret
}

// Name implements sasl.Mechanism.
func (l *login) Name() string { return strings.ToUpper(l.Mechanism) }

// Start implements sasl.Mechanism.
func (l *login) Start(ctx context.Context) (sasl.StateMachine, []byte, error) {
	var m sasl.Mechanism
	var err error
	switch l.Mechanism {
	case mechanismSCRAM256:
		m, err = scram.Mechanism(scram.SHA256, l.Username, l.password.Reveal())
	case mechanismSCRAM512:
		m, err = scram.Mechanism(scram.SHA512, l.Username, l.password.Reveal())
	default:
		m = plain.Mechanism{Username: l.Username, Password: l.password.Reveal()}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("prepare sasl: %w", err)
	}
	return m.Start(ctx)
}
