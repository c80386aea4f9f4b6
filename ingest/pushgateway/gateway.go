package pushgateway

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sync/semaphore"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/exposition"
	"github.com/vedette-io/vedette/internal/vfs"
)

// Options are what a Gateway is made of.
type Options struct {
	Config Config
	Entry  *door.Entry // into which everything is written, and whose limits hold for bodies
	FS     vfs.FS
	Dir    string            // of the groups' files
	Build  map[string]string // what the status API says about the binary

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Gateway keeps groups of pushed metrics. It is safe for concurrent use.
type Gateway struct {
	cfg     Config
	names   names
	entry   *door.Entry
	files   files
	build   map[string]string
	started time.Time
	log     *slog.Logger
	metrics *metrics
	parsers *semaphore.Weighted

	stripes [64]sync.Mutex // serialize the changes of one group

	mu      sync.Mutex
	tenants map[string]*index
	groups  int // those whose first push is under way included
	series  int // and those that changes under way may add
}

// Open reads the groups of an earlier run. Run repeats them.
func Open(o Options) (*Gateway, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	g := &Gateway{
		cfg: o.Config, names: namesOf(o.Config.UTF8Names), entry: o.Entry, files: files{o.FS, o.Dir}, build: o.Build,
		started: time.Now(), log: o.Logger, parsers: semaphore.NewWeighted(int64(2 * runtime.GOMAXPROCS(0))),
		tenants: map[string]*index{},
	}
	g.metrics = newMetrics(o.Registerer, g)
	err := g.files.load(g.adopt, func(err error) {
		g.metrics.setAside.Inc()
		g.log.Error("set a push gateway group aside", "err", err)
	})
	if err != nil {
		return nil, err
	}
	var last time.Time
	for id := range g.tenants {
		for _, s := range g.list(id) {
			if s.state.pushed.After(last) {
				last = s.state.pushed
			}
		}
	}
	g.metrics.lastPush.Set(float64(nanos(last)) / 1e9)
	return g, nil
}

// adopt makes a group that was read one of the gateway's.
func (g *Gateway) adopt(gr *group) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	next := gr.state
	gr.state = nil
	x := g.indexLocked(gr.tenant)
	c := change{index: x, group: gr, next: next}
	if err := c.claimLocked(false); err != nil {
		return err
	}
	c.settleLocked(true)
	gr.state = next
	x.groups[gr.id] = gr
	g.groups++
	g.series += len(next.series)
	return nil
}

func (g *Gateway) indexLocked(tenantID string) *index {
	x := g.tenants[tenantID]
	if x == nil {
		x = newIndex()
		g.tenants[tenantID] = x
	}
	return x
}

// lock waits until no other change of the group is under way.
func (g *Gateway) lock(id string) (unlock func()) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // never fails
	mu := &g.stripes[h.Sum32()%uint32(len(g.stripes))]
	mu.Lock()
	return mu.Unlock
}

// find returns a group, or a new one that is not yet one of the gateway's.
func (g *Gateway) find(tenantID string, key grouping) *group {
	g.mu.Lock()
	defer g.mu.Unlock()
	id := key.id(tenantID)
	if x := g.tenants[tenantID]; x != nil && x.groups[id] != nil {
		return x.groups[id]
	}
	return &group{id: id, tenant: tenantID, key: key}
}

// push changes a group. A push that is refused is noted in the group.
func (g *Gateway) push(ctx context.Context, tenantID string, key grouping, pushed map[string]*dto.MetricFamily, replace bool) error {
	id := key.id(tenantID)
	defer g.lock(id)()
	gr := g.find(tenantID, key)
	now := time.Now()
	next, err := gr.state.pushedTo(key, pushed, replace, now)
	if err != nil {
		err = &InconsistentError{err}
	} else {
		err = g.change(ctx, gr, next)
	}
	if isRefusal(err) {
		g.noteFailure(ctx, gr, now)
	}
	return err
}

// isRefusal reports whether a push was refused for what it holds, as opposed to
// when it came.
func isRefusal(err error) bool {
	var (
		inconsistent *InconsistentError
		limit        *LimitError
		partial      *door.PartialError
	)
	return errors.As(err, &inconsistent) || errors.As(err, &limit) || errors.As(err, &partial)
}

// noteFailure sets the time of the last refused push.
func (g *Gateway) noteFailure(ctx context.Context, gr *group, at time.Time) {
	next, err := gr.state.failedAt(gr.key, at)
	if err == nil {
		err = g.change(ctx, gr, next)
	}
	if err != nil {
		g.log.Debug("note a refused push", "tenant", gr.tenant, "job", gr.key.job(), "err", err)
	}
}

// remove deletes a group, if it is there.
func (g *Gateway) remove(ctx context.Context, tenantID string, key grouping) error {
	defer g.lock(key.id(tenantID))()
	gr := g.find(tenantID, key)
	if gr.state == nil {
		return nil
	}
	return g.change(ctx, gr, nil)
}

// wipe deletes all groups of a tenant that are there now.
func (g *Gateway) wipe(ctx context.Context, tenantID string) error {
	for _, gr := range g.list(tenantID) {
		if err := g.remove(ctx, tenantID, gr.key); err != nil {
			return err
		}
	}
	return nil
}

// snapshot is a group and its state at a time.
type snapshot struct {
	key   grouping
	state *state
}

