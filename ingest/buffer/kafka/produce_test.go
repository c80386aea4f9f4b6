package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/compress"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ingest/buffer"
)

// lonePartition has no Kafka.
func lonePartition(maxBatch int64) *partition {
	b := &Buffer{cfg: DefaultConfig(), maxBatch: maxBatch, metrics: newMetrics()}
	t := &topic{name: testTopic, kafka: testTopic, metrics: b.metrics.topic(testTopic), joined: make(chan struct{})}
	return t.partition(b, 0)
}

func queued(p *partition, sizes ...int64) (calls []*appendCall) {
	for _, n := range sizes {
		c := &appendCall{bytes: n, done: make(chan struct{}), deadline: time.Now().Add(time.Hour)}
		p.queue = append(p.queue, c)
		calls = append(calls, c)
	}
	return calls
}

func TestTakeCalls(t *testing.T) {
	tests := []struct {
		sizes []int64
		want  []int // calls per batch
	}{
		{nil, nil},
		{[]int64{1}, []int{1}},
		{[]int64{300, 300, 300}, []int{3}},
		{[]int64{500, 500, 500}, []int{1, 1, 1}},
		{[]int64{900, 100, 35, 900}, []int{1, 2, 1}},
		{[]int64{400, 535, 1}, []int{2, 1}},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.sizes), func(t *testing.T) {
			p := lonePartition(1000)
			calls := queued(p, tt.sizes...)
			p.flushing = true
			var got []int
			var order []*appendCall
			for {
				taken := p.takeCalls()
				if taken == nil {
					break
				}
				for _, c := range taken {
					if p.withdraw(c) {
						t.Error("a call was withdrawn while it is being produced")
					}
				}
				got, order = append(got, len(taken)), append(order, taken...)
			}
			if !slices.Equal(got, tt.want) || !slices.Equal(order, calls) {
				t.Errorf("got batches of %v calls, want %v, in order", got, tt.want)
			}
			if p.flushing {
				t.Error("the partition is flushing an empty queue")
			}
		})
	}
}

func TestWithdraw(t *testing.T) {
	p := lonePartition(1000)
	calls := queued(p, 1, 2, 3)
	if !p.withdraw(calls[1]) {
		t.Fatal("a waiting call was not withdrawn")
	}
	if got := p.takeCalls(); !slices.Equal(got, []*appendCall{calls[0], calls[2]}) {
		t.Fatalf("got %v", got)
	}
}

func TestFailExpired(t *testing.T) {
	p := lonePartition(1000)
	calls := queued(p, 1, 2)
	calls[0].deadline = time.Now().Add(-time.Second)
	if kept := p.failExpired(calls, context.DeadlineExceeded); !slices.Equal(kept, calls[1:]) {
		t.Fatalf("got %v", kept)
	}
	<-calls[0].done
	var full *buffer.FullError
	if !errors.As(calls[0].err, &full) || full.RetryAfter <= 0 || !strings.Contains(full.Error(), "unreachable") {
		t.Fatalf("got %v, want a FullError", calls[0].err)
	}
}

// TestAway has one call at a time find out whether Kafka is back.
func TestAway(t *testing.T) {
	p := lonePartition(1000)
	calls := queued(p, 1, 2)
	calls[0].deadline = time.Now().Add(-time.Second)
	p.flushing = true
	p.failExpired(p.takeCalls(), context.DeadlineExceeded)
	var full *buffer.FullError
	refused := func() bool {
		t.Helper()
		err := p.enqueue(&appendCall{bytes: 1, done: make(chan struct{})})
		if err == nil {
			return false
		}
		if !errors.As(err, &full) || full.RetryAfter <= 0 || !errors.Is(full, context.DeadlineExceeded) {
			t.Errorf("got %v, want a FullError", err)
		}
		return true
	}
	if !refused() {
		t.Error("a second call waits for a Kafka that is away")
	}
	p.acknowledge(calls[1:], 0)
	if refused() {
		t.Error("a call was refused after Kafka was back")
	}
	p.noteAway(context.DeadlineExceeded)
	if !refused() {
		t.Error("a second call waits for a Kafka that is away")
	}
	p.awayAt = p.awayAt.Add(-p.b.cfg.Producer.Timeout)
	if refused() {
		t.Error("a call was refused long after Kafka was away")
	}
	p.noteAway(nil)
	if p.isAway() {
		t.Error("Kafka is away after an answer")
	}
}

