package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/client_golang/prometheus"
	kafkago "github.com/segmentio/kafka-go"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/buffer/kafka"
	"github.com/vedette-io/vedette/ingest/buffer/kafkatest"
	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/otlpserver"
	"github.com/vedette-io/vedette/internal/vfs"
)

// kafkaServer is a server that takes logs into Kafka. It knows nothing when it
// starts.
type kafkaServer struct {
	buf  *kafka.Buffer
	door *door.Door
	next http.Handler
}

func openKafkaServer(t *testing.T, c kafka.Config) *kafkaServer {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	b, err := kafka.Open(t.Context(), c, []string{buffer.TopicLogs}, quiet, nil)
	if err != nil {
		t.Fatal(err)
	}
	dc := door.DefaultConfig()
	dc.StoreTimeout = time.Millisecond
	d, err := door.New(door.Options{Buffer: b, Recaller: b, Config: dc, Formats: testFormats(), MaxRecordBytes: int(b.MaxRecordBytes()), Plain: true, Logger: quiet, Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	entry, err := d.Entry("otlp", door.EntryConfig{})
	if err != nil {
		t.Fatal(err)
	}
	o, err := otlpserver.Open(t.Context(), otlpserver.Options{Entry: entry, Logger: quiet, Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	return &kafkaServer{b, d, d.Forwarded(o.Handler(otlpserver.LogsPath))}
}

func (s *kafkaServer) close() {
	s.door.Close()
	_ = s.buf.Close()
}

func onceKafkaConfig(b *kafkatest.Broker, partitions int) kafka.Config {
	c := kafka.DefaultConfig()
	c.Brokers = []string{b.Addr()}
	c.Topics.Partitions = map[string]int{buffer.TopicLogs: partitions}
	c.Producer.Timeout = 4 * time.Second
	return c
}

// readTopic reads a topic as the documentation tells other consumers to: of one
// vedette.from and session in a partition, what does not come behind the last one
// that counted is a repetition.
func readTopic(t *testing.T, addr, topic string, partitions int) (bodiesOf []string, repeated int) {
	t.Helper()
	client := &kafkago.Client{Addr: kafkago.TCP(addr), Timeout: patience}
	for p := range partitions {
		offsets, err := client.ListOffsets(t.Context(), &kafkago.ListOffsetsRequest{Topics: map[string][]kafkago.OffsetRequest{topic: {kafkago.LastOffsetOf(p)}}})
		if err != nil {
			t.Fatal(err)
		}
		end := offsets.Topics[topic][0].LastOffset
		r := kafkago.NewReader(kafkago.ReaderConfig{Brokers: []string{addr}, Topic: topic, Partition: p, MaxBytes: 16 << 20, MaxWait: 100 * time.Millisecond})
		type place struct{ first, last, part int64 }
		newest := map[string]place{}
		for at := int64(0); at < end; {
			m, err := r.ReadMessage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			at = m.Offset + 1
			header := map[string]string{}
			for _, h := range m.Headers {
				header[h.Key] = string(h.Value)
			}
			var session uint64
			var now place
			var parts int64
			if _, err := fmt.Sscanf(header["vedette.position"], "%d %d-%d %d/%d", &session, &now.first, &now.last, &now.part, &parts); err != nil {
				t.Fatalf("vedette.position: got %q: %v", header["vedette.position"], err)
			}
			key := fmt.Sprint(header["vedette.from"], " ", session)
			before, known := newest[key]
			if known && now.first <= before.last && (now.first != before.first || now.last != before.last || now.part <= before.part) {
				repeated++
				continue
			}
			newest[key] = now
			payload := m.Value
			if header["vedette.format"] == "8" {
				if payload, err = s2.Decode(nil, payload); err != nil {
					t.Fatal(err)
				}
			}
			bodiesOf = append(bodiesOf, bodies(payload)...)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	return bodiesOf, repeated
}

// wantOnce checks that each number is there once.
func wantOnce(t *testing.T, got []string, n int) {
	t.Helper()
	seen := map[string]int{}
	for _, b := range got {
		seen[b]++
	}
	wrong := 0
	for _, b := range numbers(0, n) {
		if seen[b] != 1 {
			if wrong++; wrong <= 10 {
				t.Errorf("record %s: got it %d times, want once", b, seen[b])
			}
		}
	}
	if wrong > 0 || len(got) != n {
		t.Errorf("got %d records, %d of them not once; want %d", len(got), wrong, n)
	}
}

// spreadLogs adds log records of many resources, which a server divides over
// partitions.
func spreadLogs(t *testing.T, q *Queue, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := q.Add(context.Background(), "tenant", buffer.FormatOTLPLogs, resourceLog(fmt.Sprint(i), fmt.Sprint("service-", i%7))); err != nil {
			t.Fatal(err)
		}
	}
}

// Two servers on one topic, which know nothing of each other and forget all that
// they know; an agent that dies and that asks now the one, now the other; answers
// that are lost; requests that a server still works on while the agent, or the one
// after it, asks the other; and a broker that is killed: by the rule for readers, every record is
// in the topic once.
func TestOnceKafka(t *testing.T) {
	broker := kafkatest.Start(t, kafkatest.Options{})
	const partitions = 3
	config := onceKafkaConfig(broker, partitions)
	const seed = 5
	random := rand.New(rand.NewPCG(seed, 2))
	var mu sync.Mutex // guards what follows
	onTheWay := rand.New(rand.NewPCG(seed, 1))
	servers := []*kafkaServer{openKafkaServer(t, config), openKafkaServer(t, config)}
	defer func() {
		for _, s := range servers {
			s.close()
		}
	}()
	var late sync.WaitGroup
	handle := func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		which, chance := onTheWay.IntN(2), onTheWay.IntN(12)
		server := servers[which]
		mu.Unlock()
		body := bodyOf(r)
		serve := func(w http.ResponseWriter, ctx context.Context) {
			server.next.ServeHTTP(w, body(ctx))
		}
		switch {
		case chance == 0:
			panic(errors.New("lost on the way there"))
		case chance < 4: // the server is slow, the agent does not wait
			late.Go(func() { serve(httptest.NewRecorder(), context.Background()) })
			panic(errors.New("given up"))
		case chance == 4: // the server dies while it works
			late.Go(func() { serve(httptest.NewRecorder(), context.Background()) })
			fresh := openKafkaServer(t, config)
			mu.Lock()
			old := servers[which]
			servers[which] = fresh
			mu.Unlock()
			late.Go(old.close)
			panic(errors.New("the server has died"))
		}
		serve(w, r.Context())
		if chance < 7 {
			panic(errors.New("lost on the way back"))
		}
	}
	c := DefaultConfig()
	c.BatchBytes = 3000
	c.MaxBackoff = 200 * time.Millisecond
	agent := vfs.NewMem()
	next := 0
	for round := range 8 {
		q := openQueue(t, agent, nil)
		stop := forwarding(t, q, c, testHTTP(t, c, handle))
		for range 1 + random.IntN(4) {
			n := 1 + random.IntN(60)
			spreadLogs(t, q, next, next+n)
			next += n
			<-time.After(time.Duration(random.IntN(300)) * time.Millisecond)
		}
		if round%3 == 2 {
			if err := broker.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := broker.Restart(); err != nil {
				t.Fatal(err)
			}
		}
		killed := agent.CrashClone(random.Uint64())
		stop()
		_ = q.Close()
		agent = killed
	}
	q := openQueue(t, agent, nil)
	defer q.Close()
	stop := forwarding(t, q, c, testHTTP(t, c, handle))
	waitDelivered(t, q, int64(next))
	stop()
	late.Wait()
	got, repeated := readTopic(t, broker.Addr(), buffer.TopicLogs, partitions)
	t.Logf("%d records, %d messages that the rule drops", next, repeated)
	wantOnce(t, got, next)
}

// The same with an agent that produces to Kafka itself.
func TestOnceToKafka(t *testing.T) {
	broker := kafkatest.Start(t, kafkatest.Options{})
	const partitions = 3
	random := rand.New(rand.NewPCG(7, 2))
	c := DefaultConfig()
	c.Kafka = onceKafkaConfig(broker, partitions)
	c.Kafka.Producer.Timeout = time.Second
	c.BatchBytes = 4000
	c.MaxBackoff = 200 * time.Millisecond
	agent := vfs.NewMem()
	next := 0
	for round := range 6 {
		q := openQueue(t, agent, nil)
		stop := forwarding(t, q, c, nil)
		for range 1 + random.IntN(4) {
			n := 1 + random.IntN(100)
			addLogs(t, q, next, next+n, 100)
			next += n
			<-time.After(time.Duration(random.IntN(200)) * time.Millisecond)
		}
		if round%2 == 1 {
			if err := broker.Kill(); err != nil {
				t.Fatal(err)
			}
			addLogs(t, q, next, next+50, 100)
			next += 50
			if err := broker.Restart(); err != nil {
				t.Fatal(err)
			}
		}
		killed := agent.CrashClone(random.Uint64())
		stop()
		_ = q.Close()
		agent = killed
	}
	q := openQueue(t, agent, nil)
	defer q.Close()
	stop := forwarding(t, q, c, nil)
	waitDelivered(t, q, int64(next))
	stop()
	got, repeated := readTopic(t, broker.Addr(), buffer.TopicLogs, partitions)
	t.Logf("%d records, %d messages that the rule drops", next, repeated)
	wantOnce(t, got, next)
	sorted := true
	for i := 1; i < len(got); i++ {
		sorted = sorted && strings.Compare(fmt.Sprintf("%09s", got[i-1]), fmt.Sprintf("%09s", got[i])) < 0
	}
	if !sorted {
		t.Error("the records are not in order")
	}
}

// waitDelivered waits until all of the queue's logs below an offset are delivered.
func waitDelivered(t *testing.T, q *Queue, next int64) {
	t.Helper()
	for deadline := time.Now().Add(2 * patience); time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		if at, err := q.log.CommittedBy(group, buffer.TopicLogs, 0); err != nil || at >= next {
			return
		}
	}
	t.Fatal("the queue is not delivered")
}
