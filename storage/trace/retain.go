package trace

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"time"
)

// arrivals returns when the last spans of each block arrived, unix milliseconds,
// as far as that can be told: blocks are in the order of their arrival. One that
// says it is older than those before it was written by a clock that was behind,
// and must not be deleted for that; one from the future, by a clock that was
// ahead, arrived before the next one, and must not stay for ever.
func arrivals(blocks []*blockFile, now int64) []int64 {
	const unknown = math.MinInt64
	out := make([]int64, len(blocks))
	latest := int64(unknown)
	for i, b := range blocks {
		out[i] = unknown
		if at := b.origin.MaxArrival; at <= now {
			latest = max(latest, at)
			out[i] = latest
		}
	}
	next := now
	for i := range slices.Backward(out) {
		if out[i] == unknown {
			out[i] = next
		}
		next = out[i]
	}
	return out
}

// keeps returns how long the spans of a block are kept: those of the service that
// goes first, and those of the one that stays longest.
func (c *Config) keeps(o *Origin) (shortest, longest time.Duration) {
	shortest, longest = c.Retention, c.Retention
	if len(c.RetentionByService) == 0 {
		return shortest, longest
	}
	if o.Partial || len(o.Services) == 0 {
		for _, d := range c.RetentionByService {
			longest = max(longest, d)
		}
	} else {
		shortest, longest = math.MaxInt64, 0
	}
	for i := range o.Services {
		d := c.keep(o.Services[i].Service)
		shortest, longest = min(shortest, d), max(longest, d)
	}
	return shortest, longest
}

// expiredServices returns the services whose spans are all past their retention
// in blocks that arrived so long ago, as a function; nil if there are none.
func (db *DB) expiredServices(age time.Duration) func(service string) bool {
	c := &db.config
	if len(c.RetentionByService) == 0 {
		return nil
	}
	shortest := c.Retention
	for _, d := range c.RetentionByService {
		shortest = min(shortest, d)
	}
	if age <= shortest {
		return nil
	}
	return func(service string) bool { return age > c.keep(service) }
}

// ageOf returns how long ago the newest of some of the tenant's blocks arrived.
func (t *tenant) ageOf(blocks []*blockFile) time.Duration {
	now := t.db.now().UnixMilli()
	all := t.snapshotBlocks()
	age := int64(math.MaxInt64)
	for i, at := range arrivals(all, now) {
		if slices.Contains(blocks, all[i]) {
			age = min(age, now-at)
		}
	}
	return millis(age)
}

// millis returns so many milliseconds, or as many as there can be.
func millis(n int64) time.Duration {
	return time.Duration(min(n, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
}

// retain drops blocks past their retention, rewrites those that only some
// services have left, and keeps to the bound on bytes.
func (db *DB) retain(ctx context.Context) error {
	var errs []error
	now := db.now().UnixMilli()
	for _, t := range db.allTenants() {
		var expired []*blockFile
		blocks := t.snapshotBlocks()
		for i, at := range arrivals(blocks, now) {
			b, age := blocks[i], millis(now-at)
			switch {
			case age > b.longest:
				expired = append(expired, b)
			case ctx.Err() == nil && age > b.shortest && t.hasExpired(b, age):
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
func (t *tenant) hasExpired(b *blockFile, age time.Duration) bool {
	expired := t.db.expiredServices(age)
	return expired != nil && slices.ContainsFunc(b.origin.Services, func(s ServiceOperations) bool { return expired(s.Service) })
}

// retainBytes drops what arrived first while all blocks take too much.
func (db *DB) retainBytes() error {
	limit := db.config.RetentionBytes
	if limit <= 0 {
		return nil
	}
	type owned struct {
		t       *tenant
		b       *blockFile
		arrival int64
	}
	var all []owned
	total := int64(0)
	now := db.now().UnixMilli()
	for _, t := range db.allTenants() {
		blocks := t.snapshotBlocks()
		for i, at := range arrivals(blocks, now) {
			all = append(all, owned{t, blocks[i], at})
			total += blocks[i].size()
		}
	}
	slices.SortStableFunc(all, func(a, b owned) int { return cmp.Compare(a.arrival, b.arrival) })
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
		t.db.logger.Info("dropped a block past its retention", "block", b.Dir(), "spans", b.spans(), "bytes", b.size())
		t.db.metrics.retired(b.spans())
		t.catalog.removeList(b.origin.Services)
		t.drop(b)
	}
	return nil
}
