package forward

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/buffer/kafka"
	"github.com/vedette-io/vedette/ingest/buffer/kafkatest"
	"github.com/vedette-io/vedette/internal/config"
	"github.com/vedette-io/vedette/internal/vfs"
)

const patience = time.Minute

// Over a real connection: TLS with a certificate of its own, the token and the
// headers, and every compression, on one connection.
func TestTLSAndHeaders(t *testing.T) {
	for _, compression := range []string{compressionSnappy, compressionGzip, compressionZstd, compressionNone} {
		t.Run(compression, func(t *testing.T) {
			var mu sync.Mutex // guards what follows
			var faults []string
			got := make(chan struct{}, 100)
			peers := map[string]bool{}
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				peers[r.RemoteAddr] = true
				want := map[string]string{
					"Authorization": "Bearer secret", "X-Own": "value", "Content-Type": "application/x-protobuf",
					"X-Scope-Orgid": "tenant", "Content-Encoding": strings.TrimPrefix(compression, compressionNone),
				}
				for k, v := range want {
					if r.Header.Get(k) != v {
						faults = append(faults, fmt.Sprintf("%s: got %q, want %q", k, r.Header.Get(k), v))
					}
				}
				got <- struct{}{}
			}))
			defer server.Close()
			ca := filepath.Join(t.TempDir(), "ca.pem")
			if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
				t.Fatal(err)
			}
			c := DefaultConfig()
			c.Endpoint, c.TLS.CAFile, c.BearerToken, c.Compression = server.URL, ca, "secret", compression
			c.Headers = map[string]config.Secret{"X-Own": "value"}
			q := openQueue(t, vfs.NewMem(), nil)
			defer q.Close()
			stop := forwarding(t, q, c, nil)
			for i := range 5 {
				addLogs(t, q, i, i+1, 0)
				<-got
			}
			stop()
			mu.Lock()
			defer mu.Unlock()
			if len(faults) > 0 || len(peers) != 1 {
				t.Errorf("got faults %v, %d connections; want none and one", faults, len(peers))
			}
		})
	}
}

// Messages are produced to a real broker as a server's doors would: same topics,
// tenants, formats and payloads, in order, once the broker is there.
func TestKafka(t *testing.T) {
	broker := kafkatest.Start(t, kafkatest.Options{})
	c := DefaultConfig()
	c.Kafka.Brokers = []string{broker.Addr()}
	c.Kafka.Topics.Partitions = map[string]int{buffer.TopicLogs: 3}
	c.BatchBytes = 4000
	q := openQueue(t, vfs.NewMem(), nil)
	defer q.Close()
	const n = 300
	addLogs(t, q, 0, n, 100)
	if err := q.Add(t.Context(), "other", buffer.FormatRemoteWriteV1, []byte("as it came")); err != nil {
		t.Fatal(err)
	}
	stop := forwarding(t, q, c, nil)
	defer stop()

	k, err := kafka.Open(t.Context(), c.Kafka, Topics(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	got := readKafka(t, k, buffer.TopicLogs, n)
	var all []string
	parts := map[int]bool{}
	for _, m := range got {
		if m.Tenant != "tenant" || m.Format != buffer.FormatOTLPLogs {
			t.Errorf("message: got tenant %q, format %d", m.Tenant, m.Format)
		}
		all = append(all, bodies(m.Payload)...)
		parts[m.partition] = true
	}
	wantBodies(t, all, numbers(0, n))
	if len(parts) != 1 {
		t.Errorf("a partition of the queue is in %d of Kafka, want 1", len(parts))
	}
	if m := readKafka(t, k, buffer.TopicMetrics, 1)[0]; m.Tenant != "other" || m.Format != buffer.FormatRemoteWriteV1 || string(m.Payload) != "as it came" {
		t.Errorf("metrics: got %+v", m)
	}
}

type kafkaMessage struct {
	buffer.Record
	partition int
}

// readKafka reads n messages of a topic.
func readKafka(t *testing.T, k *kafka.Buffer, topic string, n int) (all []kafkaMessage) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var mu sync.Mutex // guards all
	err := k.Consume(ctx, "test", topic, func(ctx context.Context, c buffer.Claim) error {
		for {
			messages, err := c.Next(ctx)
			if err != nil {
				return err
			}
			mu.Lock()
			for _, m := range messages {
				m.Payload = []byte(string(m.Payload))
				all = append(all, kafkaMessage{m.Record, c.Partition()})
			}
			if len(all) >= n {
				cancel()
			}
			mu.Unlock()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != n {
		t.Fatalf("%s: got %d messages, want %d", topic, len(all), n)
	}
	return all
}
