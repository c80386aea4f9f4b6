package peer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vedette-io/vedette/ingest/buffer/kafka"
	"github.com/vedette-io/vedette/ingest/buffer/kafkatest"
)

// Broker is a running Kafka broker: a process of its own, whose cost is counted
// apart.
type Broker struct {
	*kafkatest.Broker
	dir string
}

// StartBroker starts a broker with its data in dir, which is emptied first.
func StartBroker(dir string) (*Broker, error) {
	if why := kafkatest.Missing(); why != "" {
		return nil, fmt.Errorf("start broker: %s", why)
	}
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return nil, fmt.Errorf("start broker: %w", err)
	}
	b, err := kafkatest.Run(dir, kafkatest.Options{Optimize: true})
	if err != nil {
		return nil, err
	}
	return &Broker{b, dir}, nil
}

// Config is the section of Vedette's configuration that makes this broker its
// buffer, with more keys of the section kafka, a line each.
func (b *Broker) Config(more ...string) string {
	text := fmt.Sprintf("buffer:\n  kind: kafka\n  kafka:\n    brokers: [%q]\n", b.Addr())
	for _, line := range more {
		text += "    " + line + "\n"
	}
	return text
}

// ClientConfig configures a producer of this process.
func (b *Broker) ClientConfig() kafka.Config {
	c := kafka.DefaultConfig()
	c.Brokers = []string{b.Addr()}
	return c
}

// CPU returns the CPU time that the broker has used so far, since it was last
// started.
func (b *Broker) CPU() (time.Duration, error) { return cpuTime(b.Pid()) }

// Memory returns the memory use of the broker.
func (b *Broker) Memory() (Memory, error) { return memory(b.Pid()) }

// LogSize measures what the broker keeps of its topics.
func (b *Broker) LogSize() (Disk, error) { return DiskUse(filepath.Join(b.dir, "log")) }

// Version is what the name of the broker's jar says.
func (b *Broker) Version() string {
	const before, after = "kafka-clients-", ".jar"
	dir, _ := kafkatest.Jars()
	jars, _ := filepath.Glob(filepath.Join(dir, before+"*"+after))
	if len(jars) == 0 {
		return "unknown"
	}
	return strings.TrimSuffix(strings.TrimPrefix(filepath.Base(jars[0]), before), after)
}
