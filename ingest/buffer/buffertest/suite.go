// Package buffertest is the contract of buffer.Buffer as tests. Every
// implementation runs the same ones:
//
//	func TestContract(t *testing.T) { buffertest.Run(t, newHarness) }
//
// The suite knows nothing of files or brokers. It waits for messages, never
// for time to pass, and gives up after a minute.
package buffertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vedette-io/vedette/ingest/buffer"
)

// Harness is an empty buffer to be tested.
type Harness struct {
	// Open opens the buffer. It is called again after Close, and then has to give
	// the same topics with the same data.
	Open func(t *testing.T) buffer.Buffer

	// Topic has Partitions partitions, at least two, and no messages.
	Topic      string
	Partitions int

	// MaxPayload is the size of the largest payload that is taken; one more byte
	// is too much. It should be a few MB at most.
	MaxPayload int
}

const patience = time.Minute

// Run runs the suite, every test on a harness of its own.
func Run(t *testing.T, newHarness func(t *testing.T) Harness) {
	tests := []struct {
		name string
		test func(t *testing.T, s *suite)
	}{
		{"Order", testOrder},
		{"Fields", testFields},
		{"AllOrNothing", testAllOrNothing},
		{"Durability", testDurability},
		{"CommitAndResume", testCommitAndResume},
		{"CommitNeverGoesBack", testCommitNeverGoesBack},
		{"StartAt", testStartAt},
		{"Groups", testGroups},
		{"Members", testMembers},
		{"ConcurrentProducers", testConcurrentProducers},
		{"LargeRecords", testLargeRecords},
		{"HighWatermark", testHighWatermark},
		{"NextWaits", testNextWaits},
		{"CancelledAppend", testCancelledAppend},
		{"BadArguments", testBadArguments},
		{"HandlerError", testHandlerError},
		{"HandlerReturns", testHandlerReturns},
		{"Close", testClose},
		{"Attachments", testAttachments},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			s := &suite{Harness: newHarness(t), ctx: ctx}
			s.b = s.Open(t)
			tt.test(t, s)
			if err := s.b.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}

type suite struct {
	Harness
	ctx context.Context
	b   buffer.Buffer
}

func (s *suite) reopen(t *testing.T) {
	t.Helper()
	if err := s.b.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	s.b = s.Open(t)
}

func record(payload string) buffer.Record {
	return buffer.Record{Tenant: "tenant", Format: buffer.FormatRemoteWriteV1, MinTime: 1, MaxTime: 2, Payload: []byte(payload)}
}

func records(payloads ...string) (out []buffer.Record) {
	for _, p := range payloads {
		out = append(out, record(p))
	}
	return out
}

func (s *suite) append(t *testing.T, partition int, payloads ...string) int64 {
	t.Helper()
	first, err := s.b.Append(s.ctx, s.Topic, partition, records(payloads...))
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	return first
}

// message is a copy of what a consumer got.
type message struct {
	partition int
	offset    int64
	payload   string
}

// collector gathers what consumers get.
type collector struct {
	mu       sync.Mutex
	messages []message
	want     int
	enough   chan struct{}
}

func newCollector(want int) *collector {
	return &collector{want: want, enough: make(chan struct{})}
}

func (c *collector) add(claim buffer.Claim, msgs []buffer.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := len(c.messages)
	for _, m := range msgs {
		c.messages = append(c.messages, message{claim.Partition(), m.Offset, string(m.Payload)})
	}
	if before < c.want && len(c.messages) >= c.want {
		close(c.enough)
	}
}

// of returns a partition's messages, which have to be in order.
func (c *collector) of(t *testing.T, partition int) (out []message) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.messages {
		if m.partition != partition {
			continue
		}
		if n := len(out); n > 0 && out[n-1].offset >= m.offset {
			t.Fatalf("partition %d: offset %d after %d", partition, m.offset, out[n-1].offset)
		}
		out = append(out, m)
	}
	return out
}

