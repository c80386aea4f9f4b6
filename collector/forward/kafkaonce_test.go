package forward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
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
	b, err := kafka.Open(t.Context(), c, []string{buffer.TopicLogs}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	d, next := openDoor(t, door.Options{Buffer: b, Recaller: b, MaxRecordBytes: int(b.MaxRecordBytes()), Plain: true})
	return &kafkaServer{b, d, next}
}

// post sends a request of an agent's.
func (s *kafkaServer) post(payload []byte, session, offsets, tried string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, otlpserver.LogsPath, bytes.NewReader(payload))
	for k, v := range map[string]string{
		"Content-Type": "application/x-protobuf", door.HeaderFrom: "embedded/x/vedette.logs/0", door.HeaderSession: session,
		door.HeaderOffsets: offsets, door.HeaderTried: tried,
	} {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	s.next.ServeHTTP(w, r)
	return w
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

// readTopic returns what the log records in the topic say, without repetitions.
func readTopic(t *testing.T, b *kafkatest.Broker) (all []string, repeated int) {
	t.Helper()
	messages, repeated := b.ReadForwarded(t, buffer.TopicLogs)
	for _, m := range messages {
		payload := m.Value
		if slices.ContainsFunc(m.Headers, func(h kafkago.Header) bool { return h.Key == "vedette.format" && string(h.Value) == "8" }) {
			var err error
			if payload, err = s2.Decode(nil, payload); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, bodies(payload)...)
	}
	return all, repeated
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
			mu.Lock()
			wait := time.Duration(onTheWay.IntN(400)) * time.Millisecond
			mu.Unlock()
			late.Go(func() {
				<-time.After(wait)
				serve(httptest.NewRecorder(), context.Background())
			})
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
	got, repeated := readTopic(t, broker)
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
	got, repeated := readTopic(t, broker)
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

// A request that is longer than one from the same offset on which is there is asked
// for in two; a repetition is found by another server, within the partition that it
// went to, in its session alone, and by when it was tried.
func TestKafkaCut(t *testing.T) {
	broker := kafkatest.Start(t, kafkatest.Options{})
	config := onceKafkaConfig(broker, 3)
	servers := []*kafkaServer{openKafkaServer(t, config), openKafkaServer(t, config)}
	for _, s := range servers {
		defer s.close()
	}
	message := func(from, to int) (payload []byte) {
		for i := from; i <= to; i++ {
			payload = append(payload, resourceLog(fmt.Sprint(i), fmt.Sprint("service-", i%7))...)
		}
		return payload
	}
	for i, c := range []struct {
		server, first, last int
		session, tried      string
		code                int
		cut, position       string
	}{
		{0, 0, 9, "1", "", 200, "", "9"},
		{1, 0, 9, "1", "1000-0", 200, "", "9"},
		{1, 0, 12, "1", "1000-0", 409, "9", ""},
		{1, 10, 12, "1", "1000-0", 200, "", "12"},
		{0, 10, 12, "1", "5000-1000", 200, "", "12"},
		{0, 5, 12, "1", "5000-1000", 409, "9", ""}, // 10 was sent once 5 to 9 were there
		{0, 5, 9, "1", "5000-1000", 200, "", "9"},
		{0, 13, 13, "1", "5000-1000", 200, "", "13"},
		{1, 20, 21, "2", "", 200, "", "21"},                  // of another session:
		{1, 0, 0, "2", "1000-0", 200, "", "0"},               // before what is there, so it was there or was dropped
		{0, 30, 30, "3", "99999999-99999998", 200, "", "30"}, // long ago
		{0, 31, 31, "3", "1-2", 415, "", ""},
		{0, 31, 31, "3", "x", 415, "", ""},
	} {
		w := servers[c.server].post(message(c.first, c.last), c.session, fmt.Sprintf("%d-%d", c.first, c.last), c.tried)
		if code := w.Code; code != c.code && (c.code != 415 || code/100 != 4) || w.Header().Get(door.HeaderCut) != c.cut || w.Header().Get(door.HeaderPosition) != c.position {
			t.Errorf("request %d: got %d %s, cut %q, position %q; want %+v", i, code, w.Body, w.Header().Get(door.HeaderCut), w.Header().Get(door.HeaderPosition), c)
		}
	}
	got, repeated := readTopic(t, broker)
	slices.Sort(got)
	want := append(numbers(0, 14), "20", "21", "30")
	slices.Sort(want)
	if repeated != 0 {
		t.Errorf("got %d messages that repeat others, want none", repeated)
	}
	wantBodies(t, got, want)
}

// Messages of which two parts would go to one partition are taken one by one. So when a
// server has died between two such parts, an agent that has divided its queue otherwise is
// led to the message that they are of, and gets the missing one in.
func TestKafkaSharedPartition(t *testing.T) {
	broker := kafkatest.Start(t, kafkatest.Options{})
	config := onceKafkaConfig(broker, 1)
	config.Topics.MaxMessageBytes = 256 << 10
	s := openKafkaServer(t, config)
	defer s.close()
	random := rand.New(rand.NewPCG(3, 4))
	large := func(body string) []byte { // half of what goes into one record
		noise := make([]byte, 100<<10)
		for i := range noise {
			noise[i] = 'a' + byte(random.UintN(26))
		}
		return resourceLog(body+" "+string(noise), "service-"+body)
	}
	both := append(large("5a"), append(large("5b"), large("5c")...)...)
	_, err := s.buf.Append(t.Context(), buffer.TopicLogs, 0, []buffer.Record{{Tenant: "default", Format: buffer.FormatOTLPLogs, Payload: large("before"),
		From: &buffer.Position{Sender: "default/embedded/x/vedette.logs/0", Session: 1, First: 5, Last: 5, Part: 0, Parts: 2}}})
	if err != nil {
		t.Fatal(err)
	}
	four, six := resourceLog("4", "a"), resourceLog("6", "a")
	for i, c := range []struct {
		payload        []byte
		offsets, tried string
		code           int
		cut            string
	}{
		{slices.Concat(four, both, six), "4-6", "1000-0", 409, "5"}, // too large
		{slices.Concat(four, both), "4-5", "1000-0", 409, "4"},
		{four, "4-4", "1000-0", 200, ""}, // was there before 5 was sent
		{both, "5-5", "1000-0", 200, ""},
		{both, "5-5", "1000-0", 200, ""},
		{slices.Concat(four, six), "4-6", "1000-0", 409, "4"},
		{six, "6-6", "1000-0", 200, ""},
		{slices.Concat(both, six), "7-8", "", 409, "7"},
		{both, "7-7", "", 200, ""},
		{slices.Concat(six, six), "6-8", "1000-0", 409, "6"},
		{slices.Concat(six, six), "7-8", "1000-0", 409, "7"},
		{six, "8-8", "1000-0", 200, ""},
	} {
		w := s.post(c.payload, "1", c.offsets, c.tried)
		if w.Code != c.code || w.Header().Get(door.HeaderCut) != c.cut {
			t.Errorf("request %d: got %d %s, cut %q; want %d, %q", i, w.Code, w.Body, w.Header().Get(door.HeaderCut), c.code, c.cut)
		}
	}
	got, repeated := readTopic(t, broker)
	for i := range got {
		got[i], _, _ = strings.Cut(got[i], " ")
	}
	if repeated != 0 {
		t.Errorf("got %d messages that repeat others, want none", repeated)
	}
	// The record before stands for the first part of 5.
	if want := []string{"before", "5b", "5c", "6", "5a", "5b", "5c", "6"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A second forwarder of a queue knows what the first one has tried.
func TestTriedOutlivesForwarder(t *testing.T) {
	q := openQueue(t, vfs.NewMem(), nil)
	defer q.Close()
	addLogs(t, q, 0, 3, 100)
	k := laneKey{buffer.TopicLogs, 0}
	messages := []buffer.Message{{Offset: 0}, {Offset: 1}}
	if tries := q.tried(k).of(messages); !tries.Never() {
		t.Errorf("before: got %v, want never", tries)
	}
	q.tried(k).note(messages, time.Now(), &CutError{0})
	q.tried(k).note(messages, time.Now(), &RetryError{Unsent: true})
	if tries := q.tried(k).of(messages); !tries.Never() {
		t.Errorf("after what was not taken: got %v, want never", tries)
	}
	q.tried(k).note(messages, time.Now(), &RetryError{})
	if tries := q.tried(k).of(messages[1:]); tries.Never() {
		t.Error("after an attempt: got never")
	}
	if tries := q.tried(k).of([]buffer.Message{{Offset: 2}}); !tries.Never() {
		t.Errorf("behind it: got %v, want never", tries)
	}
}
