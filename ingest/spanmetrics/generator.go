package spanmetrics

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/internal/signal"
)

// Options are what a Generator is made of.
type Options struct {
	Entry      *door.Entry // takes the series in
	Config     Config
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Generator makes series of spans.
type Generator struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics

	names           convention
	layout          *layout
	dimensions      keySet
	dimensionLabels []string
	peers           peerKeys

	registry *registry
	shards   atomic.Pointer[map[int32]*shard] // never changed, replaced by a larger one
	growing  sync.Mutex                       // guards the replacing
	flusher  *flusher

	lastWarning string // of a flush
}

// New returns a Generator that counts what it observes; Run writes it.
func New(o Options) (*Generator, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	g := &Generator{
		cfg: o.Config, log: o.Logger, names: conventionOf(o.Config.Names), layout: newLayout(&o.Config),
		dimensions: newKeySet(o.Config.Dimensions), peers: newPeerKeys(o.Config.ServiceGraph.PeerAttributes),
		registry: newRegistry(o.Config.MaxSeries, time.Now),
	}
	for _, d := range o.Config.Dimensions {
		g.dimensionLabels = append(g.dimensionLabels, labelName(d))
	}
	g.shards.Store(&map[int32]*shard{})
	g.metrics = newMetrics(o.Registerer, g)
	g.flusher = newFlusher(g, o.Entry)
	return g, nil
}

// Observe counts the spans of a batch. All spans of a trace come with the same
// partition, and one goroutine at a time observes a partition's batches. b is not
// kept.
func (g *Generator) Observe(partition int32, b *signal.Spans) {
	if !g.cfg.Enabled || b.Len() == 0 {
		return
	}
	s := (*g.shards.Load())[partition]
	if s == nil {
		s = g.addShard(partition)
	}
	n := s.observe(b, time.Now().UnixNano())
	g.metrics.count(&n)
}

func (g *Generator) addShard(partition int32) *shard {
	g.growing.Lock()
	defer g.growing.Unlock()
	old := *g.shards.Load()
	if s := old[partition]; s != nil {
		return s
	}
	s := &shard{
		g: g, tenants: map[string]*shardTenant{}, dims: make([]dim, len(g.cfg.Dimensions)), merged: make([]dim, len(g.cfg.Dimensions)),
	}
	grown := map[int32]*shard{partition: s}
	for p, o := range old {
		grown[p] = o
	}
	g.shards.Store(&grown)
	return s
}

// Edges lists the edges of a tenant's service graph that were used since a time,
// to the quarter of an hour, by what flushes have seen of the last day since the
// start of the process. They are sorted by their ends.
func (g *Generator) Edges(tenant string, since time.Time) []Edge {
	list := g.registry.edges(tenant, since.UnixMilli())
	slices.SortFunc(list, func(a, b Edge) int {
		return cmp.Or(cmp.Compare(a.Client, b.Client), cmp.Compare(a.Server, b.Server), cmp.Compare(a.Type, b.Type))
	})
	return list
}

// lastFlushTime is how long the last flush may take.
const lastFlushTime = 10 * time.Second

// Run writes the series at every interval until ctx ends, and then once more, so
// the door must be open until it returns and nothing should be observed any more.
func (g *Generator) Run(ctx context.Context) error {
	if !g.cfg.Enabled {
		<-ctx.Done()
		return nil
	}
	ticker := time.NewTicker(g.cfg.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			// A flush may take as long as the interval; the next one begins later then.
			limited, cancel := context.WithTimeout(ctx, g.cfg.Interval)
			g.flush(limited)
			cancel()
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlushTime)
			defer cancel()
			g.flush(last)
			return nil
		}
	}
}

func (g *Generator) flush(ctx context.Context) {
	start := time.Now()
	err := g.flusher.flush(ctx, start)
	g.metrics.flush.Observe(time.Since(start).Seconds())
	if err == nil {
		g.lastWarning = ""
		return
	}
	level := slog.LevelWarn
	if err.Error() == g.lastWarning { // a series that is never taken is told of once
		level = slog.LevelDebug
	}
	g.lastWarning = err.Error()
	g.log.Log(ctx, level, "flush span metrics", "err", err)
}
