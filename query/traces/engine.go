package traces

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/query/traceql"
	"github.com/vedette-io/vedette/storage/block"
	"github.com/vedette-io/vedette/storage/trace"
	"github.com/vedette-io/vedette/storage/trace/rows"
)

// Store is where spans are: *trace.DB.
type Store interface {
	// View returns what is stored of a tenant; the times choose its row groups.
	View(tenant string, minTime, maxTime int64) *trace.View
	// Services returns the names of services, sorted.
	Services(tenant string) []string
	// Operations returns the operations of a service by name and kind.
	Operations(tenant, service string) []trace.Operation
}

// Options are what New needs. Store is required.
type Options struct {
	Store      Store
	Config     Config
	Logger     *slog.Logger          // discards if nil
	Registerer prometheus.Registerer // none if nil
	Now        func() time.Time      // time.Now if nil
}

// Engine answers questions about spans. It is safe for concurrent use.
type Engine struct {
	store   Store
	config  Config
	logger  *slog.Logger
	now     func() time.Time
	metrics *metrics
	gate    *gate

	maxRejected int // candidates of a search; below 0: look closer at once
}

var _ traceql.Querier = (*Engine)(nil)

// New returns an engine over o.Store.
func New(o Options) (*Engine, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, fmt.Errorf("make trace engine: %w", err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	m := newMetrics(o.Registerer)
	return &Engine{
		store: o.Store, config: o.Config, logger: o.Logger, now: o.Now, metrics: m, gate: newGate(o.Config, m),
		maxRejected: defaultRejected,
	}, nil
}

// errStop ends the work early; run.partial says why.
var errStop = errors.New("stop")

// run is the work on one question.
type run struct {
	e      *Engine
	what   string
	begun  time.Time
	parent context.Context // of the caller
	ctx    context.Context // with the engine's timeout
	cancel context.CancelFunc
	view   *trace.View

	bytes, spans, traces, groups atomic.Int64

	splits splits

	mu      sync.Mutex // guards what follows, and view.Suspect
	partial string
}

// begin waits for a turn and opens a view; end must follow.
func (e *Engine) begin(ctx context.Context, what, tenant string, start, end int64) (*run, error) {
	if err := e.gate.enter(ctx); err != nil {
		return nil, err
	}
	r := &run{e: e, what: what, parent: ctx, begun: time.Now()}
	r.ctx, r.cancel = context.WithTimeout(ctx, e.config.Timeout)
	r.view = e.store.View(tenant, start, end)
	return r, nil
}

// end closes the view and gives the turn back.
func (r *run) end() {
	m := r.e.metrics
	m.duration.WithLabelValues(r.what).Observe(time.Since(r.begun).Seconds())
	m.bytes.Add(float64(r.bytes.Load()))
	m.spans.Add(float64(r.spans.Load()))
	m.traces.Add(float64(r.traces.Load()))
	if r.what != "trace" {
		read := r.groups.Load()
		m.groups.WithLabelValues("read").Add(float64(read))
		m.groups.WithLabelValues("ruled_out").Add(float64(int64(len(r.view.Groups())) - read))
	}
	if r.partial != "" {
		m.partial.WithLabelValues(r.what).Inc()
	}
	r.view.Close()
	r.cancel()
	r.e.gate.leave()
}

// stop notes why the answer is not whole; the first reason stays.
func (r *run) stop(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.partial == "" {
		r.partial = why
	}
}

// check returns errStop or the caller's error if the work should end.
func (r *run) check() error {
	if err := r.parent.Err(); err != nil {
		return err
	}
	if r.ctx.Err() != nil {
		r.stop(fmt.Sprintf("the question took longer than %s (limit timeout): narrow its times", r.e.config.Timeout))
		return errStop
	}
	if most := r.e.config.MaxBytes; r.bytes.Load() > most {
		r.stop(fmt.Sprintf("the question reads more than %d bytes (limit max_bytes): narrow its times", most))
		return errStop
	}
	return nil
}

// damaged takes note of a group or trace that is not readable; other errors are
// returned.
func (r *run) damaged(err error) error {
	var c *block.CorruptionError
	if !errors.Is(err, block.ErrCorruption) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.view.Suspect(err)
	if r.partial == "" {
		r.partial = "damaged: " + err.Error()
		if errors.As(err, &c) {
			r.partial = fmt.Sprintf("block %s is damaged", c.Block)
		}
	}
	return nil
}

// whole appends a whole trace to dst, with the columns that are wanted; nil wants
// all. Damaged blocks are passed over.
func (r *run) whole(id signal.TraceID, wanted func(c *rows.ColumnInfo) bool, dst *signal.Spans) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	warned := len(r.view.Warnings())
	if err := r.view.TraceColumns(id, wanted, dst); err != nil {
		return err
	}
	r.traces.Add(1)
	if w := r.view.Warnings(); len(w) > warned && r.partial == "" {
		r.partial = "damaged: " + w[len(w)-1].Error()
	}
	return nil
}

// stats says what the answer cost.
func (r *run) stats() traceql.Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return traceql.Stats{
		InspectedBytes: r.bytes.Load(), InspectedSpans: r.spans.Load(), InspectedTraces: r.traces.Load(),
		Groups: int(r.groups.Load()), TotalGroups: r.view.AllGroups(), Partial: r.partial,
	}
}

// noGroups are times that no span has: for questions about single traces.
const noGroupsMin, noGroupsMax = math.MaxInt64, math.MinInt64

// Trace implements traceql.Querier.
func (e *Engine) Trace(ctx context.Context, q traceql.TraceRequest, dst *signal.Spans) (traceql.Stats, error) {
	r, err := e.begin(ctx, "trace", q.Tenant, noGroupsMin, noGroupsMax)
	if err != nil {
		return traceql.Stats{}, err
	}
	defer r.end()
	before, size := dst.Len(), len(dst.Buf)
	if err := r.whole(q.ID, nil, dst); err != nil {
		return traceql.Stats{}, fmt.Errorf("read trace %x: %w", q.ID, err)
	}
	r.spans.Add(int64(dst.Len() - before))
	r.bytes.Add(int64(len(dst.Buf) - size))
	return r.stats(), nil
}

// Operations implements traceql.Querier. They come from the store's catalog,
// which holds those of all times.
func (e *Engine) Operations(ctx context.Context, q traceql.OperationsRequest) ([]traceql.Operation, traceql.Stats, error) {
	if err := ctx.Err(); err != nil {
		return nil, traceql.Stats{}, err
	}
	services := []string{q.Service}
	if q.Service == "" {
		services = e.store.Services(q.Tenant)
	}
	var out []traceql.Operation
	for _, s := range services {
		for _, o := range e.store.Operations(q.Tenant, s) {
			if q.Kind < 0 || q.Kind == int(o.Kind) {
				out = append(out, traceql.Operation{Service: s, Name: o.Name, Kind: o.Kind})
			}
		}
	}
	return out, traceql.Stats{}, nil
}

// limit returns what was asked for, bounded; def if nothing was.
func limit(asked, def, most int) int {
	if asked <= 0 {
		asked = def
	}
	return min(asked, most)
}

// bounds returns the times of a request as a View takes them.
func bounds(start, end int64) (int64, int64) {
	if start <= 0 {
		start = math.MinInt64
	}
	if end <= 0 {
		end = math.MaxInt64
	}
	return start, end
}
