package kafka

import (
	"strings"
	"testing"
	"time"
)

func TestDefaultConfig(t *testing.T) {
	cfg := DefaultConfig()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
}

func TestValidateNamesEveryBadKey(t *testing.T) {
	cfg := Config{
		Brokers: []string{"nohost", ":"},
		Topics: Topics{
			Prefix: "a/b", Partitions: map[string]int{"x": 0, "y z": 1}, ReplicationFactor: -1,
			Retention: Retention{Time: -1, Bytes: -1}, MaxMessageBytes: 1,
		},
		Producer: Producer{Compression: "brotli", Timeout: time.Millisecond},
		TLS:      TLS{CertFile: "x"},
		SASL:     SASL{Mechanism: "gssapi"},
		Consumer: Consumer{InstanceID: "a b", TailBytes: -1},
	}
	err := cfg.Validate()
	if err == nil {
		t.Fatal("got no error")
	}
	for _, key := range []string{
		`"nohost"`, `":"`, "topics.prefix", "topics.partitions.x", `"y z"`, "topics.replication_factor", "topics.retention.time",
		"topics.retention.bytes", "topics.max_message_bytes", "producer.compression", "producer.max_in_flight_bytes",
		"producer.timeout", "consumer.instance_id", "consumer.session_timeout", "consumer.rebalance_timeout", "consumer.tail_bytes", "tls:", "sasl.mechanism",
	} {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("%s is not named in: %v", key, err)
		}
	}
}
