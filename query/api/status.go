package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/tsdb"
	v1 "github.com/prometheus/prometheus/web/api/v1"

	"github.com/vedette-io/vedette/internal/tenant"
	"github.com/vedette-io/vedette/storage/metric"
)

const (
	defaultCardinalityLimit = 10
	maxCardinalityLimit     = 10_000
)

// cardinality serves /status/tsdb.
func (a *API) cardinality(r *http.Request) (any, error) {
	limit := defaultCardinalityLimit
	if s := r.FormValue("limit"); s != "" {
		var err error
		if limit, err = strconv.Atoi(s); err != nil || limit < 1 {
			return nil, badData("limit must be a positive number")
		}
		if limit > maxCardinalityLimit {
			return nil, badData("limit must not exceed %d", maxCardinalityLimit)
		}
	}
	c := a.opts.Catalog.Cardinality(tenant.FromContext(r.Context()), limit)
	return v1.TSDBStatus{
		HeadStats: v1.HeadStats{
			NumSeries:     uint64(c.Series),
			NumLabelPairs: c.Pairs,
			ChunkCount:    c.Chunks,
			MinTime:       c.MinTime,
			MaxTime:       c.MaxTime,
		},
		SeriesCountByMetricName:     counts(c.SeriesByMetric),
		LabelValueCountByLabelName:  counts(c.ValuesByLabel),
		MemoryInBytesByLabelName:    counts(c.BytesByLabel),
		SeriesCountByLabelValuePair: counts(c.SeriesByPair),
	}, nil
}

func counts(list []metric.Count) []v1.TSDBStat {
	out := make([]v1.TSDBStat, len(list))
	for i, c := range list {
		out[i] = v1.TSDBStat(c)
	}
	return out
}

// config serves /status/config.
func (a *API) config(*http.Request) (any, error) {
	return struct {
		YAML string `json:"yaml"`
	}{a.opts.ConfigYAML()}, nil
}

// metadata serves /metadata: what the scraped targets say now, and what senders
// have said.
func (a *API) metadata(r *http.Request) (any, error) {
	limit, err := numberParam(r, "limit")
	if err != nil {
		return nil, err
	}
	perMetric, err := numberParam(r, "limit_per_metric")
	if err != nil {
		return nil, err
	}
	family := r.FormValue("metric")
	found := make(map[string][]metadata.Metadata)
	add := func(name string, m metadata.Metadata) {
		if list := found[name]; !slices.Contains(list, m) && (perMetric <= 0 || len(list) < perMetric) {
			found[name] = append(list, m)
		}
	}
	for _, f := range a.opts.Catalog.Metadata(tenant.FromContext(r.Context()), family, 0) {
		m := metadata.Metadata{Type: model.MetricType(f.Type), Help: f.Help, Unit: f.Unit}
		if m.Type == "" {
			m.Type = model.MetricTypeUnknown
		}
		add(f.Family, m)
	}
	for _, targets := range a.targets(r.Context()).TargetsActive() {
		for _, t := range targets {
			for _, m := range t.ListMetadata() {
				if family == "" || family == m.MetricFamily {
					add(m.MetricFamily, metadata.Metadata{Type: m.Type, Help: m.Help, Unit: m.Unit})
				}
			}
		}
	}
	return firstFamilies(found, limit), nil
}

