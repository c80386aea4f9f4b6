package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/buffer/kafkatest"
)

// balancer hands each request to one of several servers, which come and go, and
// loses answers when it is told to.
type balancer struct {
	mu     sync.Mutex // guards what follows
	random *rand.Rand
	urls   []string
	lossy  bool
}

func (b *balancer) set(i int, url string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.urls[i] = url
}

func (b *balancer) lose(lossy bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lossy = lossy
}

// ServeHTTP implements http.Handler.
func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	to, err := url.Parse(b.urls[b.random.IntN(len(b.urls))])
	lost := b.lossy && b.random.IntN(3) > 0
	b.mu.Unlock()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	p := httputil.NewSingleHostReverseProxy(to)
	p.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	p.ModifyResponse = func(*http.Response) error {
		if lost {
			panic(http.ErrAbortHandler)
		}
		return nil
	}
	p.ServeHTTP(w, r)
}

// An agent behind two servers that share a Kafka: answers are lost, and the agent,
// one of the servers and the broker are killed in turn. By the rule for readers, every
// log record that the agent has acknowledged is in the topic once, and in order.
func TestE2ELinkKafka(t *testing.T) {
	skipShort(t)
	broker := kafkatest.Start(t, kafkatest.Options{})
	serverConfig := kafkaConfig(t, broker)
	data := []string{t.TempDir(), t.TempDir()}
	b := &balancer{random: rand.New(rand.NewPCG(1, 1)), urls: make([]string, len(data))}
	startServer := func(i int) *process {
		p := start(t, data[i], "--config", serverConfig)
		b.set(i, p.url)
		return p
	}
	servers := []*process{startServer(0), startServer(1)}
	front := httptest.NewServer(b)
	defer front.Close()
	address := freeAddress(t)
	agentData := t.TempDir()
	agentConfig := agentFile(t, agentOf(fmt.Sprintf("{endpoint: %q, max_backoff: 500ms, timeout: 3s}", front.URL)))
	startAgent := func() *process {
		return startAs(t, os.Args[0], "collect", "--config", agentConfig, "--data", agentData, "--listen", address)
	}
	agent := startAgent()
	g := &generator{t: t, agent: agent, begin: time.Now().Add(-time.Hour), pause: 10 * time.Millisecond, pad: strings.Repeat("x", 200)}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { g.run(ctx, genLogs, genSamples) })
	for round := range 4 {
		g.during("joined", 500*time.Millisecond)
		b.lose(true)
		g.during("answers lost", time.Second)
		servers[round%2].kill()
		servers[round%2] = startServer(round % 2)
		agent.kill()
		b.lose(false)
		agent = startAgent()
		g.during("agent back", 500*time.Millisecond)
		b.lose(true)
		g.during("answers lost", 500*time.Millisecond)
		if err := broker.Kill(); err != nil {
			t.Fatal(err)
		}
		agent.kill()
		if err := broker.Restart(); err != nil {
			t.Fatal(err)
		}
		agent = startAgent()
		b.lose(false)
	}
	stop()
	wg.Wait()
	delivered(t, agent)
	recalled := servers[0].metric("vedette_buffer_kafka_recalled_bytes_total") + servers[1].metric("vedette_buffer_kafka_recalled_bytes_total")
	agent.stop()
	for _, s := range servers {
		s.stop()
	}
	messages, repeated := broker.ReadForwarded(t, buffer.TopicLogs)
	var got []int
	for _, m := range messages {
		payload, err := m.Value, error(nil)
		for _, h := range m.Headers {
			if h.Key == "vedette.format" && string(h.Value) == fmt.Sprint(buffer.FormatOTLPLogsSnappy) {
				if payload, err = snappy.Decode(nil, m.Value); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got, err = appendNumbers(got, payload); err != nil {
			t.Fatal(err)
		}
	}
	compare(t, "log records", got, g.acked[genLogs], g.next.Load())
	t.Logf("%d messages that the rule drops; %g bytes of the topic read again by the servers that ran last", repeated, recalled)
}
