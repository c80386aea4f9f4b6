package trace

import (
	"cmp"
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
	return db.eachFlush(tenants, func(t *tenant) error { return t.flush(ctx) })
}

// eachFlush calls flush for tenants. Whoever waits for room looks again after each.
func (db *DB) eachFlush(tenants []*tenant, flush func(t *tenant) error) error {
	begin := time.Now()
	var errs []error
	for _, t := range tenants {
		errs = append(errs, flush(t))
		db.roomMu.Lock()
		close(db.room)
		db.room = make(chan struct{})
		db.roomMu.Unlock()
	}
	err := errors.Join(errs...)
	db.metrics.flushed(time.Since(begin), err)
	return err
}

// flush writes the head as a block, and first the one that an earlier flush did
// not get rid of. The caller holds flushMu.
func (t *tenant) flush(ctx context.Context) error {
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
	return t.freezeLocked()
}

// freezeLocked is freeze for whoever holds appendMu.
func (t *tenant) freezeLocked() *head {
	h := t.head
	if h == nil {
		return nil
	}
	t.db.appliedMu.Lock()
	for k, from := range h.from {
		h.covers = append(h.covers, k.Range(from, max(from, t.db.appliedTo[k])))
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

// freezeAll freezes the heads of all tenants at one moment, so that their blocks
// hold the same part of every log. Nothing of theirs is being flushed.
func (db *DB) freezeAll() {
	db.mu.RLock()
	defer db.mu.RUnlock()
	for _, t := range db.tenants {
		t.appendMu.Lock()
		defer t.appendMu.Unlock()
	}
	for _, t := range db.tenants {
		t.freezeLocked()
	}
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
		Flushes: block.Flushes{First: next, Last: next}, MinArrival: h.since.UnixMilli(), MaxArrival: max(h.since.UnixMilli(), h.last.UnixMilli()),
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
	dir := filepath.Join(t.dir, o.Name())
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

// due returns the tenants whose heads are to be flushed now: those that are old
// enough or did not succeed before, and if all together are full, the largest ones
// until the others are not half full. So a tenant with little is not flushed as
// often as its largest neighbour.
func (db *DB) due() []*tenant {
	oldest := db.now().Add(-db.config.FlushInterval)
	var due, young []*tenant
	for _, t := range db.allTenants() {
		t.mu.RLock()
		switch {
		case t.flushing != nil || t.head != nil && !t.head.since.After(oldest):
			due = append(due, t)
		case t.head != nil:
			young = append(young, t)
		}
		t.mu.RUnlock()
	}
	if !db.full(1) {
		return due
	}
	sizes := make(map[*tenant]headSize, len(young))
	var left headSize
	for _, t := range young {
		sizes[t] = t.headSize()
		left.spans += sizes[t].spans
		left.bytes += sizes[t].bytes
	}
	slices.SortFunc(young, func(a, b *tenant) int { return cmp.Compare(db.share(sizes[b]), db.share(sizes[a])) })
	for _, t := range young {
		if db.share(left) < 0.5 {
			break
		}
		due = append(due, t)
		left.spans -= sizes[t].spans
		left.bytes -= sizes[t].bytes
	}
	return due
}

// headSize is how much a head holds.
type headSize struct{ spans, bytes int }

func (t *tenant) headSize() headSize {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.head == nil {
		return headSize{}
	}
	return headSize{t.head.table.Rows(), t.head.table.Bytes()}
}

// share returns which part that is of what heads should hold.
func (db *DB) share(s headSize) float64 {
	return max(float64(s.spans)/float64(db.config.FlushSpans), float64(s.bytes)/float64(db.config.FlushBytes))
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