// list returns the groups of a tenant, in a fixed order.
func (g *Gateway) list(tenantID string) []snapshot {
	g.mu.Lock()
	var groups []*group
	var out []snapshot
	if x := g.tenants[tenantID]; x != nil {
		for _, gr := range x.groups {
			if gr.state != nil {
				groups = append(groups, gr)
			}
		}
	}
	slices.SortFunc(groups, func(a, b *group) int { return strings.Compare(a.id, b.id) })
	for _, gr := range groups {
		out = append(out, snapshot{gr.key, gr.state})
	}
	g.mu.Unlock()
	return out
}

// change moves a group to another state; nil deletes it. The new file is on disk
// but not published when the samples are written, so that what can fail has
// failed before. The caller holds the group's lock.
func (g *Gateway) change(ctx context.Context, gr *group, next *state) error {
	c, err := g.begin(gr, next)
	if err != nil {
		return err
	}
	wrote := false
	err = func() error {
		if next != nil {
			if err := g.files.prepare(gr, next); err != nil {
				return err
			}
		}
		payloads, err := c.payloads()
		if err != nil {
			return err
		}
		for _, p := range payloads {
			_, err := g.entry.Write(ctx, gr.tenant, buffer.FormatRemoteWriteV1, p)
			var partial *door.PartialError
			wrote = wrote || err == nil || errors.As(err, &partial)
			if err != nil {
				return err
			}
		}
		if next == nil {
			return g.files.remove(gr.id)
		}
		return g.files.publish(gr.id)
	}()
	if err != nil && next != nil {
		g.files.discard(gr.id)
	}
	if err != nil && wrote {
		g.endNew(ctx, c)
	}
	g.finish(c, err == nil)
	return err
}

// begin reserves what a change needs.
func (g *Gateway) begin(gr *group, next *state) (*change, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	x := g.indexLocked(gr.tenant)
	c := &change{index: x, group: gr, next: next}
	old := 0
	if gr.state != nil {
		old = len(gr.state.series)
	}
	if next != nil {
		c.reserved = max(len(next.series)-old, 0)
		switch {
		case len(next.series) > g.cfg.MaxSeriesPerGroup && c.reserved > 0:
			return nil, g.tooManySeries(len(next.series))
		case gr.state == nil && g.groups >= g.cfg.MaxGroups:
			return nil, &LimitError{"groups", g.cfg.MaxGroups}
		case c.reserved > 0 && g.series+c.reserved > g.cfg.MaxSeries:
			return nil, &LimitError{"series of all groups", g.cfg.MaxSeries}
		}
	}
	if err := c.claimLocked(!g.cfg.DisableConsistencyCheck); err != nil {
		return nil, &InconsistentError{err}
	}
	if gr.state == nil {
		x.groups[gr.id] = gr
		g.groups++
	}
	g.series += c.reserved
	gr.busy = true
	c.at = x.nextLocked()
	return c, nil
}

// nextLocked returns a timestamp that no write of the tenant has had.
func (x *index) nextLocked() int64 {
	x.last = max(x.last+1, time.Now().UnixMilli())
	return x.last
}

// finish ends a change.
func (g *Gateway) finish(c *change, done bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	gr := c.group
	old := gr.state
	c.settleLocked(done)
	g.series -= c.reserved
	gr.busy = false
	if done {
		if old != nil {
			g.series -= len(old.series)
		}
		if gr.state = c.next; c.next != nil {
			g.series += len(c.next.series)
			gr.told = gr.told || old == nil
			for name, f := range c.next.families {
				// Others may read those that were there before.
				if old == nil || old.families[name] != f {
					f.dropExemplars()
				}
			}
		}
	}
	if gr.state == nil {
		delete(c.index.groups, gr.id)
		g.groups--
	}
}

// payloads returns what a change writes: families that are new or were pushed
// again, and the end of series that are gone.
func (c *change) payloads() ([][]byte, error) {
	var r exposition.Requests
	for _, lset := range c.gone {
		r.Stale(lset, c.at)
	}
	if c.next != nil {
		for _, f := range c.next.sorted() {
			if old := c.group.state; old != nil && old.families[f.proto.GetName()] == f {
				continue
			}
			if err := addFamily(&r, f, c.at, true); err != nil {
				return nil, err
			}
		}
	}
	return r.Payloads(), nil
}

func addFamily(r *exposition.Requests, f *family, at int64, describe bool) error {
	if describe && len(f.series) > 0 {
		r.Metadata(f.proto)
	}
	for i := range f.series {
		if err := r.Add(&f.series[i], at); err != nil {
			return fmt.Errorf("encode metric %q: %w", f.proto.GetName(), err)
		}
	}
	return nil
}

// endNew ends the series that a change has begun to write and that no group has
// after it, since it has failed.
func (g *Gateway) endNew(ctx context.Context, c *change) {
	if len(c.claimed) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	g.mu.Lock()
	at := c.index.nextLocked()
	g.mu.Unlock()
	var r exposition.Requests
	for _, h := range c.claimed {
		r.Stale(c.next.series[h], at)
	}
	for _, p := range r.Payloads() {
		if _, err := g.entry.Write(ctx, c.group.tenant, buffer.FormatRemoteWriteV1, p); err != nil {
			g.log.Warn("end the series of a refused push", "tenant", c.group.tenant, "job", c.group.key.job(), "err", err)
			return
		}
	}
}
