package promqlsuite

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/model/labels"

	canonical "github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/query/promql"
	"github.com/vedette-io/vedette/storage/metric"
)

// Memory is a metric store made of maps and sorted slices: the model that real
// stores are compared with. It is safe for concurrent use.
type Memory struct {
	mu       sync.RWMutex
	tenants  map[string]map[string]*memorySeries // by canonical label bytes
	metadata map[string]map[string]metric.FamilyMetadata
	open     int
}

type memorySeries struct {
	labels    labels.Labels
	samples   []memorySample
	exemplars []metric.Exemplar
}

type memorySample struct {
	time, start int64
	value       float64
	histogram   metric.Histogram
}

func (s memorySample) isHistogram() bool { return s.histogram != metric.Histogram{} }

var (
	_ promql.Store = (*Memory)(nil)
	_ Sink         = (*Memory)(nil)
)

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{
		tenants:  make(map[string]map[string]*memorySeries),
		metadata: make(map[string]map[string]metric.FamilyMetadata),
	}
}

// Backend returns the store as a Backend.
func (m *Memory) Backend() Backend { return Backend{Store: m, Sink: m} }

// OpenSets returns how many series sets were not closed.
func (m *Memory) OpenSets() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.open
}

// AppendMetrics implements Sink.
func (m *Memory) AppendMetrics(_ context.Context, b *signal.Metrics, _, _ string, _ int32, _ int64) (signal.AppendResult, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var res signal.AppendResult
	rows := make([]*memorySeries, len(b.Labels))
	first := uint32(0)
	for i, r := range b.Labels {
		s, err := m.seriesLocked(b.Tenant, b.Bytes(r))
		if err != nil {
			return res, err
		}
		rows[i] = s
		for j := first; j < b.SampleEnd[i]; j++ {
			smp := memorySample{time: b.Times[j], value: b.Values[j]}
			if len(b.Starts) > 0 {
				smp.start = b.Starts[j]
			}
			s.insert(smp, &res)
		}
		first = b.SampleEnd[i]
	}
	for _, h := range b.Histograms {
		s := memorySample{time: h.Time, start: h.Start}
		if h.Int != nil {
			s.histogram.Int = h.Int.Copy()
		} else {
			s.histogram.Float = h.Float.Copy()
		}
		rows[h.Series].insert(s, &res)
	}
	for _, e := range b.Exemplars {
		ls, err := decodeLabels(b.Bytes(e.Labels))
		if err != nil {
			return res, err
		}
		s := rows[e.Series]
		s.exemplars = append(s.exemplars, metric.Exemplar{Time: e.Time, Value: e.Value, Labels: ls})
		slices.SortStableFunc(s.exemplars, func(a, b metric.Exemplar) int { return int(a.Time - b.Time) })
		res.Exemplars++
	}
	for _, f := range b.Metadata {
		if m.metadata[b.Tenant] == nil {
			m.metadata[b.Tenant] = make(map[string]metric.FamilyMetadata)
		}
		m.metadata[b.Tenant][f.Family] = metric.FamilyMetadata(f)
	}
	return res, nil
}

func (m *Memory) seriesLocked(tenant string, key []byte) (*memorySeries, error) {
	series := m.tenants[tenant]
	if series == nil {
		series = make(map[string]*memorySeries)
		m.tenants[tenant] = series
	}
	s := series[string(key)]
	if s == nil {
		ls, err := decodeLabels(key)
		if err != nil {
			return nil, err
		}
		s = &memorySeries{labels: ls}
		series[string(key)] = s
	}
	return s, nil
}

// insert puts smp in its place; the first sample at a time stays.
func (s *memorySeries) insert(smp memorySample, res *signal.AppendResult) {
	i, found := slices.BinarySearchFunc(s.samples, smp.time, func(a memorySample, t int64) int {
		switch {
		case a.time < t:
			return -1
		case a.time > t:
			return 1
		}
		return 0
	})
	if found {
		old := s.samples[i]
		if !old.isHistogram() && !smp.isHistogram() && math.Float64bits(old.value) == math.Float64bits(smp.value) {
			res.Duplicates++
			return
		}
		res.Conflicts++
		if res.FirstError == "" {
			res.FirstError = fmt.Sprintf("series %s has another sample at %d", s.labels, smp.time)
		}
		return
	}
	s.samples = slices.Insert(s.samples, i, smp)
	res.Appended++
	if smp.isHistogram() {
		res.Histograms++
	}
}

func decodeLabels(b []byte) (labels.Labels, error) {
	var builder labels.ScratchBuilder
	for len(b) > 0 {
		name, value, rest, err := canonical.Next(b)
		if err != nil {
			return labels.EmptyLabels(), err
		}
		builder.Add(string(name), string(value))
		b = rest
	}
	builder.Sort()
	return builder.Labels(), nil
}

// matching returns the series that satisfy sel, sorted.
func (m *Memory) matching(sel metric.Selector) []*memorySeries {
	var out []*memorySeries
	for _, s := range m.tenants[sel.Tenant] {
		if matches(s.labels, sel.Matchers) && s.overlaps(sel) {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b *memorySeries) int { return labels.Compare(a.labels, b.labels) })
	return out
}

