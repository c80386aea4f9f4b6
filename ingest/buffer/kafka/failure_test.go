package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/vedette-io/vedette/ingest/buffer"
)

// network can be cut: what a process sees when its machine loses the others.
type network struct {
	mu    sync.Mutex
	isCut bool
	conns []net.Conn
}

func (n *network) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil || n.isCut {
		if conn != nil {
			_ = conn.Close()
		}
		return nil, errors.New("the network is cut")
	}
	n.conns = append(n.conns, conn)
	return conn, nil
}

func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.isCut = true
	for _, c := range n.conns {
		_ = c.Close()
	}
	n.conns = nil
}

func (n *network) mend() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.isCut = false
}

// producers append until they are stopped and note what was acknowledged.
type producers struct {
	wg    sync.WaitGroup
	stop  atomic.Bool
	fulls atomic.Int64

	mu    sync.Mutex
	acked map[string]bool
	bad   []error
}

func produceTo(t *testing.T, b *Buffer, n int, name string, size int) *producers {
	p := &producers{acked: map[string]bool{}}
	for w := range n {
		p.wg.Go(func() {
			for i := 0; !p.stop.Load(); i++ {
				id := fmt.Sprintf("%s/%d/%d", name, w, i)
				payload := append(make([]byte, 0, len(id)+1+size), id...)
				payload = append(append(payload, ' '), make([]byte, size)...)
				_, err := b.Append(context.Background(), testTopic, (w+i)%b.Partitions(testTopic), []buffer.Record{{Tenant: "t", Format: 1, Payload: payload}})
				p.note(id, err)
			}
		})
	}
	t.Cleanup(func() { p.end() })
	return p
}

func (p *producers) note(id string, err error) {
	var full *buffer.FullError
	switch {
	case err == nil:
		p.mu.Lock()
		p.acked[id] = true
		p.mu.Unlock()
	case errors.As(err, &full) && full.RetryAfter > 0:
		p.fulls.Add(1)
		// What a client would do, much faster.
		timer := time.NewTimer(5 * time.Millisecond)
		<-timer.C
	default:
		p.mu.Lock()
		p.bad = append(p.bad, err)
		p.mu.Unlock()
	}
}

func (p *producers) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.acked)
}

func (p *producers) end() {
	p.stop.Store(true)
	p.wg.Wait()
}

// awaitAll waits until the consumers together have seen all that is acknowledged.
func awaitAll(t *testing.T, acked map[string]bool, consumers ...*consumer) {
	t.Helper()
	missing := map[string]bool{}
	for id := range acked {
		missing[id] = true
	}
	at := make([]int, len(consumers))
	require.Eventually(t, func() bool {
		for i, c := range consumers {
			all := c.all()
			for _, m := range all[at[i]:] {
				id, _, _ := cutSpace(m.Payload)
				delete(missing, id)
			}
			at[i] = len(all)
		}
		return len(missing) == 0
	}, patience, 20*time.Millisecond, "acknowledged messages are missing")
}

func cutSpace(b []byte) (string, []byte, bool) {
	for i, c := range b {
		if c == ' ' {
			return string(b[:i]), b[i+1:], true
		}
	}
	return string(b), nil, false
}

// TestCloseEndsGoroutines leaves no goroutine behind.
func TestCloseEndsGoroutines(t *testing.T) {
	cfg := testConfig(t, shared.Broker(t).Addr())
	before := goleak.IgnoreCurrent()
	b := openTest(t, cfg)
	c := consume(t, b, "g", true)
	p := produceTo(t, b, 4, "p", 100)
	c.await(t, 100)
	p.end()
	c.stop(t)
	require.NoError(t, b.Close())
	require.Eventually(t, func() bool { return goleak.Find(before) == nil }, patience, 100*time.Millisecond,
		"goroutines go on: %v", goleak.Find(before))
}

