package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/internal/tenant"
)

const patience = time.Minute

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// seen is a message that a consumer got.
type seen struct {
	partition int
	buffer.Message
}

// consumer gathers what one member gets.
type consumer struct {
	ended  chan error
	cancel context.CancelFunc

	mu       sync.Mutex
	messages []seen
	last     map[int]int64 // of the claim that is running, by partition
	bad      []string
	claims   int
	commit   bool
	failed   []error // of commits
}

// consume starts a member; with commit it commits everything it gets.
func consume(t testing.TB, b *Buffer, group string, commit bool) *consumer {
	ctx, cancel := context.WithCancel(context.Background())
	c := &consumer{ended: make(chan error, 1), cancel: cancel, last: map[int]int64{}, commit: commit}
	go func() { c.ended <- b.Consume(ctx, group, testTopic, c.handle) }()
	t.Cleanup(func() { c.stop(t) })
	return c
}

func (c *consumer) stop(t testing.TB) {
	t.Helper()
	c.cancel()
	select {
	case err := <-c.ended:
		c.ended <- nil
		if err != nil {
			t.Errorf("consume: %v", err)
		}
	case <-time.After(patience):
		t.Error("the consumer does not end")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.bad) > 0 {
		t.Errorf("consumer saw %v", c.bad)
	}
}

func (c *consumer) handle(ctx context.Context, claim buffer.Claim) error {
	p := claim.Partition()
	c.mu.Lock()
	c.claims++
	c.last[p] = -1
	c.mu.Unlock()
	for {
		msgs, err := claim.Next(ctx)
		if err != nil {
			return err
		}
		c.mu.Lock()
		for _, m := range msgs {
			if m.Offset <= c.last[p] {
				c.bad = append(c.bad, fmt.Sprintf("offset %d after %d in partition %d", m.Offset, c.last[p], p))
			}
			c.last[p] = m.Offset
			m.Payload = bytes.Clone(m.Payload)
			c.messages = append(c.messages, seen{p, m})
		}
		c.mu.Unlock()
		if c.commit {
			if err := claim.Commit(context.WithoutCancel(ctx), msgs[len(msgs)-1].Offset+1); err != nil {
				c.mu.Lock()
				c.failed = append(c.failed, err)
				c.mu.Unlock()
			}
		}
	}
}

func (c *consumer) all() []seen {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.messages[:len(c.messages):len(c.messages)]
}

// claimed is how many claims there were.
func (c *consumer) claimed() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.claims
}

func (c *consumer) await(t testing.TB, n int) []seen {
	t.Helper()
	require.Eventually(t, func() bool { return len(c.all()) >= n }, patience, 10*time.Millisecond, "%d messages", n)
	return c.all()
}

func adminClient(b *Buffer) *kafkago.Client { return b.client }

func TestTopicSettings(t *testing.T) {
	cfg := testConfig(t, shared.Broker(t).Addr())
	cfg.Topics.Partitions[testTopic] = 5
	cfg.Topics.ReplicationFactor = 1
	cfg.Topics.Retention = Retention{Time: 3 * time.Hour, Bytes: 123 << 20}
	b := openTest(t, cfg)
	require.Equal(t, 5, b.Partitions(testTopic))
	require.Equal(t, int64(1<<20-reservedOverhead), b.MaxRecordBytes())
	require.Regexp(t, `^kafka/[A-Za-z0-9_-]{22}/`+cfg.Topics.Prefix+`$`, b.Source())
	resp, err := adminClient(b).DescribeConfigs(testContext(t), &kafkago.DescribeConfigsRequest{
		Resources: []kafkago.DescribeConfigRequestResource{{ResourceType: kafkago.ResourceTypeTopic, ResourceName: cfg.Topics.Prefix + testTopic}},
	})
	require.NoError(t, err)
	got := map[string]string{}
	for _, e := range resp.Resources[0].ConfigEntries {
		got[e.ConfigName] = e.ConfigValue
	}
	for name, want := range map[string]string{
		"cleanup.policy": "delete", "retention.ms": "10800000", "retention.bytes": "128974848", "max.message.bytes": "1048576", "compression.type": "producer",
	} {
		require.Equal(t, want, got[name], name)
	}
}

