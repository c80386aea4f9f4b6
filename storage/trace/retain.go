package trace

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

// expiry returns until when a block is kept, unix milliseconds: its newest span
// may be of the service that is kept longest.
func (t *tenant) expiry(o *Origin) int64 {
	c := &t.db.config
	var keep time.Duration
	for i := range o.Services {
		keep = max(keep, c.keep(o.Services[i].Service))
	}
	if o.Partial || len(o.Services) == 0 {
		keep = c.Retention
		for _, d := range c.RetentionByService {
			keep = max(keep, d)
		}
	}
	return o.MaxArrival + keep.Milliseconds()
}

// expiredServices returns the services whose spans in a block are all past their
// retention, as a function; nil if there are none.
func (t *tenant) expiredServices(o *Origin) func(service string) bool {
	c := &t.db.config
	if len(c.RetentionByService) == 0 {
		return nil
	}
	age := t.db.now().Sub(time.UnixMilli(o.MaxArrival))
	shortest := c.Retention
	for _, d := range c.RetentionByService {
		shortest = min(shortest, d)
	}
	if age <= shortest {
		return nil
	}
	return func(service string) bool { return age > c.keep(service) }
}

// retain drops blocks past their retention, rewrites those that only some
// services have left, and keeps to the bound on bytes.
func (db *DB) retain(ctx context.Context) error {
	var errs []error
	now := db.now().UnixMilli()
	for _, t := range db.allTenants() {
		var expired []*blockFile
		for _, b := range t.snapshotBlocks() {
			switch {
			case t.expiry(&b.origin) < now:
				expired = append(expired, b)
			case ctx.Err() == nil && t.hasExpired(&b.origin):
				errs = append(errs, t.merge(ctx, []*blockFile{b}))
			}
		}
		errs = append(errs, t.dropBlocks(expired))
	}
	return errors.Join(append(errs, db.retainBytes())...)
}

// hasExpired reports whether the block lists a service that is to leave it. A
// rewrite takes it off the list, so a block is rewritten at most as often as its
// services have different retentions.
func (t *tenant) hasExpired(o *Origin) bool {
	expired := t.expiredServices(o)
	return expired != nil && slices.ContainsFunc(o.Services, func(s ServiceOperations) bool { return expired(s.Service) })
}

// retainBytes drops what arrived first while all blocks take too much.
func (db *DB) retainBytes() error {
	limit := db.config.RetentionBytes
	if limit <= 0 {
		return nil
	}
	type owned struct {
		t *tenant
		b *blockFile
	}
	var all []owned
	total := int64(0)
	for _, t := range db.allTenants() {
		for _, b := range t.snapshotBlocks() {
			all = append(all, owned{t, b})
			total += b.size()
		}
	}
	slices.SortStableFunc(all, func(a, b owned) int { return cmp.Compare(a.b.origin.MaxArrival, b.b.origin.MaxArrival) })
	var errs []error
	for _, o := range all {
		if total <= limit {
			break
		}
		total -= o.b.size()
		errs = append(errs, o.t.dropBlocks([]*blockFile{o.b}))
	}
	return errors.Join(errs...)
}

// dropBlocks deletes blocks for good. Views that read them finish first.
func (t *tenant) dropBlocks(blocks []*blockFile) error {
	if len(blocks) == 0 {
		return nil
	}
	t.mergeMu.Lock()
	defer t.mergeMu.Unlock()
	current := t.snapshotBlocks()
	blocks = slices.DeleteFunc(blocks, func(b *blockFile) bool { return !slices.Contains(current, b) })
	for _, b := range blocks {
		t.gone.cover(&b.origin)
	}
	if err := t.gone.write(t.db.fs, t.dir); err != nil {
		return err
	}
	t.mu.Lock()
	t.blocks = slices.DeleteFunc(slices.Clone(t.blocks), func(b *blockFile) bool { return slices.Contains(blocks, b) })
	t.mu.Unlock()
	for _, b := range blocks {
		t.db.logger.Info("dropped a block past its retention", "block", b.dir, "spans", b.spans(), "bytes", b.size())
		t.db.metrics.retired(b.spans())
		t.catalog.removeList(b.origin.Services)
		t.drop(b)
	}
	return nil
}
