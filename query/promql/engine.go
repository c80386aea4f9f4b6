package promql

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	prom "github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/stats"

	"github.com/vedette-io/vedette/internal/tenant"
	"github.com/vedette-io/vedette/query/promql/activity"
)

// Options are what an Engine needs beside its configuration. All are optional.
type Options struct {
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// ActivityFile is where running queries are written down.
	ActivityFile string
}

// Engine answers PromQL queries. Each query waits for its turn in the Gate, is
// written down in the activity log while it runs, and reads on a Budget of its
// own.
//
// It decides who runs a query: a columnar executor belongs between NewInstantQuery
// and NewRangeQuery here and the reference engine, which takes what the former
// does not know. Callers see prom.QueryEngine either way.
type Engine struct {
	config    Config
	reference *prom.Engine
	parser    parser.Parser
	gate      *Gate
	activity  *activity.Log
	metrics   *metrics
}

var _ prom.QueryEngine = (*Engine)(nil)

// OpenEngine returns an engine, after it has reported the queries that an
// earlier process has left in opts.ActivityFile.
func OpenEngine(cfg Config, opts Options) (*Engine, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	running, err := activity.Open(opts.ActivityFile, opts.Logger)
	if err != nil {
		return nil, err
	}
	m := newMetrics(opts.Registerer)
	var reg prometheus.Registerer
	if opts.Registerer != nil {
		reg = prometheus.WrapRegistererWithPrefix("vedette_query_", opts.Registerer)
	}
	p := parser.NewParser(parser.Options{
		EnableExperimentalFunctions:  cfg.ExperimentalFunctions,
		ExperimentalDurationExpr:     cfg.ExperimentalFunctions,
		EnableExtendedRangeSelectors: cfg.ExperimentalFunctions,
		EnableBinopFillModifiers:     cfg.ExperimentalFunctions,
	})
	return &Engine{
		config: cfg,
		reference: prom.NewEngine(prom.EngineOpts{
			Logger:                   opts.Logger,
			Reg:                      reg,
			MaxSamples:               cfg.MaxSamples,
			Timeout:                  cfg.Timeout,
			LookbackDelta:            cfg.LookbackDelta,
			NoStepSubqueryIntervalFn: func(int64) int64 { return cfg.SubqueryStep.Milliseconds() },
			EnableAtModifier:         true,
			EnableNegativeOffset:     true,
			EnablePerStepStats:       true, // computed for stats=all alone
			UseStartTimestamps:       cfg.ExperimentalFunctions,
			EnableDelayedNameRemoval: cfg.DelayedNameRemoval,
			Parser:                   p,
		}),
		parser:   p,
		gate:     newGate(cfg.MaxConcurrent, cfg.MaxQueued, m),
		activity: running,
		metrics:  m,
	}, nil
}

// Parser returns the parser whose language this engine speaks.
func (e *Engine) Parser() parser.Parser { return e.parser }

// Config returns the engine's configuration.
func (e *Engine) Config() Config { return e.config }

// Close releases the activity log. No query may run any more.
func (e *Engine) Close() error {
	return errors.Join(e.reference.Close(), e.activity.Close())
}

// Admit waits for a turn to read from the store on behalf of ctx's tenant. The
// context that it returns carries the read's budget and ends with the query
// timeout; done must be called after the read. what describes the read to a
// person. Queries of this engine admit themselves.
func (e *Engine) Admit(ctx context.Context, what string) (_ context.Context, done func(), _ error) {
	ctx, cancel := context.WithTimeout(ctx, e.config.Timeout)
	id := tenant.FromContext(ctx)
	release, err := e.gate.Acquire(ctx, id)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	slot := e.activity.Begin(activity.Query{Text: what, Tenant: id, Started: time.Now().UTC().Truncate(time.Millisecond)})
	budget := NewBudget(e.config.MaxBytes)
	return WithBudget(ctx, budget), func() {
		e.metrics.bytes.Add(float64(budget.Used()))
		e.activity.End(slot)
		release()
		cancel()
	}, nil
}

// NewInstantQuery implements prom.QueryEngine.
func (e *Engine) NewInstantQuery(ctx context.Context, q storage.Queryable, opts prom.QueryOpts, qs string, ts time.Time) (prom.Query, error) {
	inner, err := e.reference.NewInstantQuery(ctx, q, opts, qs, ts)
	if err != nil {
		return nil, err
	}
	return &query{Query: inner, engine: e}, nil
}

// NewRangeQuery implements prom.QueryEngine.
func (e *Engine) NewRangeQuery(ctx context.Context, q storage.Queryable, opts prom.QueryOpts, qs string, start, end time.Time, interval time.Duration) (prom.Query, error) {
	inner, err := e.reference.NewRangeQuery(ctx, q, opts, qs, start, end, interval)
	if err != nil {
		return nil, err
	}
	return &query{Query: inner, engine: e}, nil
}

// query is a query of the reference engine that waits for its turn.
type query struct {
	prom.Query
	engine *Engine
}

// Exec implements prom.Query.
func (q *query) Exec(ctx context.Context) *prom.Result {
	queued, _ := q.Stats().Timers.GetSpanTimer(ctx, stats.ExecQueueTime)
	ctx, done, err := q.engine.Admit(ctx, q.String())
	queued.Finish()
	if err != nil {
		return &prom.Result{Err: queueError(err)}
	}
	defer done()
	res := q.Query.Exec(ctx)
	if budget, ok := budgetFrom(ctx); ok {
		res.Warnings.Merge(budget.Warnings())
	}
	if IsLimit(res.Err) {
		q.engine.metrics.limited.Inc()
	}
	return res
}

// queueError gives the context's errors the form that the reference engine
// gives them.
func queueError(err error) error {
	const where = "query queue"
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return prom.ErrQueryTimeout(where)
	case errors.Is(err, context.Canceled):
		return prom.ErrQueryCanceled(where)
	}
	return fmt.Errorf("%s: %w", where, err)
}