func TestExistingTopic(t *testing.T) {
	cfg := testConfig(t, shared.Broker(t).Addr())
	cfg.Topics.MaxMessageBytes = 100_000
	openTest(t, cfg)
	cfg.Topics.MaxMessageBytes = 1 << 20
	cfg.Topics.Partitions[testTopic] = 7
	b := openTest(t, cfg)
	require.Equal(t, 2, b.Partitions(testTopic))
	require.Equal(t, int64(100_000-reservedOverhead), b.MaxRecordBytes())
}

// TestLoweredLimit has the topic's limit lowered while the buffer is open: what
// shared a batch is sent append by append, and what is too large by itself is
// refused.
func TestLoweredLimit(t *testing.T) {
	cfg := testConfig(t, shared.Broker(t).Addr())
	b := openTest(t, cfg)
	ctx := testContext(t)
	_, err := adminClient(b).IncrementalAlterConfigs(ctx, &kafkago.IncrementalAlterConfigsRequest{
		Resources: []kafkago.IncrementalAlterConfigsRequestResource{{
			ResourceType: kafkago.ResourceTypeTopic, ResourceName: cfg.Topics.Prefix + testTopic,
			Configs: []kafkago.IncrementalAlterConfigsRequestConfig{{Name: "max.message.bytes", Value: "65536", ConfigOperation: kafkago.ConfigOperationSet}},
		}},
	})
	require.NoError(t, err)
	large := buffer.Record{Tenant: "t", Format: 1, Payload: make([]byte, 200_000)}
	require.Eventually(t, func() bool {
		_, err := b.Append(ctx, testTopic, 0, []buffer.Record{large})
		return errors.Is(err, buffer.ErrTooLarge)
	}, patience, 10*time.Millisecond, "the new limit is not in force")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, err := b.Append(ctx, testTopic, 1, []buffer.Record{{Tenant: "t", Format: 1, Payload: make([]byte, 40_000)}})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, int64(20), b.topics[testTopic].partition(b, 1).highWatermark())
}

func TestCompression(t *testing.T) {
	addr := shared.Broker(t).Addr()
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		t.Run(codec, func(t *testing.T) {
			cfg := testConfig(t, addr)
			cfg.Producer.Compression = codec
			b := openTest(t, cfg)
			ctx := testContext(t)
			var want []string
			for i := range 20 {
				p := strings.Repeat(fmt.Sprintf("payload %d ", i), 1+i*1000)
				_, err := b.Append(ctx, testTopic, 0, []buffer.Record{{Tenant: "t", Format: buffer.FormatOTLP, Payload: []byte(p)}})
				require.NoError(t, err)
				want = append(want, p)
			}
			for i, m := range consume(t, b, "g", false).await(t, len(want)) {
				require.Equal(t, want[i], string(m.Payload))
				require.Equal(t, int64(i), m.Offset)
			}
		})
	}
}

// TestForeignMessages has a client that knows nothing of us produce to the topic.
func TestForeignMessages(t *testing.T) {
	cfg := testConfig(t, shared.Broker(t).Addr())
	b := openTest(t, cfg)
	ctx := testContext(t)
	c := consume(t, b, "g", true)
	produce := func(value []byte, headers ...kafkago.Header) {
		t.Helper()
		require.Eventually(t, func() bool {
			r := kafkago.Record{Headers: headers, Key: kafkago.NewBytes([]byte("key"))}
			if value != nil {
				r.Value = kafkago.NewBytes(value)
			}
			resp, err := b.client.Produce(ctx, &kafkago.ProduceRequest{
				Topic: cfg.Topics.Prefix + testTopic, Partition: 0, RequiredAcks: kafkago.RequireAll, Records: protocol.NewRecordReader(r),
			})
			require.NoError(t, err)
			if errors.Is(resp.Error, kafkago.NotLeaderForPartition) {
				return false // the topic is new
			}
			require.NoError(t, resp.Error)
			return true
		}, patience, 10*time.Millisecond)
	}
	produce([]byte("otlp 1"))
	produce(nil)
	produce([]byte{})
	produce([]byte("otlp 2"), kafkago.Header{Key: "X-Scope-OrgID", Value: []byte("acme")})
	_, err := b.Append(ctx, testTopic, 0, []buffer.Record{{Tenant: "us", Format: buffer.FormatRemoteWriteV2, MinTime: 3, MaxTime: 4, Payload: []byte("ours")}})
	require.NoError(t, err)
	produce([]byte("otlp 3"), kafkago.Header{Key: "tenant", Value: []byte("not valid")})
	want := []buffer.Message{
		{Offset: 0, Record: buffer.Record{Tenant: tenant.Default, Format: buffer.FormatOTLP, Payload: []byte("otlp 1")}},
		{Offset: 3, Record: buffer.Record{Tenant: "acme", Format: buffer.FormatOTLP, Payload: []byte("otlp 2")}},
		{Offset: 4, Record: buffer.Record{Tenant: "us", Format: buffer.FormatRemoteWriteV2, MinTime: 3, MaxTime: 4, Payload: []byte("ours")}},
		{Offset: 5, Record: buffer.Record{Tenant: tenant.Default, Format: buffer.FormatOTLP, Payload: []byte("otlp 3")}},
	}
	for i, m := range c.await(t, len(want)) {
		require.Equal(t, want[i], m.Message)
	}
	produce(nil) // the offsets go on past it
	produce([]byte("last"))
	got := c.await(t, len(want)+1)
	require.Equal(t, int64(7), got[len(want)].Offset)
}