func payloads(msgs []message) (out []string) {
	for _, m := range msgs {
		out = append(out, m.payload)
	}
	return out
}

// reading says how consume reads.
type reading struct {
	group  string
	from   int64 // where every claim starts, if start is set
	start  bool
	commit bool
}

// consume reads until it has n messages of all partitions together.
func (s *suite) consume(t *testing.T, n int, how reading) *collector {
	t.Helper()
	c := newCollector(n)
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- s.b.Consume(ctx, how.group, s.Topic, func(ctx context.Context, claim buffer.Claim) error {
			if how.start {
				claim.StartAt(how.from)
			}
			for {
				msgs, err := claim.Next(ctx)
				if err != nil {
					return err
				}
				if len(msgs) == 0 {
					return errors.New("next returned nothing")
				}
				if how.commit {
					if err := claim.Commit(ctx, msgs[len(msgs)-1].Offset+1); err != nil {
						return err
					}
				}
				c.add(claim, msgs)
			}
		})
	}()
	select {
	case <-c.enough:
	case err := <-ended:
		t.Fatalf("consume ended with %d of %d messages: %v", len(c.messages), n, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatalf("consume: %v", err)
	}
	return c
}

func wantPayloads(t *testing.T, got []message, want ...string) {
	t.Helper()
	if !slices.Equal(payloads(got), want) {
		t.Fatalf("got %d messages %.60q, want %d %.60q", len(got), payloads(got), len(want), want)
	}
}

func testOrder(t *testing.T, s *suite) {
	var want [2][]string
	var offsets [2][]int64
	for i := range 100 {
		p := i % 2
		payload := fmt.Sprintf("%d/%d", p, i)
		offsets[p] = append(offsets[p], s.append(t, p, payload))
		want[p] = append(want[p], payload)
	}
	c := s.consume(t, 100, reading{group: "g"})
	for p := range 2 {
		got := c.of(t, p)
		wantPayloads(t, got, want[p]...)
		for i, m := range got {
			if m.offset != offsets[p][i] {
				t.Fatalf("partition %d: message %d has offset %d, append said %d", p, i, m.offset, offsets[p][i])
			}
		}
	}
}

