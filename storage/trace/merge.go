package trace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/vedette-io/vedette/storage/block"
	"github.com/vedette-io/vedette/storage/trace/rows"
)

// mergedOrigin is the origin of a block that replaces adjacent ones, but for its
// services and for what sampling decides.
func mergedOrigin(blocks []*blockFile) Origin {
	first, last := &blocks[0].origin, &blocks[len(blocks)-1].origin
	o := Origin{Flushes: block.Flushes{First: first.First, Last: last.Last}, MinArrival: first.MinArrival, MaxArrival: first.MaxArrival}
	for _, b := range blocks {
		p := &b.origin
		o.Level = max(o.Level, p.Level+1)
		o.MinArrival = min(o.MinArrival, p.MinArrival)
		o.MaxArrival = max(o.MaxArrival, p.MaxArrival)
		o.Partial = o.Partial || p.Partial
		for _, s := range p.Sources {
			o.Sources = block.AddSource(o.Sources, s)
		}
	}
	if len(blocks) == 1 {
		o.Generation = first.Generation + 1
		o.Level = max(first.Level, 1)
	}
	return o
}

// merge replaces adjacent blocks by one.
func (t *tenant) merge(ctx context.Context, blocks []*blockFile) error {
	t.mergeMu.Lock()
	defer t.mergeMu.Unlock()
	current := t.snapshotBlocks()
	for _, b := range blocks {
		if !slices.Contains(current, b) { // replaced since it was planned
			return nil
		}
	}
	begin := time.Now()
	o := mergedOrigin(blocks)
	ctx, span := t.db.tracer.Start(ctx, "store merge", trace.WithAttributes(attribute.String("tenant", t.name),
		attribute.Int("blocks", len(blocks)), attribute.Int("level", o.Level)))
	merged, err := t.writeMerged(ctx, blocks, &o)
	endSpan(span, err)
	if errors.Is(err, block.ErrCorruption) {
		return errors.Join(err, t.quarantine(err))
	}
	if err != nil {
		return fmt.Errorf("merge %d blocks of tenant %s: %w", len(blocks), t.name, err)
	}
	t.replace(blocks, merged)
	t.db.metrics.merged(time.Since(begin), o.Level, int64(merged.spans()))
	return nil
}

// writeMerged writes the block that is to replace blocks.
func (t *tenant) writeMerged(ctx context.Context, blocks []*blockFile, o *Origin) (*blockFile, error) {
	expired := t.db.expiredServices(t.ageOf(blocks))
	ops := newOperations()
	in := make([]rows.Source, 0, len(blocks))
	spans := 0
	for _, b := range blocks {
		in = append(in, b.rows)
		ops.addList(b.origin.Services, expired)
		spans += b.spans()
	}
	o.Services, o.Partial = ops.list(), o.Partial || ops.full()
	w := rows.WriteOptions{}
	if expired != nil {
		w.KeepService = func(service string) bool { return !expired(service) }
	}
	d, err := t.decide(ctx, blocks, o)
	if err != nil {
		return nil, err
	}
	if d != nil {
		w.Keep = d.keep
	}
	merged, err := t.writeBlock(ctx, o, in, w)
	if err != nil {
		return nil, err
	}
	t.countDropped(d, expired != nil, spans-merged.spans())
	return merged, nil
}

// countDropped counts what a merge left out.
func (t *tenant) countDropped(d *decision, expired bool, lost int) {
	m := t.db.metrics
	if d != nil {
		m.dropped("sampling", d.spans)
		m.droppedTrace.Add(float64(len(d.drop)))
		lost -= d.spans
	}
	if expired {
		m.dropped("service_retention", lost)
	} else {
		m.dropped("duplicate", lost)
	}
}

// replace puts merged in the place of blocks. The caller holds mergeMu.
func (t *tenant) replace(blocks []*blockFile, merged *blockFile) {
	t.catalog.addList(merged.origin.Services)
	t.mu.Lock()
	i := slices.Index(t.blocks, blocks[0])
	t.blocks = slices.Replace(slices.Clone(t.blocks), i, i+len(blocks), merged)
	t.mu.Unlock()
	for _, b := range blocks {
		t.catalog.removeList(b.origin.Services)
		t.drop(b)
	}
}

// Compact merges the blocks of every tenant into one each, as far as no block
// between them was set aside as damaged. It is for tools and tests: a server
// merges by itself. Traces that are too young for tail sampling are all kept.
func (db *DB) Compact(ctx context.Context) error {
	var errs []error
	for _, t := range db.allTenants() {
		blocks := t.snapshotBlocks()
		for len(blocks) > 0 {
			n := 1
			for n < len(blocks) && blocks[n].origin.Follows(blocks[n-1].origin.Flushes) {
				n++
			}
			if n > 1 || blocks[0].origin.Level == 0 {
				errs = append(errs, t.merge(ctx, blocks[:n]))
			}
			blocks = blocks[n:]
		}
	}
	return errors.Join(errs...)
}
