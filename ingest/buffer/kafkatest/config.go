package kafkatest

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const logConfig = `status = error
rootLogger.level = error
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %p %c{1}: %m%n
`

func (b *Broker) configFile() string { return filepath.Join(b.dir, "server.properties") }

func (b *Broker) logDir() string { return filepath.Join(b.dir, "log") }

// config returns the broker's properties. The coordinator's topics are small so
// that start, restart and joining a group are quick.
func (b *Broker) config() string {
	p := map[string]string{
		"process.roles":                                    "broker,controller",
		"node.id":                                          strconv.Itoa(b.id),
		"controller.quorum.voters":                         b.voters,
		"controller.listener.names":                        "CONTROLLER",
		"inter.broker.listener.name":                       "PLAINTEXT",
		"log.dirs":                                         b.logDir(),
		"offsets.topic.replication.factor":                 "1",
		"offsets.topic.num.partitions":                     "1",
		"transaction.state.log.replication.factor":         "1",
		"transaction.state.log.min.isr":                    "1",
		"transaction.state.log.num.partitions":             "1",
		"share.coordinator.state.topic.replication.factor": "1",
		"share.coordinator.state.topic.min.isr":            "1",
		"share.coordinator.state.topic.num.partitions":     "1",
		"group.initial.rebalance.delay.ms":                 "0",
		"group.min.session.timeout.ms":                     "1000",
		"auto.create.topics.enable":                        "false",
		"num.network.threads":                              "2",
		"num.io.threads":                                   "2",
		"log.cleaner.dedupe.buffer.size":                   "2097152",
		// One that was killed waits, when it starts again, for its own session to end;
		// one that lives is fenced, and does nothing, where the machine is busy for as long.
		"broker.session.timeout.ms":    "6000",
		"broker.heartbeat.interval.ms": "500",
	}
	listeners := []string{"PLAINTEXT://" + address(b.ports.plain), "CONTROLLER://" + address(b.ports.controller)}
	protocols := []string{"PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT"}
	if b.opts.Secure {
		for _, l := range []struct {
			name     Listener
			protocol string
		}{{TLS, "SSL"}, {SASL, "SASL_PLAINTEXT"}, {SASLTLS, "SASL_SSL"}} {
			listeners = append(listeners, string(l.name)+"://"+b.SecureAddr(l.name))
			protocols = append(protocols, string(l.name)+":"+l.protocol)
		}
		b.secure(p)
	}
	p["listeners"] = strings.Join(listeners, ",")
	p["listener.security.protocol.map"] = strings.Join(protocols, ",")
	maps.Copy(p, b.opts.Properties)
	var s strings.Builder
	for _, k := range slices.Sorted(maps.Keys(p)) {
		fmt.Fprintf(&s, "%s=%s\n", k, p[k])
	}
	return s.String()
}

func (b *Broker) secure(p map[string]string) {
	p["ssl.keystore.type"] = "PEM"
	p["ssl.keystore.location"] = b.certs.keystore
	p["ssl.truststore.type"] = "PEM"
	p["ssl.truststore.location"] = b.certs.CAFile
	p["ssl.client.auth"] = "requested"
	p["sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
	var users strings.Builder
	for _, name := range slices.Sorted(maps.Keys(b.opts.Users)) {
		fmt.Fprintf(&users, " user_%s=%q", name, b.opts.Users[name])
	}
	for _, l := range []Listener{SASL, SASLTLS} {
		prefix := "listener.name." + strings.ToLower(string(l)) + "."
		p[prefix+"plain.sasl.jaas.config"] = "org.apache.kafka.common.security.plain.PlainLoginModule required" + users.String() + ";"
		for _, m := range []string{"scram-sha-256", "scram-sha-512"} {
			p[prefix+m+".sasl.jaas.config"] = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
		}
	}
}

// clusterID returns a new id in Kafka's form.
func clusterID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[0] &= 0x7f // the tool would take a leading dash for a flag
	return base64.RawURLEncoding.EncodeToString(b[:])
}
