package pushgateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/histogram"

	"github.com/vedette-io/vedette/ingest/exposition"
	"github.com/vedette-io/vedette/internal/tenant"
)

// serveExposition shows all groups of the tenant to a scraper.
func (g *Gateway) serveExposition(w http.ResponseWriter, r *http.Request) {
	id, err := tenant.FromRequest(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	all := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return g.merged(id) })
	promhttp.HandlerFor(all, promhttp.HandlerOpts{}).ServeHTTP(w, r)
}

// merged returns the families of all groups of a tenant, those of the same name
// as one. The first help wins; types that differ cannot be shown.
func (g *Gateway) merged(tenantID string) ([]*dto.MetricFamily, error) {
	byName := map[string]*dto.MetricFamily{}
	for _, s := range g.list(tenantID) {
		for _, f := range s.state.sorted() {
			name := f.proto.GetName()
			m := byName[name]
			if m == nil {
				m = &dto.MetricFamily{Name: f.proto.Name, Help: f.proto.Help, Type: f.proto.GetType().Enum(), Unit: f.proto.Unit}
				byName[name] = m
			}
			if m.GetType() != f.proto.GetType() {
				return nil, fmt.Errorf("gather groups: metric %q has type %s in one group and %s in another", name, m.GetType(), f.proto.GetType())
			}
			m.Metric = append(m.Metric, f.proto.GetMetric()...)
		}
	}
	out := make([]*dto.MetricFamily, 0, len(byName))
	for _, m := range byName {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	return out, nil
}

// apiFamily is a family in the answer of the query API.
type apiFamily struct {
	Timestamp time.Time        `json:"time_stamp"`
	Type      string           `json:"type"`
	Help      string           `json:"help,omitempty"`
	Metrics   []map[string]any `json:"metrics"`
}

// serveMetrics lists all groups of the tenant as JSON.
func (g *Gateway) serveMetrics(w http.ResponseWriter, r *http.Request) {
	id, err := tenant.FromRequest(r)
	if err != nil {
		respond(w, http.StatusBadRequest, map[string]any{"status": "error", "errorType": "bad_data", "error": err.Error()})
		return
	}
	data := []map[string]any{}
	for _, s := range g.list(id) {
		byName := map[string]string{}
		for _, l := range s.key {
			byName[l.Name] = l.Value
		}
		out := map[string]any{"labels": byName, "last_push_successful": !s.state.failed.After(s.state.pushed)}
		for name, f := range s.state.families {
			out[name] = apiFamily{f.at, f.proto.GetType().String(), f.proto.GetHelp(), apiMetrics(f.proto)}
		}
		data = append(data, out)
	}
	respond(w, http.StatusOK, map[string]any{"status": "success", "data": data})
}

// serveStatus tells the configuration as JSON.
func (g *Gateway) serveStatus(w http.ResponseWriter, _ *http.Request) {
	c := g.cfg
	respond(w, http.StatusOK, map[string]any{"status": "success", "data": map[string]any{
		"flags": map[string]string{
			"interval":                  c.Interval.String(),
			"max_groups":                strconv.Itoa(c.MaxGroups),
			"max_series":                strconv.Itoa(c.MaxSeries),
			"max_series_per_group":      strconv.Itoa(c.MaxSeriesPerGroup),
			"max_push_bytes":            strconv.Itoa(c.MaxPushBytes),
			"utf8_names":                strconv.FormatBool(c.UTF8Names),
			"disable_consistency_check": strconv.FormatBool(c.DisableConsistencyCheck),
			"enable_admin_api":          strconv.FormatBool(c.EnableAdminAPI),
		},
		"start_time":        g.started,
		"build_information": g.build,
	}})
}

func respond(w http.ResponseWriter, code int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(text) // a client that has gone is no failure
}

// apiMetrics returns the metrics of a family, numbers as text.
func apiMetrics(f *dto.MetricFamily) []map[string]any {
	out := make([]map[string]any, 0, len(f.GetMetric()))
	for _, m := range f.GetMetric() {
		byName := map[string]string{}
		for _, l := range m.GetLabel() {
			byName[l.GetName()] = l.GetValue()
		}
		entry := map[string]any{"labels": byName}
		switch f.GetType() {
		case dto.MetricType_SUMMARY:
			quantiles := map[string]string{}
			for _, q := range m.GetSummary().GetQuantile() {
				quantiles[fmt.Sprint(q.GetQuantile())] = fmt.Sprint(q.GetValue())
			}
			entry["quantiles"] = quantiles
			entry["count"], entry["sum"] = fmt.Sprint(m.GetSummary().GetSampleCount()), fmt.Sprint(m.GetSummary().GetSampleSum())
		case dto.MetricType_HISTOGRAM, dto.MetricType_GAUGE_HISTOGRAM:
			apiHistogram(entry, f, m)
		default:
			entry["value"] = fmt.Sprint(m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue())
		}
		out = append(out, entry)
	}
	return out
}

// apiHistogram describes a histogram: native buckets as in the HTTP API of
// Prometheus, classic ones by their upper bound.
func apiHistogram(entry map[string]any, f *dto.MetricFamily, m *dto.Metric) {
	h := m.GetHistogram()
	entry["sum"] = fmt.Sprint(h.GetSampleSum())
	one := &dto.MetricFamily{Name: f.Name, Type: f.Type, Metric: []*dto.Metric{m}}
	series, err := exposition.AppendSeries(nil, one)
	if err == nil && len(series) == 1 && series[0].Int != nil {
		entry["count"] = fmt.Sprint(series[0].Int.Count)
		entry["buckets"] = apiBuckets(series[0].Int.ToFloat(nil))
		return
	}
	if err == nil && len(series) == 1 && series[0].Float != nil {
		entry["count"] = fmt.Sprint(series[0].Float.Count)
		entry["buckets"] = apiBuckets(series[0].Float)
		return
	}
	buckets := map[string]string{}
	for _, b := range h.GetBucket() {
		buckets[fmt.Sprint(b.GetUpperBound())] = count(b.GetCumulativeCountFloat(), b.GetCumulativeCount())
	}
	entry["buckets"] = buckets
	entry["count"] = count(h.GetSampleCountFloat(), h.GetSampleCount())
}

func count(f float64, n uint64) string {
	if f > 0 {
		return fmt.Sprint(f)
	}
	return fmt.Sprint(n)
}

func apiBuckets(h *histogram.FloatHistogram) [][]any {
	out := [][]any{}
	for it := h.AllBucketIterator(); it.Next(); {
		b := it.At()
		if b.Count == 0 {
			continue
		}
		boundaries := 2 // both exclusive
		switch {
		case b.LowerInclusive && b.UpperInclusive:
			boundaries = 3
		case b.LowerInclusive:
			boundaries = 1
		case b.UpperInclusive:
			boundaries = 0
		}
		out = append(out, []any{boundaries, fmt.Sprint(b.Lower), fmt.Sprint(b.Upper), fmt.Sprint(b.Count)})
	}
	return out
}