func testFields(t *testing.T, s *suite) {
	want := []buffer.Record{
		{Tenant: "a", Format: buffer.FormatRemoteWriteV1, MinTime: -5, MaxTime: 1 << 50, Payload: []byte("one")},
		{Tenant: "", Format: buffer.FormatRemoteWriteV2, Payload: []byte{0, 1, 2, 255}},
		{Tenant: strings.Repeat("t", 128), Format: buffer.FormatUnknown, MinTime: 1, MaxTime: 1, Payload: nil},
	}
	first, err := s.b.Append(s.ctx, s.Topic, 0, want)
	if err != nil {
		t.Fatal(err)
	}
	var got []buffer.Message
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	err = s.b.Consume(ctx, "g", s.Topic, func(ctx context.Context, c buffer.Claim) error {
		if c.Topic() != s.Topic {
			t.Errorf("got topic %q, want %q", c.Topic(), s.Topic)
		}
		if c.Partition() != 0 {
			return nil
		}
		for len(got) < len(want) {
			msgs, err := c.Next(ctx)
			if err != nil {
				return err
			}
			for _, m := range msgs {
				m.Payload = slices.Clone(m.Payload)
				got = append(got, m)
			}
		}
		cancel()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range got {
		w := want[i]
		if m.Offset != first+int64(i) || m.Tenant != w.Tenant || m.Format != w.Format || m.MinTime != w.MinTime ||
			m.MaxTime != w.MaxTime || string(m.Payload) != string(w.Payload) || m.Attachment != nil {
			t.Errorf("message %d: got %+v, want %+v at %d", i, m, w, first+int64(i))
		}
	}
}

func testAllOrNothing(t *testing.T, s *suite) {
	tooLarge := strings.Repeat("x", s.MaxPayload+1)
	if _, err := s.b.Append(s.ctx, s.Topic, 0, records("a", tooLarge, "b")); !errors.Is(err, buffer.ErrTooLarge) {
		t.Fatalf("got %v, want ErrTooLarge", err)
	}
	first := s.append(t, 0, "c", "d", "e")
	got := s.consume(t, 3, reading{group: "g"}).of(t, 0)
	wantPayloads(t, got, "c", "d", "e")
	for i, m := range got {
		if m.offset != first+int64(i) {
			t.Fatalf("message %d has offset %d, want %d", i, m.offset, first+int64(i))
		}
	}
}

func testDurability(t *testing.T, s *suite) {
	source := s.b.Source()
	if source == "" {
		t.Fatal("the source is empty")
	}
	if got := s.b.Partitions(s.Topic); got != s.Partitions {
		t.Fatalf("got %d partitions, want %d", got, s.Partitions)
	}
	var want []string
	for round := range 3 {
		for i := range 10 {
			p := fmt.Sprintf("%d/%d", round, i)
			s.append(t, 0, p)
			want = append(want, p)
		}
		s.reopen(t)
		if got := s.b.Source(); got != source {
			t.Fatalf("the source was %q, is %q", source, got)
		}
		if got := s.b.Partitions(s.Topic); got != s.Partitions {
			t.Fatalf("got %d partitions, want %d", got, s.Partitions)
		}
		c := s.consume(t, len(want), reading{group: "g"})
		wantPayloads(t, c.of(t, 0), want...)
	}
}

func testCommitAndResume(t *testing.T, s *suite) {
	s.append(t, 0, "a", "b")
	s.append(t, 1, "c")
	s.consume(t, 3, reading{group: "g", commit: true})
	second := s.append(t, 0, "d")
	s.reopen(t)
	s.append(t, 1, "e")
	c := s.consume(t, 2, reading{group: "g"})
	got := c.of(t, 0)
	wantPayloads(t, got, "d")
	if got[0].offset != second {
		t.Fatalf("got offset %d, want %d", got[0].offset, second)
	}
	wantPayloads(t, c.of(t, 1), "e")
	c = s.consume(t, 2, reading{group: "g", commit: true}) // the last one did not commit
	wantPayloads(t, c.of(t, 0), "d")
}

func testCommitNeverGoesBack(t *testing.T, s *suite) {
	first := s.append(t, 0, "a", "b", "c")
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	err := s.b.Consume(ctx, "g", s.Topic, func(ctx context.Context, c buffer.Claim) error {
		if c.Partition() != 0 {
			return nil
		}
		defer cancel()
		for next := int64(0); next < first+3; {
			msgs, err := c.Next(ctx)
			if err != nil {
				return err
			}
			next = msgs[len(msgs)-1].Offset + 1
		}
		for _, next := range []int64{first + 1, first + 3, first + 3} {
			if err := c.Commit(ctx, next); err != nil {
				return err
			}
			if got := c.Committed(); got != next {
				return fmt.Errorf("committed %d, got %d", next, got)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s.append(t, 0, "d")
	wantPayloads(t, s.consume(t, 1, reading{group: "g"}).of(t, 0), "d")
}

func testStartAt(t *testing.T, s *suite) {
	first := s.append(t, 0, "a", "b", "c", "d")
	wantPayloads(t, s.consume(t, 2, reading{group: "g", start: true, from: first + 2}).of(t, 0), "c", "d")
	wantPayloads(t, s.consume(t, 4, reading{group: "g", commit: true}).of(t, 0), "a", "b", "c", "d")
	s.append(t, 0, "e")
	// Before what is committed, as long as it is kept; a new record comes in any case.
	got := s.consume(t, 1, reading{group: "g", start: true, from: first}).of(t, 0)
	if got[len(got)-1].payload != "e" && got[0].payload != "a" {
		t.Fatalf("got %q", payloads(got))
	}
}

func testGroups(t *testing.T, s *suite) {
	s.append(t, 0, "a", "b")
	wantPayloads(t, s.consume(t, 2, reading{group: "one"}).of(t, 0), "a", "b")
	wantPayloads(t, s.consume(t, 2, reading{group: "two", commit: true}).of(t, 0), "a", "b")
	s.append(t, 0, "c")
	wantPayloads(t, s.consume(t, 3, reading{group: "one"}).of(t, 0), "a", "b", "c")
	wantPayloads(t, s.consume(t, 1, reading{group: "two"}).of(t, 0), "c")
}

// testMembers lets a second member join and the first one leave: every
// partition always has one owner, and nothing committed is seen twice.
func testMembers(t *testing.T, s *suite) {
	var (
		mu     sync.Mutex
		owners = map[int]int{}
		seen   = map[string]int{}
	)
	all := make(chan struct{}, 1000)
	member := func(ctx context.Context) (ended chan error, started chan struct{}) {
		ended, started = make(chan error, 1), make(chan struct{}, 100)
		go func() {
			ended <- s.b.Consume(ctx, "g", s.Topic, func(ctx context.Context, c buffer.Claim) error {
				mu.Lock()
				owners[c.Partition()]++
				if owners[c.Partition()] > 1 {
					t.Errorf("partition %d has two owners", c.Partition())
				}
				mu.Unlock()
				defer func() {
					mu.Lock()
					owners[c.Partition()]--
					mu.Unlock()
				}()
				started <- struct{}{}
				for {
					msgs, err := c.Next(ctx)
					if err != nil {
						return err
					}
					// Detached: a claim that is taken away finishes what it has begun.
					if err := c.Commit(context.WithoutCancel(ctx), msgs[len(msgs)-1].Offset+1); err != nil {
						return err
					}
					mu.Lock()
					for _, m := range msgs {
						seen[string(m.Payload)]++
						all <- struct{}{}
					}
					mu.Unlock()
				}
			})
		}()
		return ended, started
	}
	wait := func(ch chan struct{}, n int) {
		t.Helper()
		for range n {
			select {
			case <-ch:
			case <-s.ctx.Done():
				t.Fatal("waited too long")
			}
		}
	}
	sent := 0
	send := func() {
		t.Helper()
		for p := range s.Partitions {
			s.append(t, p, fmt.Sprint(sent))
			sent++
		}
		wait(all, s.Partitions)
	}

	ctx1, stop1 := context.WithCancel(s.ctx)
	defer stop1()
	ended1, started1 := member(ctx1)
	wait(started1, s.Partitions)
	send()
	ctx2, stop2 := context.WithCancel(s.ctx)
	defer stop2()
	ended2, started2 := member(ctx2)
	wait(started2, 1)
	send()
	stop1()
	if err := <-ended1; err != nil {
		t.Fatalf("first member: %v", err)
	}
	send()
	stop2()
	if err := <-ended2; err != nil {
		t.Fatalf("second member: %v", err)
	}
	for i := range sent {
		if got := seen[fmt.Sprint(i)]; got != 1 {
			t.Errorf("message %d was seen %d times, want once", i, got)
		}
	}
}

func testConcurrentProducers(t *testing.T, s *suite) {
	const producers, appends = 8, 25
	offsets := make([]map[string]int64, producers)
	var wg sync.WaitGroup
	for w := range producers {
		offsets[w] = map[string]int64{}
		wg.Go(func() {
			for i := range appends {
				a, b := fmt.Sprintf("%d/%d/a", w, i), fmt.Sprintf("%d/%d/b", w, i)
				first, err := s.b.Append(s.ctx, s.Topic, 0, records(a, b))
				if err != nil {
					t.Error(err)
					return
				}
				offsets[w][a], offsets[w][b] = first, first+1
			}
		})
	}
	got := s.consume(t, producers*appends*2, reading{group: "g"}).of(t, 0)
	wg.Wait()
	if len(got) != producers*appends*2 {
		t.Fatalf("got %d messages, want %d", len(got), producers*appends*2)
	}
	at := map[string]int64{}
	for _, m := range got {
		at[m.payload] = m.offset
	}
	for w := range producers {
		prev := int64(-1)
		for i := range appends {
			a := fmt.Sprintf("%d/%d/a", w, i)
			if at[a] != offsets[w][a] || at[a] <= prev {
				t.Fatalf("%s is at %d, append said %d, the one before was at %d", a, at[a], offsets[w][a], prev)
			}
			prev = at[a]
		}
	}
}

func testLargeRecords(t *testing.T, s *suite) {
	var want []string
	for i, n := range []int{s.MaxPayload, 0, s.MaxPayload / 2, 1, s.MaxPayload} {
		p := strings.Repeat(string(rune('a'+i)), n)
		s.append(t, 0, p)
		want = append(want, p)
	}
	tooLarge := strings.Repeat("x", s.MaxPayload+1)
	if _, err := s.b.Append(s.ctx, s.Topic, 0, records(tooLarge)); !errors.Is(err, buffer.ErrTooLarge) {
		t.Fatalf("got %v, want ErrTooLarge", err)
	}
	wantPayloads(t, s.consume(t, len(want), reading{group: "g"}).of(t, 0), want...)
	s.reopen(t)
	wantPayloads(t, s.consume(t, len(want), reading{group: "h"}).of(t, 0), want...)
}

func testHighWatermark(t *testing.T, s *suite) {
	first := s.append(t, 0, "a", "b")
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	err := s.b.Consume(ctx, "g", s.Topic, func(ctx context.Context, c buffer.Claim) error {
		if c.Partition() != 0 {
			return nil
		}
		defer cancel()
		for next := int64(0); next < first+2; {
			msgs, err := c.Next(ctx)
			if err != nil {
				return err
			}
			next = msgs[len(msgs)-1].Offset + 1
			if high := c.HighWatermark(); high < next {
				return fmt.Errorf("got high watermark %d after offset %d", high, next-1)
			}
		}
		if high := c.HighWatermark(); high != first+2 {
			return fmt.Errorf("got high watermark %d, want %d", high, first+2)
		}
		if oldest := c.Oldest(); oldest < 0 || oldest > first {
			return fmt.Errorf("got oldest offset %d, want at most %d", oldest, first)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func testNextWaits(t *testing.T, s *suite) {
	c := newCollector(2)
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	waiting, ended := make(chan struct{}, s.Partitions), make(chan error, 1)
	go func() {
		ended <- s.b.Consume(ctx, "g", s.Topic, func(ctx context.Context, claim buffer.Claim) error {
			waiting <- struct{}{}
			for {
				msgs, err := claim.Next(ctx)
				if err != nil {
					if !errors.Is(err, context.Canceled) {
						t.Errorf("next after the end of its context: got %v, want Canceled", err)
					}
					return err
				}
				c.add(claim, msgs)
			}
		})
	}()
	for range s.Partitions {
		select {
		case <-waiting:
		case err := <-ended:
			t.Fatalf("consume: %v", err)
		}
	}
	s.append(t, 0, "a")
	s.append(t, 1, "b")
	select {
	case <-c.enough:
	case <-s.ctx.Done():
		t.Fatal("waited too long")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatalf("consume: %v", err)
	}
}

func testCancelledAppend(t *testing.T, s *suite) {
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	if _, err := s.b.Append(ctx, s.Topic, 0, records("never")); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want Canceled", err)
	}
	s.append(t, 0, "after")
	wantPayloads(t, s.consume(t, 1, reading{group: "g"}).of(t, 0), "after")
}

func testBadArguments(t *testing.T, s *suite) {
	for _, partition := range []int{-1, s.Partitions} {
		if _, err := s.b.Append(s.ctx, s.Topic, partition, records("x")); err == nil {
			t.Errorf("append to partition %d of %d succeeded", partition, s.Partitions)
		}
	}
	if err := s.b.Consume(s.ctx, "", s.Topic, func(context.Context, buffer.Claim) error { return nil }); err == nil {
		t.Error("consume without a group succeeded")
	}
}

func testHandlerError(t *testing.T, s *suite) {
	s.append(t, 0, "a")
	broken := errors.New("broken")
	err := s.b.Consume(s.ctx, "g", s.Topic, func(ctx context.Context, c buffer.Claim) error {
		_, err := c.Next(ctx)
		if err == nil && c.Partition() == 0 {
			return broken
		}
		<-ctx.Done() // the other handlers are told to end
		return ctx.Err()
	})
	if !errors.Is(err, broken) {
		t.Fatalf("got %v, want the handler's error", err)
	}
	wantPayloads(t, s.consume(t, 1, reading{group: "g"}).of(t, 0), "a")
}

func testHandlerReturns(t *testing.T, s *suite) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	var mu sync.Mutex
	calls := map[int]int{}
	err := s.b.Consume(ctx, "g", s.Topic, func(_ context.Context, c buffer.Claim) error {
		mu.Lock()
		defer mu.Unlock()
		calls[c.Partition()]++
		if len(calls) == s.Partitions {
			cancel()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for p := range s.Partitions {
		if calls[p] != 1 {
			t.Errorf("partition %d was handled %d times, want once", p, calls[p])
		}
	}
}

func testClose(t *testing.T, s *suite) {
	s.append(t, 0, "a")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				_, err := s.b.Append(s.ctx, s.Topic, 0, records("b"))
				if errors.Is(err, buffer.ErrClosed) {
					return
				}
				if err != nil {
					t.Errorf("append while closing: got %v, want ErrClosed", err)
					return
				}
			}
		})
	}
	if err := s.b.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if err := s.b.Close(); err != nil {
		t.Fatalf("second close: %v", err)
	}
	if err := s.b.Consume(s.ctx, "g", s.Topic, func(context.Context, buffer.Claim) error { return nil }); !errors.Is(err, buffer.ErrClosed) {
		t.Fatalf("consume after close: got %v, want ErrClosed", err)
	}
	s.b = s.Open(t)
	if got := s.consume(t, 1, reading{group: "g"}).of(t, 0); got[0].payload != "a" {
		t.Fatalf("got %q", payloads(got))
	}
}

// attachment counts what happens to it.
type attachment struct {
	payload   string
	mu        sync.Mutex
	delivered int
	discarded int
}

func (a *attachment) Discard() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.discarded++
}

// testAttachments allows a buffer to hand over every attachment, some or none.
func testAttachments(t *testing.T, s *suite) {
	const n = 50
	c := newCollector(n)
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- s.b.Consume(ctx, "g", s.Topic, func(ctx context.Context, claim buffer.Claim) error {
			for {
				msgs, err := claim.Next(ctx)
				if err != nil {
					return err
				}
				for i := range msgs {
					if a, ok := msgs[i].Attachment.(*attachment); ok {
						a.mu.Lock()
						a.delivered++
						a.mu.Unlock()
						msgs[i].Payload = []byte(a.payload)
					}
				}
				c.add(claim, msgs)
			}
		})
	}()
	var attachments []*attachment
	var want []string
	for i := range n {
		a := &attachment{payload: fmt.Sprint(i)}
		r := record(a.payload)
		r.Attachment = a
		if _, err := s.b.Append(s.ctx, s.Topic, 0, []buffer.Record{r}); err != nil {
			t.Fatal(err)
		}
		attachments, want = append(attachments, a), append(want, a.payload)
	}
	select {
	case <-c.enough:
	case err := <-ended:
		t.Fatalf("consume: %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatalf("consume: %v", err)
	}
	wantPayloads(t, c.of(t, 0), want...)
	for i, a := range attachments {
		if a.delivered+a.discarded != 1 {
			t.Errorf("attachment %d: handed over %d times, discarded %d times, want one of them", i, a.delivered, a.discarded)
		}
	}
}