// TestOutageBoundsMemory cuts the network: appends fail as full, those beyond
// the limit at once, and what waits stays within it.
func TestOutageBoundsMemory(t *testing.T) {
	cfg := testConfig(t, shared.Broker(t).Addr())
	cfg.Producer.MaxInFlightBytes = 1 << 20
	n := &network{}
	b := openWith(t, cfg, options{dial: n.dial})
	ctx := testContext(t)
	record := []buffer.Record{{Tenant: "t", Format: 1, Payload: make([]byte, 100_000)}}
	_, err := b.Append(ctx, testTopic, 0, record)
	require.NoError(t, err)
	b.cfg.Producer.Timeout = 500 * time.Millisecond // nothing is under way
	n.cut()
	var limit, unreachable, most atomic.Int64
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			_, err := b.Append(ctx, testTopic, 0, record)
			var full *buffer.FullError
			if !errors.As(err, &full) || full.RetryAfter <= 0 {
				t.Errorf("got %v, want a FullError", err)
				return
			}
			if full.Err == nil {
				limit.Add(1)
			} else {
				unreachable.Add(1)
			}
			for v := b.inFlight.Load(); v > most.Load(); {
				most.Store(v)
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, most.Load(), cfg.Producer.MaxInFlightBytes+50*100_000) // those being refused count for a moment
	require.Positive(t, limit.Load())
	require.Positive(t, unreachable.Load())
	require.Zero(t, b.inFlight.Load())
	require.Eventually(t, func() bool { // once those that were open are known to be cut
		_, err := b.Append(ctx, testTopic, 0, record)
		return errors.Is(err, ErrUnsent)
	}, patience, 10*time.Millisecond)
	n.mend()
	require.Eventually(t, func() bool {
		_, err := b.Append(ctx, testTopic, 0, record)
		return err == nil
	}, patience, 10*time.Millisecond)
}

// TestBrokerKilled kills the broker under load and starts it again: nothing
// that was acknowledged is missing, and producers and consumer go on by
// themselves.
func TestBrokerKilled(t *testing.T) {
	broker := shared.Broker(t)
	cfg := testConfig(t, broker.Addr())
	cfg.Producer.Timeout = time.Second
	cfg.Producer.MaxInFlightBytes = 2 << 20
	b := openTest(t, cfg)
	c := consume(t, b, "g", true)
	p := produceTo(t, b, 8, "p", 20_000)
	c.await(t, 1)
	for round := range 2 {
		before := p.count()
		require.Eventually(t, func() bool { return p.count() > before+200 }, patience, 5*time.Millisecond)
		require.NoError(t, broker.Kill())
		refused := p.fulls.Load()
		require.Eventually(t, func() bool { return p.fulls.Load() >= refused+8 }, patience, 5*time.Millisecond, "round %d: nobody was refused", round)
		require.NoError(t, broker.Restart())
		start, seen, acked := time.Now(), len(c.all()), p.count()
		require.Eventually(t, func() bool { return p.count() > acked }, patience, 5*time.Millisecond)
		t.Logf("an append succeeds %s after the broker serves", time.Since(start))
		require.Eventually(t, func() bool { return len(c.all()) > seen }, patience, 5*time.Millisecond)
		t.Logf("the consumer goes on %s after the broker serves", time.Since(start))
	}
	before := p.count()
	require.Eventually(t, func() bool { return p.count() > before+200 }, patience, 5*time.Millisecond)
	p.end()
	require.Empty(t, p.bad)
	awaitAll(t, p.acked, c)
	t.Logf("%d acknowledged, %d refused, %d claims", len(p.acked), p.fulls.Load(), c.claimed())
}

