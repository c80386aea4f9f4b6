package kafka

import (
	"context"
	"sync"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ingest/buffer"
)

// staticConfig is for members whose session does not end within a test: what
// waits for that fails it.
func staticConfig(t *testing.T) Config {
	cfg := testConfig(t, shared.Broker(t).Addr())
	cfg.Consumer.SessionTimeout = 10 * time.Minute
	return cfg
}

func withInstance(cfg Config, id string) Config {
	cfg.Consumer.InstanceID = id
	return cfg
}

// soleMember returns the one member that b has.
func soleMember(t *testing.T, b *Buffer) *member {
	b.metrics.mu.Lock()
	defer b.metrics.mu.Unlock()
	require.Len(t, b.metrics.members, 1)
	return b.metrics.members[0]
}

// owned returns the partitions that b consumes.
func owned(b *Buffer) (out []int) {
	for _, claims := range b.groupClaims() {
		for _, c := range claims {
			out = append(out, c.Partition())
		}
	}
	return out
}

func awaitOwned(t *testing.T, n int, buffers ...*Buffer) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, b := range buffers {
			if len(owned(b)) != n {
				return false
			}
		}
		return true
	}, patience, 10*time.Millisecond, "%d partitions each", n)
}

// TestStaticRestart cuts off the member that leads the group; a new process with
// its instance id has its partitions without a rebalance, and without waiting
// for the session's end. The group still sees that the topic grows.
func TestStaticRestart(t *testing.T) {
	cfg := staticConfig(t)
	n := &network{}
	a, other := openWith(t, withInstance(cfg, "one"), options{dial: n.dial}), openTest(t, withInstance(cfg, "two"))
	producer := openTest(t, cfg)
	first := consume(t, a, "g", true)
	awaitOwned(t, 2, a)
	second := consume(t, other, "g", true)
	awaitOwned(t, 1, a, other)
	had := owned(a)
	_, generation := soleMember(t, other).identity()
	p := produceTo(t, producer, 4, "p", 100)
	first.await(t, 100)
	n.cut()
	first.stop(t)
	start := time.Now()
	b := openTest(t, withInstance(cfg, "one"))
	third := consume(t, b, "g", true)
	got, err := b.Joined(testContext(t), testTopic)
	require.NoError(t, err)
	t.Logf("it has its partitions %s after its start", time.Since(start))
	require.Equal(t, 1, got)
	third.await(t, 100)
	require.Equal(t, had, owned(b))
	for _, b := range []*Buffer{b, other} {
		_, now := soleMember(t, b).identity()
		require.Equal(t, generation, now, "there was a rebalance")
	}
	resp, err := b.client.CreatePartitions(testContext(t), &kafkago.CreatePartitionsRequest{
		Topics: []kafkago.TopicPartitionsConfig{{Name: cfg.Topics.Prefix + testTopic, Count: 4}},
	})
	require.NoError(t, err)
	require.NoError(t, resp.Errors[cfg.Topics.Prefix+testTopic])
	awaitOwned(t, 2, b, other)
	p.end()
	require.Empty(t, p.bad)
	awaitAll(t, p.acked, first, second, third)
}