// TestTail appends with attachments while others produce to the same partition:
// order holds, every attachment ends once, and most do not go over the network.
func TestTail(t *testing.T) {
	cfg := testConfig(t, shared.Broker(t).Addr())
	b, other := openTest(t, cfg), openTest(t, cfg)
	ctx := testContext(t)
	c := consume(t, b, "g", true)
	_, err := other.Append(ctx, testTopic, 0, []buffer.Record{{Tenant: "t", Format: 1, Payload: []byte("start")}})
	require.NoError(t, err)
	c.await(t, 1)
	const n = 400
	attachments := make([]*countingAttachment, n)
	total := 1
	for i := range n {
		attachments[i] = &countingAttachment{}
		first, err := b.Append(ctx, testTopic, 0, []buffer.Record{{
			Tenant: "t", Format: 1, Payload: []byte(fmt.Sprint("ours ", i)), Attachment: attachments[i],
		}})
		require.NoError(t, err)
		require.GreaterOrEqual(t, first, int64(total))
		total++
		if i%40 == 39 {
			_, err := other.Append(ctx, testTopic, 0, []buffer.Record{{Tenant: "t", Format: 1, Payload: []byte(fmt.Sprint("theirs ", i))}})
			require.NoError(t, err)
			total++
		}
	}
	msgs := c.await(t, total)
	for i, m := range msgs {
		require.Equal(t, int64(i), m.Offset)
		if a, ok := m.Attachment.(*countingAttachment); ok {
			a.ended.Add(1)
			require.Empty(t, m.Payload)
		}
	}
	for i, a := range attachments {
		require.Equal(t, int64(1), a.ended.Load(), "attachment %d", i)
	}
	require.Greater(t, testutil.ToFloat64(b.topics[testTopic].metrics.fromTail), float64(n)/2)
}

type countingAttachment struct{ ended atomic.Int64 }

func (a *countingAttachment) Discard() { a.ended.Add(1) }

// TestOffsetOutOfRange has retention remove what the group would read next.
func TestOffsetOutOfRange(t *testing.T) {
	cfg := testConfig(t, shared.Broker(t).Addr())
	b := openTest(t, cfg)
	ctx := testContext(t)
	for i := range 10 {
		_, err := b.Append(ctx, testTopic, 0, []buffer.Record{{Tenant: "t", Format: 1, Payload: []byte{byte(i)}}})
		require.NoError(t, err)
	}
	p := b.topics[testTopic].partition(b, 0)
	oldest, high, err := b.bounds(ctx, p)
	require.NoError(t, err)
	require.Equal(t, []int64{0, 10}, []int64{oldest, high})
	c := &claim{p: p, m: &member{b: b, t: b.topics[testTopic]}, ctx: ctx, fetches: make(chan *fetched, 1), wake: make(chan struct{}, 1)}
	c.pos = 50
	msgs, err := c.Next(ctx)
	require.NoError(t, err)
	require.Equal(t, int64(0), msgs[0].Offset)
	require.Equal(t, 1.0, testutil.ToFloat64(b.topics[testTopic].metrics.outOfRange))
	c.wg.Wait()
}