// TestRefusedAtOnce kills the broker: the first appends wait for it, and after
// they were refused all but one are at once. The timeout is longer than the test
// may take; only those that wait for it would hang.
func TestRefusedAtOnce(t *testing.T) {
	broker := shared.Broker(t)
	b := openTest(t, testConfig(t, broker.Addr()))
	ctx := testContext(t)
	record := func(id string) []buffer.Record {
		return []buffer.Record{{Tenant: "t", Format: 1, Payload: []byte(id + " ")}}
	}
	c := consume(t, b, "g", true)
	_, err := b.Append(ctx, testTopic, 0, record("before"))
	require.NoError(t, err)
	b.cfg.Producer.Timeout = time.Second // nothing is under way
	require.NoError(t, broker.Kill())
	var full *buffer.FullError
	_, err = b.Append(ctx, testTopic, 0, record("first"))
	require.ErrorAs(t, err, &full)
	b.cfg.Producer.Timeout = time.Hour // nothing is under way
	probe := make(chan error, 1)
	go func() {
		_, err := b.Append(context.Background(), testTopic, 0, record("probe"))
		probe <- err
	}()
	p := b.topics[testTopic].partition(b, 0)
	require.Eventually(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.flushing
	}, patience, time.Millisecond)
	for range 1000 {
		_, err := b.Append(ctx, testTopic, 0, record("more"))
		require.ErrorAs(t, err, &full)
		require.Positive(t, full.RetryAfter)
		require.Error(t, full.Err)
	}
	require.Equal(t, int64(len("probe ")), b.inFlight.Load())
	require.NoError(t, broker.Restart())
	require.NoError(t, <-probe)
	_, err = b.Append(testContext(t), testTopic, 0, record("after")) // the broker may have taken long
	require.NoError(t, err)
	awaitAll(t, map[string]bool{"before": true, "probe": true, "after": true}, c)
}

// TestTakeover cuts one of two consumers off. The other takes its partitions
// over and sees everything that was not committed; the first commits no more,
// and comes back once it can.
func TestTakeover(t *testing.T) {
	cfg := testConfig(t, shared.Broker(t).Addr())
	cfg.Consumer.SessionTimeout = 2 * time.Second
	n := &network{}
	producer, a, b := openTest(t, cfg), openWith(t, cfg, options{dial: n.dial}), openTest(t, cfg)
	p := produceTo(t, producer, 4, "p", 100)
	first := consume(t, a, "g", true)
	first.await(t, 100)
	second := consume(t, b, "g", true)
	second.await(t, 100) // it has got a partition of the first
	n.cut()
	both := func() bool {
		partitions := map[int]bool{}
		for _, m := range second.all() {
			partitions[m.partition] = true
		}
		return len(partitions) == 2
	}
	require.Eventually(t, both, patience, 20*time.Millisecond, "nobody takes over")
	n.mend()
	before := len(first.all())
	require.Eventually(t, func() bool { return len(first.all()) > before }, patience, 20*time.Millisecond, "the first does not come back")
	p.end()
	require.Empty(t, p.bad)
	awaitAll(t, p.acked, first, second)
}

// TestGracefulHandover has the second of two members leave in order: committed
// messages are seen once.
func TestGracefulHandover(t *testing.T) {
	cfg := testConfig(t, shared.Broker(t).Addr())
	a, b := openTest(t, cfg), openTest(t, cfg)
	p := produceTo(t, a, 4, "p", 100)
	first := consume(t, a, "g", true)
	first.await(t, 50)
	second := consume(t, b, "g", true)
	got, err := b.Joined(testContext(t), testTopic)
	require.NoError(t, err)
	require.Equal(t, 1, got, "partitions, once those that move have moved")
	second.await(t, 50)
	second.stop(t)
	require.LessOrEqual(t, first.claimed(), 3)
	p.end()
	require.Empty(t, p.bad)
	awaitAll(t, p.acked, first, second)
	times := map[string]int{}
	for _, c := range []*consumer{first, second} {
		require.Empty(t, c.failed)
		for _, m := range c.all() {
			id, _, _ := cutSpace(m.Payload)
			times[id]++
		}
	}
	for id, n := range times {
		require.Equal(t, 1, n, id)
	}
}
