package promql_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	prom "github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"go.uber.org/goleak"

	"github.com/vedette-io/vedette/internal/tenant"
	"github.com/vedette-io/vedette/query/promql"
	"github.com/vedette-io/vedette/query/promql/promqlsuite"
	"github.com/vedette-io/vedette/storage/metric"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func loadMemory(t *testing.T, id string, series ...string) *promqlsuite.Memory {
	t.Helper()
	m := promqlsuite.NewMemory()
	app := promqlsuite.NewStorage(m.Backend()).AppenderV2(tenant.NewContext(t.Context(), id))
	for i, name := range series {
		for ts := range int64(100) {
			ls := labels.FromStrings("__name__", name, "i", string(rune('a'+i)))
			if _, err := app.Append(0, ls, 0, ts*1000, float64(ts), nil, nil, storage.AppendV2Options{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	return m
}

func openEngine(t *testing.T, change func(*promql.Config), opts promql.Options) *promql.Engine {
	t.Helper()
	cfg := promql.DefaultConfig()
	if change != nil {
		change(&cfg)
	}
	e, err := promql.OpenEngine(cfg, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func exec(ctx context.Context, t *testing.T, e *promql.Engine, store promql.Store, expr string) *prom.Result {
	t.Helper()
	q, err := e.NewInstantQuery(ctx, promql.NewQueryable(store, 0), nil, expr, time.Unix(99, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	return q.Exec(ctx)
}

func TestEngineSeesOneTenant(t *testing.T) {
	m := loadMemory(t, "x", "up", "up")
	e := openEngine(t, nil, promql.Options{Registerer: prometheus.NewRegistry()})
	count := func(id string) string {
		res := exec(tenant.NewContext(t.Context(), id), t, e, m, "count(up)")
		if res.Err != nil {
			t.Fatal(res.Err)
		}
		return res.String()
	}
	if got := count("x"); !strings.Contains(got, "=> 2 @") {
		t.Errorf("tenant x sees %q, want 2 series", got)
	}
	if got := count("y"); got != "" {
		t.Errorf("tenant y sees %q, want nothing", got)
	}
	if n := m.OpenSets(); n != 0 {
		t.Errorf("%d series sets are still open", n)
	}
}

func TestEngineRefusesWhatReadsTooMuch(t *testing.T) {
	m := loadMemory(t, tenant.Default, "up", "up")
	e := openEngine(t, func(c *promql.Config) { c.MaxBytes = 1000 }, promql.Options{})
	if res := exec(t.Context(), t, e, m, "sum_over_time(up[5m])"); !promql.IsLimit(res.Err) || !strings.Contains(res.Err.Error(), "query.max_bytes") {
		t.Errorf("query over max_bytes: %v, want a LimitError", res.Err)
	}
	if res := exec(t.Context(), t, e, m, "up"); res.Err == nil {
		t.Error("an instant query decodes its lookback and is charged for it, want a LimitError")
	}
	e = openEngine(t, func(c *promql.Config) { c.MaxSamples = 50 }, promql.Options{})
	var many prom.ErrTooManySamples
	if res := exec(t.Context(), t, e, m, "sum_over_time(up[5m])"); !errors.As(res.Err, &many) {
		t.Errorf("query over max_samples: %v, want ErrTooManySamples", res.Err)
	}
}

// blockingStore lets Select wait until the context ends.
type blockingStore struct {
	promql.Store
	entered chan struct{}
}

func (s blockingStore) Select(ctx context.Context, _ metric.Selector) (promql.SeriesSet, error) {
	close(s.entered)
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestEngineStopsWhenItsClientIsGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queries.active")
	e := openEngine(t, func(c *promql.Config) { c.MaxConcurrent, c.MaxQueued = 1, 0 }, promql.Options{ActivityFile: path})
	store := blockingStore{entered: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan *prom.Result)
	go func() { done <- exec(ctx, t, e, store, "blocked_metric") }()
	<-store.entered
	if b, err := os.ReadFile(path); err != nil || !strings.Contains(string(b), "blocked_metric") {
		t.Errorf("activity log holds %q, %v, want the running query", b, err)
	}
	var full *promql.QueueError
	if res := exec(t.Context(), t, e, store, "up"); !errors.As(res.Err, &full) {
		t.Errorf("query over the bound: %v, want a QueueError", res.Err)
	}
	cancel()
	var canceled prom.ErrQueryCanceled
	if res := <-done; !errors.As(res.Err, &canceled) && !errors.Is(res.Err, context.Canceled) {
		t.Errorf("cancelled query: %v, want canceled", res.Err)
	}
	if b, err := os.ReadFile(path); err != nil || strings.Contains(string(b), "blocked_metric") {
		t.Errorf("activity log holds %q, %v after the query", b, err)
	}
}

func TestEngineTimesOutInTheQueue(t *testing.T) {
	e := openEngine(t, func(c *promql.Config) { c.MaxConcurrent, c.Timeout = 1, 10*time.Millisecond }, promql.Options{})
	_, done, err := e.Admit(t.Context(), "hold the only place")
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	var timeout prom.ErrQueryTimeout
	if res := exec(t.Context(), t, e, promqlsuite.NewMemory(), "up"); !errors.As(res.Err, &timeout) {
		t.Errorf("query that waited for too long: %v, want a timeout", res.Err)
	}
}

func TestExperimentalFunctionsAreASwitch(t *testing.T) {
	for _, on := range []bool{false, true} {
		e := openEngine(t, func(c *promql.Config) { c.ExperimentalFunctions = on }, promql.Options{})
		if _, err := e.Parser().ParseExpr("mad_over_time(up[5m])"); (err == nil) != on {
			t.Errorf("switch %v: %v", on, err)
		}
	}
}

func TestConfigNamesEveryBadKey(t *testing.T) {
	if err := promql.DefaultConfig().Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	err := promql.Config{MaxQueued: -1}.Validate()
	for _, key := range []string{"timeout", "lookback_delta", "subquery_step", "max_samples", "max_bytes", "max_concurrent", "max_queued"} {
		if err == nil || !strings.Contains(err.Error(), key+":") {
			t.Errorf("error %v does not name %s", err, key)
		}
	}
}

func TestNewStoreAdaptsAConcreteSet(t *testing.T) {
	var _ promql.Store = promql.NewStore(promql.Database[promql.SeriesSet](promqlsuite.NewMemory()))
}