// TestStaticFencing starts a second process with the id of one that lives: the
// older ends and can commit no more.
func TestStaticFencing(t *testing.T) {
	cfg := withInstance(staticConfig(t), "one")
	a, b := openTest(t, cfg), openTest(t, cfg)
	ctx := testContext(t)
	_, err := a.Append(ctx, testTopic, 0, []buffer.Record{{Tenant: "t", Format: 1, Payload: []byte("x")}})
	require.NoError(t, err)
	commits := make(chan error, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- a.Consume(ctx, "g", testTopic, func(ctx context.Context, c buffer.Claim) error {
			<-ctx.Done()
			if c.Partition() == 0 {
				commits <- c.Commit(context.WithoutCancel(ctx), 1)
			}
			return ctx.Err()
		})
	}()
	awaitOwned(t, 2, a)
	m := soleMember(t, a)
	id, generation := m.identity()
	second := consume(t, b, "g", false)
	err = <-ended
	require.ErrorIs(t, err, kafkago.FencedInstanceID)
	require.ErrorContains(t, err, "consumer.instance_id, one")
	require.ErrorIs(t, <-commits, errLost)
	second.await(t, 1)
	awaitOwned(t, 2, b)
	// The coordinator refuses, too, whatever the member believes.
	m.setIdentity(id, generation)
	require.ErrorIs(t, m.commitOnce(ctx, 0, 1), kafkago.FencedInstanceID)
	m.leave()
	require.NoError(t, soleMember(t, b).beat(ctx), "the fenced member has taken the other one out of the group")
	committed, err := soleMember(t, b).committedOnce(ctx, 0)
	require.NoError(t, err)
	require.Negative(t, committed)
}

// TestStaticScale has static members come and go in order; partitions move at
// once.
func TestStaticScale(t *testing.T) {
	cfg := staticConfig(t)
	cfg.Topics.Partitions[testTopic] = 3
	a, b, c := openTest(t, withInstance(cfg, "a")), openTest(t, withInstance(cfg, "b")), openTest(t, withInstance(cfg, "c"))
	p := produceTo(t, a, 3, "p", 100)
	first := consume(t, a, "g", true)
	awaitOwned(t, 3, a)
	second := consume(t, b, "g", true)
	third := consume(t, c, "g", true)
	awaitOwned(t, 1, a, b, c)
	first.stop(t)
	require.Eventually(t, func() bool { return len(owned(b))+len(owned(c)) == 3 }, patience, 10*time.Millisecond)
	third.stop(t)
	awaitOwned(t, 3, b)
	again := consume(t, a, "g", true)
	require.Eventually(t, func() bool { return len(owned(a)) > 0 && len(owned(a))+len(owned(b)) == 3 }, patience, 10*time.Millisecond)
	p.end()
	require.Empty(t, p.bad)
	awaitAll(t, p.acked, first, second, third, again)
}

// TestStaticRestartDuringMove cuts a member off while it gives up a partition:
// its successor has nothing to give up, and the partition moves all the same.
func TestStaticRestartDuringMove(t *testing.T) {
	cfg := staticConfig(t)
	for _, instance := range []string{"", "other"} { // of the member that joins
		t.Run("other="+instance, func(t *testing.T) {
			cfg := cfg
			cfg.Topics.Prefix = staticConfig(t).Topics.Prefix
			n := &network{}
			a, other := openWith(t, withInstance(cfg, "one"), options{dial: n.dial}), openTest(t, withInstance(cfg, instance))
			var once sync.Once
			giving, release := make(chan struct{}), make(chan struct{})
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			ended := make(chan error, 1)
			go func() {
				ended <- a.Consume(ctx, "g", testTopic, func(ctx context.Context, _ buffer.Claim) error {
					<-ctx.Done()
					once.Do(func() { close(giving) })
					<-release
					return ctx.Err()
				})
			}()
			awaitOwned(t, 2, a)
			consume(t, other, "g", true)
			<-giving
			n.cut()
			b := openTest(t, withInstance(cfg, "one"))
			consume(t, b, "g", true)
			awaitOwned(t, 1, b, other)
			cancel()
			close(release)
			require.NoError(t, <-ended)
		})
	}
}

// TestInstances has one static member for each group and topic of a process.
func TestInstances(t *testing.T) {
	var i instances
	first, release := i.take("id", "g", "t")
	require.Equal(t, "id.t", first)
	second, none := i.take("id", "g", "t")
	require.Empty(t, second)
	none()
	third, _ := i.take("id", "h", "t")
	require.Equal(t, "id.t", third)
	release()
	again, _ := i.take("id", "g", "t")
	require.Equal(t, first, again)
	dynamic, _ := i.take("", "x", "t")
	require.Empty(t, dynamic)
}
