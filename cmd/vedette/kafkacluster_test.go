package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/prompb"
	kafkago "github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/collector/forward"
	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/buffer/kafka"
	"github.com/vedette-io/vedette/ingest/buffer/kafkatest"
	"github.com/vedette-io/vedette/internal/vfs"
)

// Three brokers, of which one and the other dies, stops, hangs or goes for good, while an
// agent forwards its queue to them and a server takes writes and reads all that is in the topic.
// After each of these: what was acknowledged is in the topic, what the agent has forwarded in
// order and by the rule for readers once, and all of it is in the server's store, which has
// read each offset once.
func TestE2EKafkaCluster(t *testing.T) {
	skipShort(t)
	c := newKafkaCluster(t)
	t.Run("Topics", c.topics)
	t.Run("LeaderKilled", c.leaderKilled)
	t.Run("LeaderStops", c.leaderStops)
	t.Run("LeaderHangs", c.leaderHangs)
	t.Run("CoordinatorKilled", c.coordinatorKilled)
	t.Run("BrokerGone", c.brokerGone)
	t.Run("NotEnoughReplicas", c.notEnoughReplicas)
	t.Run("TopicGrows", c.topicGrows)
	c.stopAgent()
	c.server.stop()
}

const clusterPartitions = 4

// kafkaCluster is what the test is made of.
type kafkaCluster struct {
	*kafkatest.Cluster
	t            *testing.T // outlives its parts
	config, data string
	server       *process
	begun        float64 // offsets in the topic when the server began to read it

	queue     *forward.Queue
	stopAgent func()

	begin time.Time
	lanes []*clusterLane
}

// clusterLane is one writer of numbers: each is a sample of its series.
type clusterLane struct {
	name  string
	write func(ctx context.Context, payload []byte) error
	acked atomic.Int64 // numbers below it were acknowledged
	wrong atomic.Int64 // writes that were refused
}

func newKafkaCluster(t *testing.T) *kafkaCluster {
	c := &kafkaCluster{t: t, Cluster: kafkatest.StartCluster(t, 3, kafkatest.Options{}), data: t.TempDir(), begin: time.Now().Add(-time.Hour)}
	c.config = agentFile(t, fmt.Sprintf(`
scrape_configs: []
collect: {enabled: false}
tracing: {store: false}
span_metrics: {enabled: false}
otlp: {grpc: {listen: ""}, http: {listen: ""}}
store: {flush_samples: 5000, flush_interval: 1s}
consumer: {commit_interval: 100ms}
buffer:
  kind: kafka
  kafka:
    brokers: [%s]
    topics: {partitions: {vedette.metrics: %d}}
    producer: {timeout: 2s}
    consumer: {session_timeout: 30s}
`, strings.Join(c.Addrs(), ", "), clusterPartitions))
	c.server = start(t, c.data, "--config", c.config)
	log := buffer.DefaultConfig()
	log.Partitions = map[string]int{buffer.TopicMetrics: clusterPartitions}
	var err error
	if c.queue, err = forward.OpenQueue(forward.QueueOptions{
		Config: forward.DefaultConfig().Queue, Log: log, FS: vfs.OS, Dir: t.TempDir(), Registerer: prometheus.NewRegistry(),
	}); err != nil {
		t.Fatal(err)
	}
	c.startAgent()
	t.Cleanup(func() {
		c.stopAgent()
		if err := c.queue.Close(); err != nil {
			t.Error(err)
		}
	})
	for i := range c.queue.Partitions(buffer.TopicMetrics) {
		c.lanes = append(c.lanes, &clusterLane{name: fmt.Sprint("agent", i), write: func(ctx context.Context, payload []byte) error {
			_, err := c.queue.Append(ctx, buffer.TopicMetrics, i, []buffer.Record{{Tenant: "default", Format: buffer.FormatRemoteWriteV1, Payload: payload}})
			return err
		}})
	}
	for i := range 2 {
		c.lanes = append(c.lanes, &clusterLane{name: fmt.Sprint("server", i), write: func(ctx context.Context, payload []byte) error {
			_, err := c.server.post(ctx, bytes.NewReader(payload))
			return err
		}})
	}
	return c
}