func TestProducedAt(t *testing.T) {
	p := lonePartition(1000)
	answer := func(topic string, partition int32, code int16, base int64) *produce.Response {
		return &produce.Response{Topics: []produce.ResponseTopic{{Topic: topic, Partitions: []produce.ResponsePartition{{
			Partition: partition, ErrorCode: code, BaseOffset: base,
		}}}}}
	}
	if base, err := producedAt(answer(testTopic, 0, 0, 7), p); base != 7 || err != nil {
		t.Errorf("got %d, %v", base, err)
	}
	for name, r := range map[string]*produce.Response{
		"other topic": answer("x", 0, 0, 7), "other partition": answer(testTopic, 1, 0, 7), "refused": answer(testTopic, 0, 2, 7),
		"no offset": answer(testTopic, 0, 0, -1), "empty": {},
	} {
		if base, err := producedAt(r, p); err == nil {
			t.Errorf("%s: got offset %d, want an error", name, base)
		}
	}
}

type discarder struct{ discarded int }

func (d *discarder) Discard() { d.discarded++ }

// TestAcknowledge follows attachments from the acknowledgement to the tail.
func TestAcknowledge(t *testing.T) {
	p := lonePartition(1000)
	p.tail.MaxBytes = 10
	d := make([]*discarder, 6)
	call := func(i ...int) *appendCall {
		c := &appendCall{done: make(chan struct{})}
		for _, i := range i {
			d[i] = &discarder{}
			c.records = append(c.records, buffer.Record{Payload: []byte("abcd"), Attachment: d[i]})
		}
		return c
	}
	wantDiscarded := func(want ...int) {
		t.Helper()
		var got []int
		for i := range d {
			if d[i] != nil && d[i].discarded > 0 {
				got = append(got, i)
			}
			if d[i] != nil && d[i].discarded > 1 {
				t.Errorf("attachment %d was discarded twice", i)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v discarded, want %v", got, want)
		}
	}
	first := call(0)
	p.acknowledge([]*appendCall{first}, 5)
	wantDiscarded(0) // nobody consumes
	if first.offset != 5 || p.highWatermark() != 6 {
		t.Errorf("got offset %d and high watermark %d", first.offset, p.highWatermark())
	}
	c := &claim{p: p, wake: make(chan struct{}, 1), pos: 7}
	p.claims, p.tail.owner = []*claim{c}, c
	p.acknowledge([]*appendCall{call(1)}, 6)
	wantDiscarded(0, 1) // it was fetched before
	p.acknowledge([]*appendCall{call(2), call(3, 4)}, 7)
	wantDiscarded(0, 1, 4) // there is no more room
	if upTo, behind := c.takeTail(); len(c.msgs) != 2 || c.msgs[0].Offset != 7 || c.pos != 9 || !behind || upTo != noLimit {
		t.Errorf("got %v, up to %d, behind %t", c.msgs, upTo, behind)
	}
	c.msgs = nil
	p.acknowledge([]*appendCall{call(5)}, 12)
	if upTo, behind := c.takeTail(); len(c.msgs) != 0 || upTo != 12 || !behind {
		t.Errorf("got %v, up to %d, behind %t, want a gap up to 12", c.msgs, upTo, behind)
	}
	c.moveTo(13)
	c.takeTail()
	wantDiscarded(0, 1, 4, 5)
}

func TestCodecFor(t *testing.T) {
	calls := func(formats ...buffer.Format) (out []*appendCall) {
		for _, f := range formats {
			out = append(out, &appendCall{records: []buffer.Record{{Format: f}}})
		}
		return out
	}
	tests := []struct {
		calls []*appendCall
		want  compress.Compression
	}{
		{calls(buffer.FormatRemoteWriteV1, buffer.FormatRemoteWriteV2, buffer.FormatOTLPSnappy), compress.None},
		{calls(buffer.FormatRemoteWriteV1, buffer.FormatOTLP), compress.Zstd},
		{calls(buffer.FormatUnknown), compress.Zstd},
	}
	for _, tt := range tests {
		if got := codecFor(tt.calls, compress.Zstd); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}

// What a connection has not begun to send when nobody waits for it any more is never sent.
func TestBatchReader(t *testing.T) {
	fresh := func() *batchReader { return &batchReader{Reader: bytes.NewReader([]byte("batch"))} }
	for name, read := range map[string]func(r *batchReader) (int64, error){
		"read":  func(r *batchReader) (int64, error) { n, err := r.Read(make([]byte, 3)); return int64(n), err },
		"write": func(r *batchReader) (int64, error) { return r.WriteTo(io.Discard) },
	} {
		t.Run(name, func(t *testing.T) {
			r := fresh()
			require.False(t, r.end())
			_, err := read(r)
			require.ErrorIs(t, err, errEnded)
			require.False(t, r.end())

			r = fresh()
			n, err := read(r)
			require.NoError(t, err)
			require.Positive(t, n)
			require.True(t, r.end())
		})
	}
}
