package trace

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/vedette-io/vedette/storage/block"
	"github.com/vedette-io/vedette/storage/trace/rows"
)

// Flush writes the heads of all tenants as blocks. When it returns nil,
// everything that was appended before the call is durable.
func (db *DB) Flush(ctx context.Context) error {
	db.flushMu.Lock()
	defer db.flushMu.Unlock()
	return db.flushLocked(ctx, db.allTenants())
}

// flushLocked flushes tenants. The caller holds flushMu.
func (db *DB) flushLocked(ctx context.Context, tenants []*tenant) error {
	begin := time.Now()
	var errs []error
	for _, t := range tenants {
		errs = append(errs, t.flush(ctx))
	}
	db.roomMu.Lock()
	close(db.room)
	db.room = make(chan struct{})
	db.roomMu.Unlock()
	err := errors.Join(errs...)
	db.metrics.flushed(time.Since(begin), err)
	return err
}

// flush writes the head as a block, and first the one that an earlier flush did
// not get rid of.
func (t *tenant) flush(ctx context.Context) error {
	t.flushMu.Lock()
	defer t.flushMu.Unlock()
	if err := t.write(ctx, t.flushing); err != nil {
		return err
	}
	return t.write(ctx, t.freeze())
}

// freeze makes the head the one that flushes, and returns it; nil if there is
// nothing to flush. The cut is between batches.
func (t *tenant) freeze() *head {
	t.appendMu.Lock()
	defer t.appendMu.Unlock()
	h := t.head
	if h == nil {
		return nil
	}
	t.db.appliedMu.Lock()
	for k, from := range h.from {
		h.covers = append(h.covers, Source{k.source, k.topic, k.partition, from, max(from, t.db.appliedTo[k])})
	}
	t.db.appliedMu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.head = nil
	if h.table.Rows() == 0 { // all of it was there already, or refused
		t.db.bytes.Add(-h.bytes)
		return nil
	}
	t.flushing = h
	return h
}

// write publishes a frozen head as a block of level 0. The caller holds flushMu;
// on error the head goes on to be readable and write may be called again.
func (t *tenant) write(ctx context.Context, h *head) error {
	if h == nil {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	n := h.table.Rows()
	ctx, span := t.db.tracer.Start(ctx, "store flush", trace.WithAttributes(
		attribute.String("tenant", t.name), attribute.Int("spans", n)))
	err := t.publishHead(ctx, h)
	endSpan(span, err)
	if err != nil {
		return fmt.Errorf("flush tenant %s: %w", t.name, err)
	}
	t.db.spans.Add(-int64(n))
	t.db.bytes.Add(-h.bytes)
	return nil
}

func (t *tenant) publishHead(ctx context.Context, h *head) error {
	t.mu.RLock()
	next := t.next
	t.mu.RUnlock()
	o := Origin{
		First: next, Last: next, MinArrival: h.since.UnixMilli(), MaxArrival: max(h.since.UnixMilli(), h.last.UnixMilli()),
		Sources: slices.Clone(h.covers), Services: h.operations.list(), Partial: h.operations.full(),
	}
	b, err := t.writeBlock(ctx, &o, []rows.Source{h.table.Snapshot()}, rows.WriteOptions{Quick: true})
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.blocks = append(slices.Clone(t.blocks), b)
	t.coverBlock(b)
	t.flushing = nil // its operations are the block's now
	t.mu.Unlock()
	return nil
}

// writeBlock writes in as one block and opens it.
func (t *tenant) writeBlock(ctx context.Context, o *Origin, in []rows.Source, w rows.WriteOptions) (*blockFile, error) {
	w.Origin = o.encode()
	dir := filepath.Join(t.dir, o.name())
	if _, err := rows.Write(ctx, t.db.fs, dir, in, w); err != nil {
		return nil, err
	}
	b, err := t.load(dir)
	if err != nil {
		// The next try uses the same name.
		return nil, errors.Join(err, block.Remove(t.db.fs, dir))
	}
	return b, nil
}

// due returns the tenants whose heads are to be flushed now: all if together
// they are full, else those that are old enough or did not succeed before.
func (db *DB) due() []*tenant {
	tenants := db.allTenants()
	if db.full(1) {
		return tenants
	}
	oldest := db.now().Add(-db.config.FlushInterval)
	return slices.DeleteFunc(tenants, func(t *tenant) bool {
		t.mu.RLock()
		defer t.mu.RUnlock()
		return t.flushing == nil && (t.head == nil || t.head.since.After(oldest))
	})
}

// flushDue flushes the heads that are full or old.
func (db *DB) flushDue(ctx context.Context) error {
	db.flushMu.Lock()
	defer db.flushMu.Unlock()
	if tenants := db.due(); len(tenants) > 0 {
		return db.flushLocked(ctx, tenants)
	}
	return nil
}

func endSpan(span trace.Span, err error) {
	if err != nil {
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}