// TestTopicGrows has somebody add partitions: they are consumed without a
// restart.
func TestTopicGrows(t *testing.T) {
	cfg := testConfig(t, shared.Broker(t).Addr())
	b := openTest(t, cfg)
	ctx := testContext(t)
	c := consume(t, b, "g", true)
	_, err := b.Append(ctx, testTopic, 0, []buffer.Record{{Tenant: "t", Format: 1, Payload: []byte("x")}})
	require.NoError(t, err)
	c.await(t, 1)
	resp, err := b.client.CreatePartitions(ctx, &kafkago.CreatePartitionsRequest{
		Topics: []kafkago.TopicPartitionsConfig{{Name: cfg.Topics.Prefix + testTopic, Count: 4}},
	})
	require.NoError(t, err)
	require.NoError(t, resp.Errors[cfg.Topics.Prefix+testTopic])
	require.Eventually(t, func() bool {
		n, err := b.countPartitions(ctx, cfg.Topics.Prefix+testTopic)
		return err == nil && n == 4
	}, patience, 10*time.Millisecond)
	other := openTest(t, cfg)
	require.Equal(t, 4, other.Partitions(testTopic))
	_, err = other.Append(ctx, testTopic, 3, []buffer.Record{{Tenant: "t", Format: 1, Payload: []byte("y")}})
	require.NoError(t, err)
	got := c.await(t, 2)
	require.Equal(t, 3, got[1].partition)
	require.Equal(t, 2, b.Partitions(testTopic))
	_, err = b.Append(ctx, testTopic, 3, []buffer.Record{{Payload: []byte("z")}})
	require.Error(t, err)
}

func TestMetrics(t *testing.T) {
	cfg := testConfig(t, shared.Broker(t).Addr())
	reg := prometheus.NewPedanticRegistry()
	b := openWith(t, cfg, options{registerer: reg})
	c := consume(t, b, "g", true)
	_, err := b.Append(testContext(t), testTopic, 1, []buffer.Record{{Tenant: "t", Format: 1, Payload: []byte("x")}})
	require.NoError(t, err)
	c.await(t, 1)
	require.Eventually(t, func() bool { return testutil.ToFloat64(b.topics[testTopic].metrics.commits) == 1 }, patience, 10*time.Millisecond)
	group := cfg.Topics.Prefix + "g"
	want := fmt.Sprintf(`
# HELP vedette_buffer_kafka_assigned_partitions Partitions that this process consumes.
# TYPE vedette_buffer_kafka_assigned_partitions gauge
vedette_buffer_kafka_assigned_partitions{group="%[1]s",topic="vedette.metrics"} 2
# HELP vedette_buffer_kafka_committed_offset Offset at which the group continues.
# TYPE vedette_buffer_kafka_committed_offset gauge
vedette_buffer_kafka_committed_offset{group="%[1]s",partition="0",topic="vedette.metrics"} 0
vedette_buffer_kafka_committed_offset{group="%[1]s",partition="1",topic="vedette.metrics"} 1
# HELP vedette_buffer_kafka_in_flight_bytes Payload bytes that wait for Kafka's acknowledgement.
# TYPE vedette_buffer_kafka_in_flight_bytes gauge
vedette_buffer_kafka_in_flight_bytes 0
# HELP vedette_buffer_kafka_lag_records Messages that the group has not committed.
# TYPE vedette_buffer_kafka_lag_records gauge
vedette_buffer_kafka_lag_records{group="%[1]s",partition="0",topic="vedette.metrics"} 0
vedette_buffer_kafka_lag_records{group="%[1]s",partition="1",topic="vedette.metrics"} 0
`, group)
	require.Eventually(t, func() bool {
		return testutil.GatherAndCompare(reg, strings.NewReader(want), "vedette_buffer_kafka_assigned_partitions",
			"vedette_buffer_kafka_committed_offset", "vedette_buffer_kafka_in_flight_bytes", "vedette_buffer_kafka_lag_records") == nil
	}, patience, 10*time.Millisecond)
}
