package buffer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/vedette-io/vedette/internal/vfs"
)

// topic is a set of partitions and the groups that read them.
type topic struct {
	log        *Log
	name       string
	dir        string
	logger     *slog.Logger
	metrics    *topicMetrics
	partitions []*partition

	mu     sync.Mutex // guards groups
	groups []*group   // known: they have committed, or asked for the topic
}

// committed returns the offset below which every known group is done; known is
// false if there is no group, which means that nothing is done.
func (t *topic) committed(partition int) (offset int64, known bool) {
	offset = math.MaxInt64
	for _, g := range t.groupList() {
		offset = min(offset, g.committedAt(partition))
		known = true
	}
	return offset, known
}

func (t *topic) groupList() []*group {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.groups
}

// group returns the consumer group of that name. A new one begins at the
// oldest records, which are kept for it from now on.
func (t *topic) group(name string) (*group, error) {
	if err := checkName("group", name); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, g := range t.groups {
		if g.name == name {
			return g, nil
		}
	}
	offsets := make([]int64, len(t.partitions))
	for i, p := range t.partitions {
		offsets[i] = p.stats().oldest
	}
	g := newGroup(t, name, offsets)
	if err := g.write(offsets); err != nil {
		return nil, err
	}
	t.groups = append(slices.Clip(t.groups), g)
	return g, nil
}

// group is a consumer group of one topic: what it has committed, and which of
// its members in this process owns which partition.
//
// The partitions are dealt to the members by turns. When a member comes or
// goes, those that have to give up a partition end its claim, and the new
// owner starts once the old one's handler has returned.
type group struct {
	topic *topic
	name  string
	file  string

	commitMu sync.Mutex // serialises commits; taken before mu

	mu      sync.Mutex // guards what follows
	offsets []int64    // committed
	members []*member
	owners  []*member // by partition; nil while it is free
	changed chan struct{}
}

// member is one call of Consume.
type member struct{ joined time.Time }

func newGroup(t *topic, name string, offsets []int64) *group {
	return &group{
		topic:   t,
		name:    name,
		file:    filepath.Join(t.dir, groupFileName(name)),
		offsets: offsets,
		owners:  make([]*member, len(t.partitions)),
		changed: make(chan struct{}),
	}
}

func (g *group) committedAt(partition int) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.offsets[partition]
}

// commit moves the group's offset forward, durably, and lets go of segments
// that nobody needs any more.
func (g *group) commit(p *partition, next int64) error {
	if err := g.advance(p.index, next); err != nil {
		return fmt.Errorf("commit %s/%d for group %s: %w", g.topic.name, p.index, g.name, err)
	}
	p.rollConsumed(p.log.cfg.SegmentBytes / rollShare)
	p.trim(false)
	return nil
}

// rollShare is the part of a full segment from which on a consumed one is
// replaced, so that quiet sites do not keep what nobody needs.
const rollShare = 8

func (g *group) advance(partition int, next int64) error {
	g.commitMu.Lock()
	defer g.commitMu.Unlock()
	g.mu.Lock()
	offsets := slices.Clone(g.offsets)
	g.mu.Unlock()
	if next <= offsets[partition] {
		return nil
	}
	offsets[partition] = next
	if err := g.write(offsets); err != nil {
		return err
	}
	g.mu.Lock()
	g.offsets = offsets
	g.mu.Unlock()
	return nil
}

func (g *group) write(offsets []int64) error {
	return vfs.WriteFile(g.topic.log.fs, g.file, encodeOffsets(offsets))
}

// consume runs a member until ctx ends or a handler fails.
func (g *group) consume(ctx context.Context, handle func(context.Context, Claim) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := &member{joined: time.Now()}
	g.join(m)
	defer g.leave(m)

	type result struct {
		partition int
		revoked   bool
		err       error
	}
	var (
		results = make(chan result)
		running = map[int]context.CancelFunc{} // by partition
		done    = map[int]bool{}               // its handler returned by itself
		failure error
	)
	start := func(p *partition) {
		claimCtx, cancel := context.WithCancel(ctx)
		running[p.index] = cancel
		go func() {
			defer cancel()
			c := newClaim(claimCtx, p, g)
			err := handle(claimCtx, c)
			revoked := claimCtx.Err() != nil
			c.close()
			results <- result{p.index, revoked, err}
		}()
	}
	for {
		var changed, ended <-chan struct{} // not of interest once this member is ending
		if ctx.Err() == nil {
			var revoke, claim []int
			revoke, claim, changed = g.assignment(m, done)
			ended = ctx.Done()
			for _, i := range revoke {
				running[i]()
			}
			for _, i := range claim {
				start(g.topic.partitions[i])
			}
		} else if len(running) == 0 {
			return failure
		}
		select {
		case r := <-results:
			delete(running, r.partition)
			if !r.revoked {
				done[r.partition] = true
			}
			if r.err != nil && failure == nil && !(r.revoked && isContextError(r.err)) {
				failure = r.err
				cancel()
			}
			g.release(m, r.partition)
		case <-changed:
		case <-ended:
		}
	}
}

func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func (g *group) join(m *member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.members = append(g.members, m)
	g.changedLocked()
}

func (g *group) leave(m *member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.members = slices.DeleteFunc(g.members, func(o *member) bool { return o == m })
	g.changedLocked()
}

func (g *group) release(m *member, partition int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.owners[partition] == m {
		g.owners[partition] = nil
		g.changedLocked()
	}
}

func (g *group) changedLocked() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// assignment says which partitions m has to give up and which it may start
// with, and notes it as the owner of these. The channel closes when it is time
// to ask again. A partition whose handler has returned by itself is not dealt
// to m again until it was someone else's.
func (g *group) assignment(m *member, done map[int]bool) (revoke, claim []int, changed <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	turn := slices.Index(g.members, m)
	for i, owner := range g.owners {
		mine := i%len(g.members) == turn
		switch {
		case !mine && owner == m:
			revoke = append(revoke, i)
		case !mine:
			delete(done, i)
		case owner == nil && !done[i]:
			g.owners[i] = m
			claim = append(claim, i)
		}
	}
	return revoke, claim, g.changed
}