// firstFamilies keeps the first limit families by name; below zero keeps all.
func firstFamilies(found map[string][]metadata.Metadata, limit int) map[string][]metadata.Metadata {
	if limit < 0 || len(found) <= limit {
		return found
	}
	names := make([]string, 0, len(found))
	for name := range found {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names[limit:] {
		delete(found, name)
	}
	return found
}

// numberParam returns -1 for a parameter that is not there.
func numberParam(r *http.Request, name string) (int, error) {
	s := r.FormValue(name)
	if s == "" {
		return -1, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, badData("%s must be a number", name)
	}
	return n, nil
}

var errAdminDisabled = errors.New("admin APIs disabled")

func (a *API) adminEnabled() error {
	if !a.opts.Config.EnableAdminAPI {
		return &apiError{http.StatusServiceUnavailable, "unavailable", errAdminDisabled}
	}
	return nil
}

// snapshot serves /admin/tsdb/snapshot.
func (a *API) snapshot(r *http.Request) (any, error) {
	if err := a.adminEnabled(); err != nil {
		return nil, err
	}
	if s := r.FormValue("skip_head"); s != "" {
		skip, err := strconv.ParseBool(s)
		if err != nil {
			return nil, badData("invalid parameter \"skip_head\": unable to parse boolean: %w", err)
		}
		if skip {
			return nil, badData("skip_head is not supported: a snapshot flushes the heads and holds everything")
		}
	}
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, err
	}
	name := time.Now().UTC().Format("20060102T150405Z") + "-" + hex.EncodeToString(random[:])
	if err := os.MkdirAll(a.opts.SnapshotDir, 0o750); err != nil {
		return nil, fmt.Errorf("create snapshot: %w", err)
	}
	if err := a.opts.Admin.Snapshot(r.Context(), filepath.Join(a.opts.SnapshotDir, name)); err != nil {
		return nil, fmt.Errorf("create snapshot: %w", err)
	}
	return struct {
		Name string `json:"name"`
	}{name}, nil
}

// cleanTombstones serves /admin/tsdb/clean_tombstones.
func (a *API) cleanTombstones(r *http.Request) (any, error) {
	if err := a.adminEnabled(); err != nil {
		return nil, err
	}
	return nil, a.opts.Admin.CleanTombstones(r.Context())
}

func (a *API) runtimeInfo() (v1.RuntimeInfo, error) {
	info := v1.RuntimeInfo{
		StartTime:        a.started.UTC(),
		ServerTime:       time.Now().UTC(),
		GoroutineCount:   runtime.NumGoroutine(),
		GOMAXPROCS:       runtime.GOMAXPROCS(0),
		GOMEMLIMIT:       debug.SetMemoryLimit(-1),
		GOGC:             os.Getenv("GOGC"),
		GODEBUG:          os.Getenv("GODEBUG"),
		StorageRetention: a.opts.Retention,
	}
	info.ReloadConfigSuccess, info.LastConfigTime = a.opts.Reloaded()
	var errs [2]error
	info.CWD, errs[0] = os.Getwd()
	info.Hostname, errs[1] = os.Hostname()
	return info, errors.Join(errs[:]...)
}

// adminAdapter gives the upstream API what it asks of a store.
type adminAdapter struct{ admin Admin }

var _ v1.TSDBAdminStats = adminAdapter{}

func (a adminAdapter) Delete(ctx context.Context, minTime, maxTime int64, ms ...*labels.Matcher) error {
	return a.admin.Delete(ctx, metric.Selector{
		Tenant: tenant.FromContext(ctx), MinTime: minTime, MaxTime: maxTime, Matchers: ms,
	})
}

// CleanTombstones is overridden by API.cleanTombstones.
func (a adminAdapter) CleanTombstones() error { return errors.ErrUnsupported }

// Snapshot is overridden by API.snapshot.
func (a adminAdapter) Snapshot(string, bool) error { return errors.ErrUnsupported }

// Stats is overridden by API.cardinality.
func (a adminAdapter) Stats(string, int) (*tsdb.Stats, error) { return nil, errors.ErrUnsupported }

// WALReplayStatus says that nothing is being replayed: the server is asked only
// once it has replayed its log.
func (a adminAdapter) WALReplayStatus() (tsdb.WALReplayStatus, error) {
	return tsdb.WALReplayStatus{}, nil
}

// BlockMetas returns none: blocks here are not the upstream's.
func (a adminAdapter) BlockMetas() ([]tsdb.BlockMeta, error) { return []tsdb.BlockMeta{}, nil }
