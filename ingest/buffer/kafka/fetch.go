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

// fetch asks for messages from offset on until it gets an answer, be it empty;
// it returns nil when ctx ends.
func (p *partition) fetch(ctx context.Context, offset int64) *fetched {
	for pause := firstRetryPause; ; pause = min(2*pause, maxRetryPause) {
		f, err := p.fetchOnce(ctx, offset)
		if err == nil {
			return f
		}
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

func (p *partition) fetchOnce(ctx context.Context, offset int64) (*fetched, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	resp, err := p.b.client.Fetch(ctx, &kafkago.FetchRequest{
		Topic:     p.t.kafka,
		Partition: p.index,
		Offset:    offset,
		MinBytes:  1,
		MaxBytes:  maxNextBytes,
		MaxWait:   fetchMaxWait,
	})
	if err != nil {
		return nil, err
	}
	if errors.Is(resp.Error, kafkago.OffsetOutOfRange) {
		return &fetched{offset: offset, outside: true}, nil
	}
	if resp.Error != nil {
		return nil, resp.Error
	}
	return &fetched{offset: offset, resp: resp}, nil
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