// startAgent begins to forward the queue.
func (c *kafkaCluster) startAgent() {
	t := c.t
	config := forward.DefaultConfig()
	config.Kafka = c.kafkaConfig()
	config.MaxBackoff = time.Second
	f, err := forward.New(forward.Options{Queue: c.queue, Config: config, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	c.stopAgent = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run forwarder: %v", err)
		}
	})
}

func (c *kafkaCluster) kafkaConfig() kafka.Config {
	k := kafka.DefaultConfig()
	k.Brokers = c.Addrs()
	k.Producer.Timeout = 2 * time.Second
	k.Topics.Partitions = map[string]int{buffer.TopicMetrics: clusterPartitions}
	return k
}

// sample is the nth write of a lane.
func (c *kafkaCluster) sample(t *testing.T, lane string, n int64) []byte {
	return encodeWrite(t, prompb.TimeSeries{
		Labels:  []prompb.Label{{Name: "__name__", Value: "e2e_cluster"}, {Name: "lane", Value: lane}},
		Samples: []prompb.Sample{{Timestamp: c.begin.UnixMilli() + n, Value: float64(n)}},
	})
}

// load writes until stop. Each number is written until it is acknowledged.
func (c *kafkaCluster) load(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, l := range c.lanes {
		wg.Go(func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				if err := l.write(context.WithoutCancel(ctx), c.sample(t, l.name, l.acked.Load())); err != nil {
					l.wrong.Add(1)
				} else {
					l.acked.Add(1)
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	return sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
}

// goesOn waits until the server's store has what each lane writes from now on.
func (c *kafkaCluster) goesOn(t *testing.T, what string) {
	t.Helper()
	begin, marks := time.Now(), map[string]int64{}
	for _, l := range c.lanes {
		marks[l.name] = l.acked.Load() + 10
	}
	eventually(t, what, func() bool {
		newest := c.newest()
		for name, mark := range marks {
			if newest[name] < mark {
				return false
			}
		}
		return true
	})
	t.Logf("%s: what is written gets into the store after %s", what, time.Since(begin).Round(10*time.Millisecond))
}

// newest returns the newest number of each lane in the store.
func (c *kafkaCluster) newest() map[string]int64 {
	var v model.Vector
	c.server.query(`max by (lane) (max_over_time(e2e_cluster[2h]))`, &v)
	newest := map[string]int64{}
	for _, s := range v {
		newest[string(s.Metric["lane"])] = int64(s.Value)
	}
	return newest
}

// check compares what the topic and the store have with what was acknowledged, once all of it
// has arrived. Nothing is written meanwhile.
func (c *kafkaCluster) check(t *testing.T) {
	t.Helper()
	c.AwaitInSync(t, buffer.TopicMetrics)
	for _, l := range c.lanes {
		acked, got := l.acked.Load(), []int64(nil)
		eventually(t, "all of "+l.name, func() bool {
			got = got[:0]
			for _, v := range c.server.queryMatrix(fmt.Sprintf(`e2e_cluster{lane=%q}[2h]`, l.name)) {
				got = append(got, int64(v.Value))
			}
			return int64(len(got)) >= acked
		})
		c.wantNumbers(t, l, "the store", got)
	}
	inTopic := map[string][]int64{}
	type place struct {
		lane      string
		partition int
	}
	last := map[place]int64{}
	messages, repeated := c.Nodes[0].ReadForwarded(t, buffer.TopicMetrics)
	for _, m := range messages {
		lane, n := decodeSample(t, m.Value)
		inTopic[lane] = append(inTopic[lane], n)
		at := place{lane, m.Partition}
		if before, ok := last[at]; ok && n <= before && strings.HasPrefix(lane, "agent") {
			t.Errorf("%s in partition %d: %d is behind %d", lane, m.Partition, n, before)
		}
		last[at] = n
	}
	for _, l := range c.lanes {
		slices.Sort(inTopic[l.name])             // over all partitions: it may have moved
		if strings.HasPrefix(l.name, "server") { // no position says which of them is a copy
			inTopic[l.name] = slices.Compact(inTopic[l.name])
		}
		c.wantNumbers(t, l, "the topic", inTopic[l.name])
	}
	ends := float64(len(messages) + repeated)
	eventually(t, "the server has read all", func() bool { return c.read() >= ends-c.begun })
	if got := c.read(); got != ends-c.begun {
		t.Errorf("the server has read %g messages, want each of %g once", got, ends-c.begun)
	}
	t.Logf("%d messages in the topic, %d more that the rule drops; %s", len(messages), repeated, c.summary())
}

// wantNumbers wants 0, 1, 2 and so on, all that were acknowledged. One more may be there: a refused
// write may have been done.
func (c *kafkaCluster) wantNumbers(t *testing.T, l *clusterLane, where string, got []int64) {
	t.Helper()
	for i, n := range got {
		if n != int64(i) {
			t.Errorf("%s in %s: number %d is %d", l.name, where, i, n)
			return
		}
	}
	if acked := l.acked.Load(); int64(len(got)) < acked || int64(len(got)) > acked+1 {
		t.Errorf("%s in %s: got %d, want %d that were acknowledged", l.name, where, len(got), acked)
	}
}

func (c *kafkaCluster) summary() string {
	var b strings.Builder
	for _, l := range c.lanes {
		fmt.Fprintf(&b, "%s %d acknowledged, %d refused; ", l.name, l.acked.Load(), l.wrong.Load())
	}
	return b.String()
}

// read returns how many messages of the topic the server's consumer got.
func (c *kafkaCluster) read() float64 {
	topic := `topic="` + buffer.TopicMetrics + `"`
	return c.server.metric("vedette_buffer_kafka_tail_records_total", topic) + c.server.metric("vedette_buffer_kafka_fetched_records_total", topic)
}

func decodeSample(t *testing.T, payload []byte) (lane string, n int64) {
	t.Helper()
	b, err := snappy.Decode(nil, payload)
	if err != nil {
		t.Fatal(err)
	}
	var r prompb.WriteRequest
	if err := r.Unmarshal(b); err != nil {
		t.Fatal(err)
	}
	s := r.Timeseries[0]
	for _, l := range s.Labels {
		if l.Name == "lane" {
			lane = l.Value
		}
	}
	return lane, int64(s.Samples[0].Value)
}

// during loads the cluster while something happens to it, and checks what has come of it.
func (c *kafkaCluster) during(t *testing.T, happens func()) {
	t.Helper()
	c.AwaitInSync(t, buffer.TopicMetrics)
	stop := c.load(t)
	defer stop()
	c.goesOn(t, "before")
	happens()
	stop()
	c.check(t)
}

// admin calls do with a client that has no connection from before, until there is no error: brokers
// have died and come back.
func (c *kafkaCluster) admin(t *testing.T, what string, do func(client *kafkago.Client) error) {
	t.Helper()
	var err error
	eventually(t, what, func() bool {
		transport := &kafkago.Transport{}
		defer transport.CloseIdleConnections()
		if err = do(&kafkago.Client{Addr: kafkago.TCP(c.Addrs()...), Transport: transport, Timeout: 10 * time.Second}); err != nil {
			t.Logf("%s: %v", what, err)
		}
		return err == nil
	})
}

// What a server creates on three brokers by its defaults.
func (c *kafkaCluster) topics(t *testing.T) {
	var meta *kafkago.MetadataResponse
	c.admin(t, "metadata", func(client *kafkago.Client) (err error) {
		meta, err = client.Metadata(t.Context(), &kafkago.MetadataRequest{Topics: []string{buffer.TopicMetrics}})
		return err
	})
	for _, p := range meta.Topics[0].Partitions {
		if len(p.Replicas) != 3 {
			t.Errorf("partition %d: got %d replicas, want 3", p.ID, len(p.Replicas))
		}
	}
	if n := len(meta.Topics[0].Partitions); n != clusterPartitions {
		t.Errorf("got %d partitions, want %d", n, clusterPartitions)
	}
	if strings.Contains(c.server.log.String(), "on one broker alone") {
		t.Error("the server warns of its own topics")
	}
}

func (c *kafkaCluster) leaderKilled(t *testing.T) {
	c.during(t, func() {
		leader := c.Leader(t, buffer.TopicMetrics, 0)
		require.NoError(t, leader.Kill())
		c.goesOn(t, "the leader is dead")
		require.NoError(t, leader.Restart())
		c.goesOn(t, "it is back")
	})
}

// A leader that stops in order hands its partitions over before.
func (c *kafkaCluster) leaderStops(t *testing.T) {
	c.during(t, func() {
		leader := c.Leader(t, buffer.TopicMetrics, 1)
		require.NoError(t, leader.Stop())
		c.goesOn(t, "the leader has stopped")
		require.NoError(t, leader.Restart())
		c.goesOn(t, "it is back")
	})
}

// A leader that hangs keeps its connections, and takes itself for the leader when it goes on.
func (c *kafkaCluster) leaderHangs(t *testing.T) {
	c.during(t, func() {
		leader := c.Leader(t, buffer.TopicMetrics, 2)
		require.NoError(t, syscall.Kill(leader.Pid(), syscall.SIGSTOP))
		c.Leader(t, buffer.TopicMetrics, 2, leader)
		c.goesOn(t, "the leader hangs")
		require.NoError(t, syscall.Kill(leader.Pid(), syscall.SIGCONT))
		c.goesOn(t, "it is back")
	})
}

// The server keeps its positions when the broker dies that knows them, and when it dies
// itself after that.
func (c *kafkaCluster) coordinatorKilled(t *testing.T) {
	const offsets = "__consumer_offsets"
	c.during(t, func() {
		coordinator := c.Leader(t, offsets, 0)
		require.NoError(t, coordinator.Kill())
		c.Leader(t, offsets, 0, coordinator)
		c.goesOn(t, "the coordinator is dead")
		require.NoError(t, coordinator.Restart())
	})
	committed := func() float64 {
		return c.server.metric("vedette_buffer_kafka_committed_offset", `topic="vedette.metrics"`)
	}
	ends := c.server.metric("vedette_buffer_kafka_high_watermark", `topic="vedette.metrics"`)
	eventually(t, "all is committed", func() bool { return committed() == ends })
	c.server.kill()
	c.server, c.begun = start(c.t, c.data, "--config", c.config), ends
	c.during(t, func() {})
}

// A broker that is in everybody's memory is gone: whoever knew it alone goes on with the others, and
// a process that begins finds them, and creates topics.
func (c *kafkaCluster) brokerGone(t *testing.T) {
	gone := c.Leader(t, buffer.TopicMetrics, 3)
	open := func(brokers []string, prefix string) *kafka.Buffer {
		config := c.kafkaConfig()
		config.Brokers, config.Topics.Prefix, config.Producer.Timeout = brokers, prefix, 30*time.Second
		b, err := kafka.Open(t.Context(), config, []string{buffer.TopicMetrics}, slog.New(slog.NewTextHandler(t.Output(), nil)), nil)
		require.NoError(t, err)
		return b
	}
	appendTo := func(b *kafka.Buffer) {
		for i := range b.Partitions(buffer.TopicMetrics) {
			_, err := b.Append(t.Context(), buffer.TopicMetrics, i, []buffer.Record{{Tenant: "default", Format: buffer.FormatRemoteWriteV1, Payload: c.sample(t, "other", 0)}})
			require.NoError(t, err)
		}
	}
	before := open([]string{gone.Addr()}, "gone.")
	defer before.Close()
	c.during(t, func() {
		require.NoError(t, gone.Kill())
		appendTo(before)
		c.goesOn(t, "the broker is gone")
		behind := open([]string{gone.Addr(), c.Others(gone)[0].Addr()}, "behind.")
		defer behind.Close()
		appendTo(behind)
		require.NoError(t, gone.Restart())
	})
}

// Too few replicas are no loss: who writes is told to come again, the agent keeps what it has, and
// all goes on when they are back.
func (c *kafkaCluster) notEnoughReplicas(t *testing.T) {
	want := func(replicas string) {
		t.Helper()
		c.admin(t, "min.insync.replicas", func(client *kafkago.Client) error {
			resp, err := client.IncrementalAlterConfigs(t.Context(), &kafkago.IncrementalAlterConfigsRequest{
				Resources: []kafkago.IncrementalAlterConfigsRequestResource{{
					ResourceType: kafkago.ResourceTypeTopic, ResourceName: buffer.TopicMetrics,
					Configs: []kafkago.IncrementalAlterConfigsRequestConfig{{Name: "min.insync.replicas", Value: replicas, ConfigOperation: kafkago.ConfigOperationSet}},
				}},
			})
			if err != nil {
				return err
			}
			return resp.Resources[0].Error
		})
	}
	b, err := kafka.Open(t.Context(), c.kafkaConfig(), []string{buffer.TopicMetrics}, nil, nil)
	require.NoError(t, err)
	defer b.Close()
	refusal := func() error { // of what the server has already
		_, err := b.Append(t.Context(), buffer.TopicMetrics, 0, []buffer.Record{{Tenant: "default", Format: buffer.FormatRemoteWriteV1, Payload: c.sample(t, "other", 0)}})
		var full *buffer.FullError
		if err != nil && (!errors.As(err, &full) || full.RetryAfter <= 0) {
			t.Errorf("append: got %v, want a FullError", err)
		}
		return err
	}
	c.during(t, func() {
		want("3")
		first, second := c.Nodes[0], c.Nodes[1]
		require.NoError(t, first.Kill())
		eventually(t, "the broker says why", func() bool { return errors.Is(refusal(), kafkago.NotEnoughReplicas) })
		want("2")
		c.goesOn(t, "two of three are enough")
		require.NoError(t, second.Kill())
		writer := c.lanes[len(c.lanes)-1]
		refused, kept := writer.wrong.Load(), c.lanes[0].acked.Load()
		eventually(t, "writers are refused, and the agent's queue takes all", func() bool {
			return writer.wrong.Load() > refused+1 && refusal() != nil && c.lanes[0].acked.Load() > kept
		})
		var wg sync.WaitGroup
		for _, b := range []*kafkatest.Broker{first, second} {
			wg.Go(func() {
				if err := b.Restart(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		c.goesOn(t, "they are back")
	})
}

// Partitions that are added are read at once, and written to by whoever starts after that.
func (c *kafkaCluster) topicGrows(t *testing.T) {
	const grown = clusterPartitions + 2
	c.during(t, func() {
		c.admin(t, "more partitions", func(client *kafkago.Client) error {
			resp, err := client.CreatePartitions(t.Context(), &kafkago.CreatePartitionsRequest{
				Topics: []kafkago.TopicPartitionsConfig{{Name: buffer.TopicMetrics, Count: grown}},
			})
			if err != nil {
				return err
			}
			if err = resp.Errors[buffer.TopicMetrics]; errors.Is(err, kafkago.InvalidPartitionNumber) {
				return nil // an attempt that was not answered has made them
			}
			return err
		})
		eventually(t, "the server has all partitions", func() bool {
			return c.server.metric("vedette_buffer_kafka_assigned_partitions", `topic="vedette.metrics"`) == grown
		})
		c.goesOn(t, "with more partitions")
	})
	c.stopAgent()
	c.startAgent()
	b, err := kafka.Open(t.Context(), c.kafkaConfig(), []string{buffer.TopicMetrics}, nil, nil)
	require.NoError(t, err)
	defer b.Close()
	for i := range grown {
		_, err := b.Append(t.Context(), buffer.TopicMetrics, i, []buffer.Record{{Tenant: "default", Format: buffer.FormatRemoteWriteV1, Payload: c.sample(t, "partition"+strconv.Itoa(i), 0)}})
		require.NoError(t, err)
	}
	c.during(t, func() {})
	got := c.newest()
	for i := range grown {
		if _, ok := got["partition"+strconv.Itoa(i)]; !ok {
			t.Errorf("what was written to partition %d is not in the store", i)
		}
	}
}