func matches(ls labels.Labels, matchers []*labels.Matcher) bool {
	for _, m := range matchers {
		if !m.Matches(ls.Get(m.Name)) {
			return false
		}
	}
	return true
}

func (s *memorySeries) overlaps(sel metric.Selector) bool {
	return slices.ContainsFunc(s.samples, func(smp memorySample) bool {
		return smp.time >= sel.MinTime && smp.time <= sel.MaxTime
	})
}

// Select implements promql.Store.
func (m *Memory) Select(ctx context.Context, sel metric.Selector) (promql.SeriesSet, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open++
	matched := limit(m.matching(sel), sel.Limit)
	if sel.Charge != nil {
		for _, s := range matched {
			if err := sel.Charge(int64(s.labels.ByteSize())); err != nil {
				return nil, err
			}
		}
	}
	return &memorySet{m, sel, matched}, nil
}

func limit[T any](list []T, n int) []T {
	if n > 0 && len(list) > n {
		return list[:n]
	}
	return list
}

type memorySet struct {
	memory *Memory
	sel    metric.Selector
	series []*memorySeries
}

func (s *memorySet) Len() int                   { return len(s.series) }
func (s *memorySet) Labels(i int) labels.Labels { return s.series[i].labels }

func (s *memorySet) Close() {
	s.memory.mu.Lock()
	s.memory.open--
	s.memory.mu.Unlock()
}

// Warnings implements promql.SeriesSet: nothing in memory is damaged.
func (s *memorySet) Warnings() []error { return nil }

func (s *memorySet) Samples(i int, dst *metric.Samples) error {
	s.memory.mu.RLock()
	defer s.memory.mu.RUnlock()
	dst.Reset()
	var hasStart, hasHistogramStart bool
	for _, smp := range s.series[i].samples {
		if smp.time < s.sel.MinTime || smp.time > s.sel.MaxTime {
			continue
		}
		if smp.isHistogram() {
			dst.HistogramTimes = append(dst.HistogramTimes, smp.time)
			dst.Histograms = append(dst.Histograms, smp.histogram)
			dst.HistogramStarts = append(dst.HistogramStarts, smp.start)
			hasHistogramStart = hasHistogramStart || smp.start != 0
		} else {
			dst.Times = append(dst.Times, smp.time)
			dst.Values = append(dst.Values, smp.value)
			dst.Starts = append(dst.Starts, smp.start)
			hasStart = hasStart || smp.start != 0
		}
	}
	if !hasStart {
		dst.Starts = dst.Starts[:0]
	}
	if !hasHistogramStart {
		dst.HistogramStarts = dst.HistogramStarts[:0]
	}
	return nil
}

// LabelNames implements promql.Store.
func (m *Memory) LabelNames(_ context.Context, sel metric.Selector) ([]string, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	set := make(map[string]struct{})
	for _, s := range m.matching(sel) {
		s.labels.Range(func(l labels.Label) { set[l.Name] = struct{}{} })
	}
	return limit(slices.Sorted(maps.Keys(set)), sel.Limit), nil
}

// LabelValues implements promql.Store.
func (m *Memory) LabelValues(_ context.Context, name string, sel metric.Selector) ([]string, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	set := make(map[string]struct{})
	for _, s := range m.matching(sel) {
		if v := s.labels.Get(name); v != "" {
			set[v] = struct{}{}
		}
	}
	return limit(slices.Sorted(maps.Keys(set)), sel.Limit), nil
}

// Exemplars implements promql.Store.
func (m *Memory) Exemplars(_ context.Context, tenant string, minTime, maxTime int64, sets [][]*labels.Matcher) ([]metric.SeriesExemplars, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var out []metric.SeriesExemplars
	for _, s := range m.tenants[tenant] {
		if !slices.ContainsFunc(sets, func(ms []*labels.Matcher) bool { return matches(s.labels, ms) }) {
			continue
		}
		r := metric.SeriesExemplars{Series: s.labels}
		for _, e := range s.exemplars {
			if e.Time >= minTime && e.Time <= maxTime {
				r.Exemplars = append(r.Exemplars, e)
			}
		}
		if len(r.Exemplars) > 0 {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b metric.SeriesExemplars) int { return labels.Compare(a.Series, b.Series) })
	return out, nil
}

// Metadata returns what was said about family, or about all of them if it is
// empty, sorted by family; limit 0 is no limit.
func (m *Memory) Metadata(tenant, family string, max int) []metric.FamilyMetadata {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var out []metric.FamilyMetadata
	for _, name := range slices.Sorted(maps.Keys(m.metadata[tenant])) {
		if family == "" || family == name {
			out = append(out, m.metadata[tenant][name])
		}
	}
	return limit(out, max)
}

// Delete removes the samples that sel selects.
func (m *Memory) Delete(_ context.Context, sel metric.Selector) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.matching(sel) {
		s.samples = slices.DeleteFunc(s.samples, func(smp memorySample) bool {
			return smp.time >= sel.MinTime && smp.time <= sel.MaxTime
		})
	}
	return nil
}
