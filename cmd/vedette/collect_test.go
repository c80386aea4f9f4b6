package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/common/model"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/buffer/kafkatest"
	"github.com/vedette-io/vedette/internal/vfs"
)

// linkDown names the variable that says how long the wire stays cut in TestE2ELink,
// as "3m".
const linkDown = "VEDETTE_TEST_LINK_DOWN"

const serverOnly = `
scrape_configs: []
collect: {enabled: false}
tracing: {store: false}
span_metrics: {enabled: false}
otlp: {grpc: {listen: ""}, http: {listen: ""}}
`

// agentOf is the configuration of an agent that measures its host every second.
func agentOf(forward string) string {
	return `
scrape_configs: []
collect: {interval: 1s, instance: e2e, ebpf: {enabled: false}, containers: {enabled: false}}
tracing: {store: false}
otlp: {grpc: {listen: ""}, http: {listen: ""}}
forward: ` + forward
}

func agentFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "vedette.yml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// generator sends numbered samples, spans and log records, each number once, and
// remembers which were acknowledged.
type generator struct {
	t     *testing.T
	agent *process
	begin time.Time
	pause time.Duration
	pad   string // of log records

	next  atomic.Int64
	acked [3][]int // numbers of samples, spans and log records
}

const (
	genSamples = iota
	genSpans
	genLogs
)

// spansPerTrace is how many numbers share a trace.
const spansPerTrace = 100

func linkTrace(n int) pcommon.TraceID {
	return pcommon.TraceID{0xe2, 0xe0, 14: byte(n / spansPerTrace >> 8), 15: byte(n / spansPerTrace)}
}

// request is the nth request of a kind.
func (g *generator) request(kind, n int) (path string, body []byte, err error) {
	at := g.begin.Add(time.Duration(n) * time.Millisecond)
	switch kind {
	case genSpans:
		t := ptrace.NewTraces()
		r := t.ResourceSpans().AppendEmpty()
		r.Resource().Attributes().PutStr("service.name", "e2e")
		s := r.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
		s.SetName("n" + strconv.Itoa(n))
		s.SetTraceID(linkTrace(n))
		s.SetSpanID(pcommon.SpanID{0: 1, 6: byte(n >> 8), 7: byte(n)})
		s.SetStartTimestamp(pcommon.NewTimestampFromTime(at))
		s.SetEndTimestamp(pcommon.NewTimestampFromTime(at.Add(time.Millisecond)))
		body, err = ptraceotlp.NewExportRequestFromTraces(t).MarshalProto()
		return "/v1/traces", body, err
	case genLogs:
		l := plog.NewLogs()
		r := l.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
		r.Body().SetStr(fmt.Sprintf("%d %s", n, g.pad))
		r.SetTimestamp(pcommon.NewTimestampFromTime(at))
		body, err = plogotlp.NewExportRequestFromLogs(l).MarshalProto()
		return "/v1/logs", body, err
	}
	return "/api/v1/write", encodeWrite(g.t, testSeries("e2e_link", at.UnixMilli(), float64(n))), nil
}

