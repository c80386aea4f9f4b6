package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

const (
	fetchMaxWait  = 500 * time.Millisecond
	fetchTimeout  = 10 * time.Second
	boundsTimeout = 3 * time.Second
)

// fetched is what a fetch request returned.
type fetched struct {
	asked   int64
	offset  int64 // up to which messages were read
	high    int64
	oldest  int64
	all     []byte // batches; in buf
	rest    []byte // those that have not been read
	buf     []byte
	outside bool // the offset is not in the log
}

// fetch asks for messages from offset on until it gets an answer, be it empty;
// it returns nil when ctx ends. It uses buf, if that is large enough.
func (p *partition) fetch(ctx context.Context, offset int64, buf []byte) *fetched {
	for pause := firstRetryPause; ; pause = min(2*pause, maxRetryPause) {
		f, err := p.fetchOnce(ctx, offset, buf)
		if err == nil {
			return f
		}
		buf = nil // the connection may still write to it
		if ctx.Err() != nil {
			return nil
		}
		p.t.metrics.fetchErrors.Inc()
		if pause >= warnRetryPause && p.b.warned.fetch.allow() {
			p.b.logger.Warn("fetch from kafka, trying again", "topic", p.t.kafka, "partition", p.index, "offset", offset, "err", err)
		}
		if !sleep(ctx, pause) {
			return nil
		}
	}
}

func (p *partition) fetchOnce(ctx context.Context, offset int64, buf []byte) (*fetched, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	resp, err := p.b.transport.RoundTrip(ctx, p.b.client.Addr, &fetchRequest{
		client: p.b.cfg.ClientID, topic: p.t.kafka, partition: int32(p.index), offset: offset, buf: buf,
	})
	if err != nil {
		return nil, err
	}
	a, ok := resp.(*fetchAnswer)
	if !ok {
		return nil, errors.New("fetch: got an answer of another kind")
	}
	if errors.Is(a.err, kafkago.OffsetOutOfRange) {
		return &fetched{asked: offset, offset: offset, outside: true}, nil
	}
	if a.err != nil {
		return nil, a.err
	}
	return &fetched{asked: offset, offset: offset, high: a.high, oldest: a.oldest, all: a.records, rest: a.records, buf: a.buf}, nil
}

// bounds asks for the partition's oldest offset and its end until it gets an
// answer or ctx ends.
func (b *Buffer) bounds(ctx context.Context, p *partition) (oldest, high int64, err error) {
	for pause := firstRetryPause; ; pause = min(2*pause, maxRetryPause) {
		if oldest, high, err = b.boundsOnce(ctx, p); err == nil {
			return oldest, high, nil
		}
		if ctx.Err() != nil {
			return 0, 0, ctx.Err()
		}
		if pause >= warnRetryPause && b.warned.fetch.allow() {
			b.logger.Warn("list offsets, trying again", "topic", p.t.kafka, "partition", p.index, "err", err)
		}
		if !sleep(ctx, pause) {
			return 0, 0, ctx.Err()
		}
	}
}

func (b *Buffer) boundsOnce(ctx context.Context, p *partition) (oldest, high int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, boundsTimeout)
	defer cancel()
	resp, err := b.client.ListOffsets(ctx, &kafkago.ListOffsetsRequest{
		Topics: map[string][]kafkago.OffsetRequest{
			p.t.kafka: {kafkago.FirstOffsetOf(p.index), kafkago.LastOffsetOf(p.index)},
		},
	})
	if err != nil {
		return 0, 0, err
	}
	for _, o := range resp.Topics[p.t.kafka] {
		if o.Partition == p.index {
			return o.FirstOffset, o.LastOffset, o.Error
		}
	}
	return 0, 0, fmt.Errorf("list offsets of %s/%d: got an answer without the partition", p.t.kafka, p.index)
}
