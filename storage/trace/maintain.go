package trace

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"
)

const (
	// mergeFanout is how many adjacent blocks of one level, from 1 on, become one of
	// the next as long as that has no more than Config.MergeSpans.
	mergeFanout = 8
	// maxMergeInputs bounds what one merge reads at a time.
	maxMergeInputs = 64
	// retentionParts bounds how long the arrival of a merged block's spans may take,
	// as a part of the shortest retention: a block goes only as a whole.
	retentionParts = 8
)

// Run flushes, merges and deletes until ctx ends. A store that is written to
// needs it.
func (db *DB) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { db.runFlushes(ctx) })
	wg.Go(func() { db.runMerges(ctx) })
	wg.Wait()
	return nil
}

func (db *DB) runFlushes(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	const first, most = time.Second, 10 * time.Second
	wait := first
	for {
		select {
		case <-ctx.Done():
			return
		case <-db.flushC:
		case <-tick.C:
		}
		if err := db.flushDue(ctx); err != nil && ctx.Err() == nil {
			db.logger.Error("flush heads", "err", err, "again", wait)
			pause(ctx, wait) // a full disk is not helped by haste
			wait = min(2*wait, most)
		} else {
			wait = first
		}
	}
}

func (db *DB) runMerges(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := db.Maintain(ctx); err != nil && ctx.Err() == nil {
			db.logger.Error("maintain blocks", "err", err)
			pause(ctx, 10*time.Second)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// Maintain merges what is due and drops what is past its retention. Run calls
// it every second.
func (db *DB) Maintain(ctx context.Context) error {
	errs := []error{db.retain(ctx)}
	for _, t := range db.allTenants() {
		errs = append(errs, t.setSuspectsAside())
		for ctx.Err() == nil {
			blocks := t.plan(db.now())
			if len(blocks) == 0 {
				break
			}
			if err := t.merge(ctx, blocks); err != nil {
				errs = append(errs, err)
				break
			}
		}
	}
	return errors.Join(errs...)
}

// plan chooses adjacent blocks to merge; none if nothing is due.
func (t *tenant) plan(now time.Time) []*blockFile {
	blocks := t.snapshotBlocks()
	for from := 0; from < len(blocks); {
		to := from + 1
		for to < len(blocks) && blocks[to].origin.Level == blocks[from].origin.Level && blocks[to].origin.Follows(blocks[to-1].origin.Flushes) {
			to++
		}
		run := blocks[from:to]
		if run[0].origin.Level == 0 {
			run = t.planFresh(run, now)
		} else {
			run = t.planSmall(run)
		}
		if len(run) > 0 {
			return run
		}
		from = to
	}
	return nil
}

// longest returns how many milliseconds the arrival of a merged block's spans may
// take.
func (t *tenant) longest() int64 {
	c := &t.db.config
	keep := c.Retention
	for _, d := range c.RetentionByService {
		keep = min(keep, d)
	}
	return keep.Milliseconds() / retentionParts
}

// planFresh chooses blocks of level 0: as many as make a settled block, or all
// once the first of them is old. One from the future, by a clock that was wrong, is
// not waited for.
func (t *tenant) planFresh(run []*blockFile, now time.Time) []*blockFile {
	c := &t.db.config
	decided, future := now.UnixMilli(), now.Add(c.MergeInterval).UnixMilli()
	if t.db.sampler != nil {
		decided -= c.DecisionWait.Milliseconds()
	}
	spans, longest := 0, t.longest()
	arrived := noArrival()
	for i, b := range run {
		arrived.add(&b.origin)
		undecided := b.origin.MaxArrival > decided && b.origin.MaxArrival <= future
		if undecided || i > 0 && arrived.took() > longest {
			run = run[:i]
			break
		}
		if spans += b.weight(); spans >= c.MergeSpans || i+1 == maxMergeInputs {
			return run[:i+1]
		}
	}
	if len(run) > 0 && (run[0].origin.MinArrival <= now.Add(-c.MergeInterval).UnixMilli() || run[0].origin.MaxArrival > future) {
		return run
	}
	return nil
}

// planSmall chooses blocks of one higher level that fit into one: mergeFanout, or
// fewer if those fill half of it and the next one has no room.
func (t *tenant) planSmall(run []*blockFile) []*blockFile {
	c, longest := &t.db.config, t.longest()
	for i := range run {
		spans, arrived := 0, noArrival()
		for k, b := range run[i:] {
			arrived.add(&b.origin)
			if arrived.took() > longest {
				break
			}
			if spans+b.weight() > c.MergeSpans {
				if k > 1 && spans >= c.MergeSpans/2 {
					return run[i : i+k]
				}
				break
			}
			spans += b.weight()
			if k+1 == mergeFanout {
				return run[i : i+k+1]
			}
		}
	}
	return nil
}

// arrival is from when to when the spans of some blocks arrived, unix
// milliseconds.
type arrival struct{ first, last int64 }

func noArrival() arrival { return arrival{math.MaxInt64, math.MinInt64} }

func (a *arrival) add(o *Origin) {
	a.first, a.last = min(a.first, o.MinArrival), max(a.last, o.MaxArrival)
}

func (a *arrival) took() int64 { return a.last - a.first }