// run sends until ctx ends. The numbers of a kind are sent one after the other.
func (g *generator) run(ctx context.Context, kinds ...int) {
	var wg sync.WaitGroup
	for _, kind := range kinds {
		wg.Go(func() {
			tick := time.NewTicker(g.pause)
			defer tick.Stop()
			for n := 0; ctx.Err() == nil; n++ {
				if g.send(kind, n) == nil {
					g.acked[kind] = append(g.acked[kind], n)
				}
				if kind == kinds[0] {
					g.next.Store(int64(n))
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	wg.Wait()
}

func (g *generator) send(kind, n int) error {
	path, body, err := g.request(kind, n)
	if err != nil {
		return err
	}
	r, err := http.NewRequest(http.MethodPost, g.agent.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-protobuf")
	if kind == genSamples {
		r.Header.Set("Content-Encoding", "snappy")
	}
	resp, err := g.agent.do(r)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err == nil && resp.StatusCode/100 != 2 {
		err = errors.New(resp.Status)
	}
	return err
}

// during lets the load run for a while.
func (g *generator) during(what string, d time.Duration) {
	g.t.Helper()
	from := g.next.Load()
	<-time.After(d)
	g.t.Logf("%s for %s under load: numbers %d to %d", what, d, from, g.next.Load())
}

// delivered waits until the queue of an agent is empty.
func delivered(t *testing.T, agent *process) {
	t.Helper()
	eventually(t, "the queue is delivered", func() bool {
		_, text := agent.get("/metrics")
		for line := range strings.Lines(text) {
			if v, ok := strings.CutPrefix(line, `vedette_buffer_lag_records{group="forward"`); ok && !strings.HasSuffix(strings.TrimSpace(v), " 0") {
				return false
			}
		}
		return true
	})
}

// recordsIn reads the numbers of log records in the buffer of a server that has
// stopped, in order.
func recordsIn(t *testing.T, data string) (numbers []int) {
	t.Helper()
	l, err := buffer.Open(buffer.DefaultConfig(), vfs.OS, filepath.Join(data, bufferDir), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err = l.Consume(ctx, "e2e", buffer.TopicLogs, func(ctx context.Context, c buffer.Claim) error {
		defer cancel()
		for next := c.Oldest(); next < c.HighWatermark(); {
			messages, err := c.Next(ctx)
			if err != nil {
				return err
			}
			for _, m := range messages {
				next = m.Offset + 1
				if m.Format == buffer.FormatPosition {
					continue
				}
				payload := m.Payload
				if m.Format == buffer.FormatOTLPLogsSnappy {
					if payload, err = snappy.Decode(nil, payload); err != nil {
						return err
					}
				}
				if numbers, err = appendNumbers(numbers, payload); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return numbers
}

// appendNumbers appends the numbers of the log records in a request.
func appendNumbers(numbers []int, payload []byte) ([]int, error) {
	r := plogotlp.NewExportRequest()
	if err := r.UnmarshalProto(payload); err != nil {
		return nil, err
	}
	for _, resource := range r.Logs().ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				text, _, _ := strings.Cut(record.Body().Str(), " ")
				n, err := strconv.Atoi(text)
				if err != nil {
					return nil, err
				}
				numbers = append(numbers, n)
			}
		}
	}
	return numbers, nil
}

// compare wants every acknowledged number once, and none twice. Those that were
// sent and not acknowledged, because the agent died, may be there.
func compare(t *testing.T, what string, got, acked []int, sent int64) {
	t.Helper()
	if !slices.IsSorted(got) {
		t.Errorf("%s: not in order", what)
		slices.Sort(got)
	}
	if n := len(got) - len(slices.Compact(slices.Clone(got))); n > 0 {
		t.Errorf("%s: %d are there twice", what, n)
	}
	missing := 0
	for _, n := range acked {
		if _, ok := slices.BinarySearch(got, n); !ok {
			missing++
		}
	}
	if missing > 0 {
		t.Errorf("%s: %d of %d that were acknowledged are missing", what, missing, len(acked))
	}
	t.Logf("%s: %d sent, %d acknowledged, %d arrived", what, sent+1, len(acked), len(got))
}

// check compares what a server has, which is started again for it, with what was
// sent.
func (g *generator) check(data, config string) {
	t := g.t
	t.Helper()
	compare(t, "log records", recordsIn(t, data), g.acked[genLogs], g.next.Load())
	p := start(t, data, "--config", config)
	var samples []int
	for _, v := range p.queryMatrix("e2e_link[1d]") {
		samples = append(samples, int(v.Value))
	}
	compare(t, "samples", samples, g.acked[genSamples], g.next.Load())
	var spans []int
	for n := 0; n <= int(g.next.Load())+spansPerTrace; n += spansPerTrace {
		code, _, body := p.send("GET", "/tempo/api/traces/"+linkTrace(n).String(), nil, "Accept", "application/protobuf")
		if code == http.StatusNotFound {
			continue
		}
		for _, r := range unmarshalTraces(t, []byte(body)).ResourceSpans().All() {
			for _, scope := range r.ScopeSpans().All() {
				for _, s := range scope.Spans().All() {
					i, err := strconv.Atoi(strings.TrimPrefix(s.Name(), "n"))
					if err != nil {
						t.Fatal(err)
					}
					spans = append(spans, i)
				}
			}
		}
	}
	slices.Sort(spans) // a trace has no order of arrival
	compare(t, "spans", spans, g.acked[genSpans], g.next.Load())
	var v model.Vector
	if p.query(`count(count_over_time(node_load1{instance="e2e"}[1d]))`, &v); len(v) != 1 {
		t.Errorf("the agent's own measurements: got %v, want a series of node_load1", v)
	}
	p.stop()
}

// Server and agent on two hosts, whose wire is cut, loses answers, and loses
// requests; then both are killed again and again: what was acknowledged by the agent
// is at the server, once and in order.
func TestE2ELink(t *testing.T) {
	skipShort(t)
	down := 2 * time.Second
	if text := os.Getenv(linkDown); text != "" {
		var err error
		if down, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	l := newLink(t)
	serverData, agentData := t.TempDir(), t.TempDir()
	serverConfig := agentFile(t, serverOnly+"http: {bearer_token: e2e}\n")
	agentConfig := agentFile(t, agentOf(fmt.Sprintf("{endpoint: 'http://%s:9190', bearer_token: e2e, max_backoff: 1s, timeout: 3s}", serverIP)))
	startServer := func() *process {
		p := startAs(t, l.in(l.server, "run", "--config", serverConfig, "--data", serverData, "--listen", serverIP+":9190")...)
		p.client, p.token = l.client(l.server), "e2e"
		return p
	}
	startAgent := func() *process {
		p := startAs(t, l.in(l.agent, "collect", "--config", agentConfig, "--data", agentData, "--listen", "127.0.0.1:9190")...)
		p.client = l.client(l.agent)
		return p
	}
	server, agent := startServer(), startAgent()

	phase := func(g *generator, body func()) {
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { g.run(ctx, genSamples, genSpans, genLogs) })
		body()
		stop()
		wg.Wait()
	}
	g := &generator{t: t, agent: &process{url: agent.url, client: agent.client}, begin: time.Now().Add(-time.Hour), pause: 20 * time.Millisecond, pad: strings.Repeat("x", 200)}
	phase(g, func() {
		g.during("joined", time.Second)
		l.cut()
		g.during("wire cut", down)
		l.mend()
		g.during("joined", time.Second)
		l.loseAnswers()
		g.during("answers lost", down+4*time.Second) // longer than a timeout
		l.findAnswers()
		eventually(t, "a request whose answer was lost is repeated", func() bool {
			return server.metric("vedette_ingest_forwarded_repeats_total") > 0
		})
		g.during("joined", time.Second)
		l.loseRequests()
		g.during("requests lost", down)
		l.findRequests()
		g.during("joined", time.Second)
		for range 3 {
			l.loseAnswers()
			g.during("answers lost before a kill", time.Second)
			agent.kill()
			server.kill()
			l.findAnswers()
			agent = startAgent()
			g.during("server dead", 500*time.Millisecond)
			server = startServer()
			g.during("joined", 500*time.Millisecond)
			server.kill()
			server = startServer()
		}
	})
	delivered(t, agent)
	if n := agent.metric("vedette_collector_forward_dropped_messages_total"); n != 0 {
		t.Errorf("dropped: got %v messages, want none", n)
	}
	agent.stop()
	server.stop()
	g.check(serverData, agentFile(t, serverOnly))
}

// noise is text that does not compress.
func noise(n int) string {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('!' + r.IntN(94))
	}
	return string(b)
}

// A queue of a few MB that overflows while the server is away drops the oldest, and
// what it says that it dropped is what is missing.
func TestE2EQueueOverflow(t *testing.T) {
	skipShort(t)
	address := freeAddress(t)
	agentData, serverData := t.TempDir(), t.TempDir()
	agent := startAs(t, os.Args[0], "collect", "--data", agentData, "--listen", "127.0.0.1:0", "--config", agentFile(t, `
scrape_configs: []
collect: {enabled: false}
tracing: {store: false}
otlp: {grpc: {listen: ""}, http: {listen: ""}}
buffer: {sync: interval}
forward: {endpoint: "http://`+address+`", max_backoff: 500ms, queue: {max_bytes: 4000000}}
`))
	// What does not compress, so that the queue fills.
	g := &generator{t: t, agent: agent, begin: time.Now(), pad: noise(20_000)}
	const all = 1000
	for n := range all {
		if err := g.send(genLogs, n); err != nil {
			t.Fatal(err)
		}
	}
	server := startAs(t, os.Args[0], "run", "--data", serverData, "--listen", address, "--config", agentFile(t, serverOnly))
	delivered(t, agent)
	dropped := int(agent.metric("vedette_collector_forward_dropped_messages_total", `reason="queue_full"`))
	records := int(agent.metric("vedette_collector_forward_dropped_items_total", `reason="queue_full"`, `topic="vedette.logs"`))
	agent.stop()
	server.stop()
	got := recordsIn(t, serverData)
	if dropped == 0 || dropped != records || len(got)+dropped != all {
		t.Errorf("got %d records, %d messages (%d records) said to be dropped; want %d together", len(got), dropped, records, all)
	}
	if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) || got[len(got)-1] != all-1 {
		t.Errorf("what arrived is not in order, or is there twice, or lacks the newest: %v", got)
	}
	if !strings.Contains(agent.log.String(), "The queue drops its oldest messages") {
		t.Error("the log does not say that messages were dropped")
	}
	t.Logf("%d arrived, %d said to be dropped", len(got), dropped)
}

// An agent that forwards to Kafka, whose server reads there.
func TestE2ECollectKafka(t *testing.T) {
	skipShort(t)
	broker := kafkatest.Start(t, kafkatest.Options{})
	server := start(t, t.TempDir(), "--config", kafkaConfig(t, broker))
	agent := startAs(t, os.Args[0], "collect", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--config",
		agentFile(t, agentOf(fmt.Sprintf("{kafka: {brokers: [%q], topics: {partitions: {vedette.metrics: 4}}}}", broker.Addr()))))
	now := time.Now().UnixMilli()
	for i := range 50 {
		agent.write(testSeries("e2e_agent_kafka", now-int64(i), float64(i)))
	}
	eventually(t, "samples at the server", func() bool { return len(server.queryMatrix("e2e_agent_kafka[10m]")) == 50 })
	agent.stop()
	server.stop()
}
