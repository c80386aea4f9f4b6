package trace

import (
	"context"
	"fmt"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/storage/block"
)

// AppendSpans adds a batch that stands at offset of a log's partition. Batches
// of one partition come in the order of their offsets, one per tenant and
// offset. What the tenant has already is skipped, so a log may be replayed from
// anywhere below Durable. When AppendSpans returns, Views see the spans. It
// waits while heads are full and cannot be flushed fast enough; an error means
// that the store cannot take the batch now.
//
// The batch is not used after the call.
func (db *DB) AppendSpans(ctx context.Context, b *signal.Spans, source, topic string, partition int32, offset int64) (signal.AppendResult, error) {
	var res signal.AppendResult
	if err := db.waitForRoom(ctx); err != nil {
		return res, err
	}
	t, err := db.tenant(b.Tenant)
	if err != nil {
		return res, err
	}
	k := block.SourceKey{Source: source, Topic: topic, Partition: partition}
	t.appendMu.Lock()
	if offset >= t.taken[k] {
		res, err = t.append(b, k, offset)
	}
	if err == nil {
		t.taken[k] = max(t.taken[k], offset+1)
		db.applied(k, offset+1) // before a flush can cut behind the batch
	}
	t.appendMu.Unlock()
	if err != nil {
		return res, err
	}
	db.metrics.observe(&res)
	if db.full(1) {
		db.wakeFlush()
	}
	return res, nil
}

// append adds a batch to the head. The caller holds appendMu.
func (t *tenant) append(b *signal.Spans, k block.SourceKey, offset int64) (signal.AppendResult, error) {
	now := t.db.now()
	t.mu.Lock()
	h := t.head
	if h == nil {
		h = newHead(now)
		t.head = h
	}
	if _, ok := h.from[k]; !ok {
		h.from[k] = offset
	}
	t.mu.Unlock()
	added, duplicates, err := h.table.Append(b)
	if err != nil {
		return signal.AppendResult{}, fmt.Errorf("append spans: %w", err)
	}
	h.last = now
	if added > 0 {
		h.operations.observe(b, t.catalog)
	}
	bytes := int64(h.table.Bytes())
	t.db.spans.Add(int64(added))
	t.db.bytes.Add(bytes - h.bytes)
	h.bytes = bytes
	return signal.AppendResult{Appended: added, Duplicates: duplicates}, nil
}

// full reports whether heads hold n times what they should.
func (db *DB) full(n int64) bool {
	return db.spans.Load() >= n*int64(db.config.FlushSpans) || db.bytes.Load() >= n*db.config.FlushBytes
}

// waitForRoom waits while heads hold twice what they should.
func (db *DB) waitForRoom(ctx context.Context) error {
	for db.full(2) {
		db.roomMu.Lock()
		room := db.room
		db.roomMu.Unlock()
		if !db.full(2) {
			return nil
		}
		db.wakeFlush()
		select {
		case <-ctx.Done():
			return fmt.Errorf("append spans: wait for a flush: %w", ctx.Err())
		case <-room:
		}
	}
	return nil
}

func (db *DB) wakeFlush() {
	select {
	case db.flushC <- struct{}{}:
	default:
	}
}
