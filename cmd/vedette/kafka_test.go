package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/buffer/kafka"
	"github.com/vedette-io/vedette/ingest/buffer/kafkatest"
)

// kafkaConfig writes a configuration that uses the broker, with short times.
func kafkaConfig(t *testing.T, b *kafkatest.Broker) string {
	t.Helper()
	text := fmt.Sprintf(`
scrape_configs: []
otlp: {grpc: {listen: ""}, http: {listen: ""}}
store: {flush_samples: 1000, flush_interval: 1s}
consumer: {commit_interval: 100ms}
buffer:
  kind: kafka
  kafka:
    brokers: [%q]
    topics: {partitions: {vedette.metrics: 4}}
    producer: {timeout: 2s}
    consumer: {session_timeout: 6s}
`, b.Addr())
	file := filepath.Join(t.TempDir(), "vedette.yml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// loader writes one series after the other sample to a server that may die, and
// remembers what was acknowledged.
type loader struct {
	name  string
	acked map[int64]float64
	next  int64
}

func (l *loader) run(ctx context.Context, t *testing.T, url func() string) {
	for ctx.Err() == nil {
		at := l.next
		l.next++
		for ctx.Err() == nil { // the same sample until it is acknowledged
			p := process{url: url()}
			_, err := p.post(context.WithoutCancel(ctx), bytes.NewReader(encodeWrite(t, testSeries(l.name, at, float64(at)))))
			if err == nil {
				l.acked[at] = float64(at)
				break
			}
		}
	}
}

// Two stores share a topic. One is killed and comes back, then the broker is
// killed and comes back; meanwhile both take writes. In the end everything that
// was acknowledged is in one of the stores, with its value.
func TestE2EKafkaTakeover(t *testing.T) {
	skipShort(t)
	broker := kafkatest.Start(t, kafkatest.Options{})
	config := kafkaConfig(t, broker)
	dirs := []string{t.TempDir(), t.TempDir()}
	var mu sync.Mutex
	stores := []*process{start(t, dirs[0], "--config", config), start(t, dirs[1], "--config", config)}
	url := func(i int) func() string {
		return func() string { mu.Lock(); defer mu.Unlock(); return stores[i].url }
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var loaders []*loader
	var wg sync.WaitGroup
	for i := range 4 {
		l := &loader{name: fmt.Sprintf("e2e_kafka_%d", i), acked: map[int64]float64{}, next: time.Now().Add(-time.Hour).UnixMilli()}
		loaders = append(loaders, l)
		wg.Go(func() { l.run(ctx, t, url(i%2)) })
	}
	owned := func(p *process) string {
		_, text := p.get("/metrics")
		for line := range strings.Lines(text) {
			if v, ok := strings.CutPrefix(line, `vedette_buffer_kafka_assigned_partitions{group="vedette.store",topic="vedette.metrics"} `); ok {
				return strings.TrimSpace(v)
			}
		}
		return ""
	}
	eventually(t, "both stores have partitions", func() bool { return owned(stores[0]) == "2" && owned(stores[1]) == "2" })

	stores[0].kill()
	eventually(t, "the other store takes over", func() bool { return owned(stores[1]) == "4" })
	again := start(t, dirs[0], "--config", config)
	mu.Lock()
	stores[0] = again
	mu.Unlock()
	eventually(t, "the partitions are shared again", func() bool { return owned(stores[0]) == "2" && owned(stores[1]) == "2" })

	if err := broker.Kill(); err != nil {
		t.Fatal(err)
	}
	body := bytes.NewReader(encodeWrite(t, testSeries("e2e_refused", time.Now().UnixMilli(), 1)))
	resp, err := stores[1].post(t.Context(), body)
	if err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("write without a broker: got %v, want 503 with Retry-After", err)
	}
	if err := broker.Restart(); err != nil {
		t.Fatal(err)
	}
	before := time.Now().UnixMilli()
	eventually(t, "writes go on", func() bool {
		_, err := stores[1].post(t.Context(), bytes.NewReader(encodeWrite(t, testSeries("e2e_again", before, 1))))
		return err == nil
	})
	stop()
	wg.Wait()

	overlap, total := 0, 0
	for _, l := range loaders {
		var union map[int64]float64
		eventually(t, "every acknowledged sample of "+l.name, func() bool {
			union, overlap = map[int64]float64{}, 0
			for _, p := range stores {
				for _, s := range p.queryMatrix(l.name + "[2h]") {
					if v, ok := union[int64(s.Timestamp)]; ok {
						overlap++
						if v != float64(s.Value) {
							t.Fatalf("%s at %d: %v in one store, %v in the other", l.name, s.Timestamp, v, s.Value)
						}
					}
					union[int64(s.Timestamp)] = float64(s.Value)
				}
			}
			for at := range l.acked {
				if _, ok := union[at]; !ok {
					return false
				}
			}
			return true
		})
		// What was sent last may be there without an acknowledgement.
		maps.DeleteFunc(union, func(at int64, _ float64) bool { _, ok := l.acked[at]; return !ok && at == l.next-1 })
		if !maps.Equal(union, l.acked) {
			t.Errorf("%s: got %d samples, want the %d acknowledged", l.name, len(union), len(l.acked))
		}
		total += len(l.acked)
	}
	t.Logf("%d samples acknowledged; of the last series %d are in both stores", total, overlap)
	for _, p := range stores {
		p.stop()
	}
}

// A message that nobody can decode is set aside and shown, and its partition goes
// on.
func TestE2EKafkaPoison(t *testing.T) {
	skipShort(t)
	broker := kafkatest.Start(t, kafkatest.Options{})
	p := start(t, t.TempDir(), "--config", kafkaConfig(t, broker))
	cfg := kafka.DefaultConfig()
	cfg.Brokers = []string{broker.Addr()}
	b, err := kafka.Open(t.Context(), cfg, []string{buffer.TopicMetrics}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	now := time.Now().UnixMilli()
	for partition := range b.Partitions(buffer.TopicMetrics) {
		_, err := b.Append(t.Context(), buffer.TopicMetrics, partition, []buffer.Record{
			{Tenant: "default", Format: buffer.FormatOTLP, Payload: []byte("\xff\xff poison")},
			{Tenant: "default", Format: buffer.FormatRemoteWriteV1, Payload: encodeWrite(t, testSeries(fmt.Sprint("e2e_behind_", partition), now, 1))},
		})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "what is behind the poison", func() bool { return len(p.queryMatrix(fmt.Sprintf("e2e_behind_%d[1h]", partition))) == 1 })
	}
	if _, body := p.get("/debug/set-aside"); strings.Count(body, "ExportMetricsServiceRequest") != b.Partitions(buffer.TopicMetrics) {
		t.Errorf("set aside: got %s, want one message of each partition", body)
	}
	if _, body := p.get("/metrics"); !strings.Contains(body, `vedette_ingest_messages_set_aside_total{topic="vedette.metrics"} 4`) {
		t.Error("the messages are not counted")
	}
	p.stop()
}
