package metric

import (
	"cmp"
	"context"
	"maps"
	"slices"

	promlabels "github.com/prometheus/prometheus/model/labels"

	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/storage/index"
)

// eachWindow calls f with every window that sel touches, its index loaded and
// its lock held for reading.
func (db *DB) eachWindow(ctx context.Context, tenant string, minTime, maxTime int64, f func(w *window) error) error {
	t := db.lookupTenant(tenant)
	if t == nil {
		return nil
	}
	for _, w := range t.overlapping(minTime, maxTime) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.acquire(); err != nil {
			return err
		}
		err := f(w)
		w.mu.RUnlock()
		if err != nil {
			return err
		}
		db.trimIndexes()
	}
	return nil
}

// LabelNames returns the names of the labels of the series that match, sorted.
func (db *DB) LabelNames(ctx context.Context, sel Selector) ([]string, error) {
	names := make(map[string]struct{})
	err := db.eachWindow(ctx, sel.Tenant, sel.MinTime, sel.MaxTime, func(w *window) error {
		if len(sel.Matchers) == 0 {
			for _, n := range w.index.LabelNames() {
				names[n] = struct{}{}
			}
			return nil
		}
		for _, ref := range w.index.Match(sel.Matchers) {
			w.index.EachLabel(ref, func(name, _ []byte) {
				if _, ok := names[string(name)]; !ok {
					names[string(name)] = struct{}{}
				}
			})
		}
		return nil
	})
	return sortedKeys(names, sel.Limit), err
}

// LabelValues returns the values of a label among the series that match,
// sorted.
func (db *DB) LabelValues(ctx context.Context, name string, sel Selector) ([]string, error) {
	values := make(map[string]struct{})
	err := db.eachWindow(ctx, sel.Tenant, sel.MinTime, sel.MaxTime, func(w *window) error {
		if len(sel.Matchers) == 0 {
			w.index.EachPair(name, func(value []byte, _ int) { values[string(value)] = struct{}{} })
			return nil
		}
		for _, ref := range w.index.Match(sel.Matchers) {
			w.index.EachLabel(ref, func(n, value []byte) {
				if string(n) != name {
					return
				}
				if _, ok := values[string(value)]; !ok {
					values[string(value)] = struct{}{}
				}
			})
		}
		return nil
	})
	return sortedKeys(values, sel.Limit), err
}

func sortedKeys(m map[string]struct{}, limit int) []string {
	out := slices.Sorted(maps.Keys(m))
	if limit > 0 && len(out) > limit {
		out = out[:limit]
	}
	return out
}

// Exemplars returns the exemplars between both times (inclusive) of the series
// that match any of the matcher sets, sorted by labels.
func (db *DB) Exemplars(ctx context.Context, tenant string, minTime, maxTime int64, matcherSets [][]*promlabels.Matcher) ([]SeriesExemplars, error) {
	bySeries := make(map[labels.Hash]*SeriesExemplars)
	var builder promlabels.ScratchBuilder
	err := db.eachWindow(ctx, tenant, minTime, maxTime, func(w *window) error {
		wanted := make(map[index.Ref]bool)
		for _, ms := range matcherSets {
			for _, ref := range w.index.Match(ms) {
				wanted[ref] = true
			}
		}
		rows, err := w.exemplars(minTime, maxTime)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if !wanted[r.ref] {
				continue
			}
			h := w.index.Hash(r.ref)
			s := bySeries[h]
			if s == nil {
				s = &SeriesExemplars{Series: labelsOf(w.index, r.ref, &builder)}
				bySeries[h] = s
			}
			s.Exemplars = append(s.Exemplars, Exemplar{Time: r.time, Value: r.value, Labels: parseLabels(r.labels)})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := make([]SeriesExemplars, 0, len(bySeries))
	for _, s := range bySeries {
		slices.SortStableFunc(s.Exemplars, func(a, b Exemplar) int { return cmp.Compare(a.Time, b.Time) })
		s.Exemplars = slices.CompactFunc(s.Exemplars, func(a, b Exemplar) bool { return a.Time == b.Time })
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b SeriesExemplars) int { return promlabels.Compare(a.Series, b.Series) })
	return out, nil
}

// exemplars returns the window's exemplars between both times; the caller holds
// mu.
func (w *window) exemplars(minTime, maxTime int64) ([]exemplarRow, error) {
	var out []exemplarRow
	take := func(rows []exemplarRow, dead *tombstones) {
		for _, r := range rows {
			if r.time >= minTime && r.time <= maxTime && !covered(dead.of(r.ref), r.time) {
				out = append(out, r)
			}
		}
	}
	for _, b := range w.blocks {
		if b.meta.Exemplars == 0 {
			continue
		}
		rows, err := b.readExemplars()
		if err != nil {
			return nil, err
		}
		take(rows, b.tombstones.Load())
	}
	for _, t := range []*table{w.flushing, w.table} {
		if t != nil {
			take(t.exemplars, nil)
		}
	}
	return out, nil
}

// Metadata returns what was last said about a metric family, or about up to
// limit families if family is empty; 0 is no limit.
func (db *DB) Metadata(tenant, family string, limit int) []FamilyMetadata {
	t := db.lookupTenant(tenant)
	if t == nil {
		return nil
	}
	t.metadataMu.RLock()
	defer t.metadataMu.RUnlock()
	var list []signal.Metadata
	if family != "" {
		m, ok := t.metadata.byFamily[family]
		if !ok {
			return nil
		}
		list = append(list, m)
	} else {
		list = t.metadata.list()
	}
	if limit > 0 && len(list) > limit {
		list = list[:limit]
	}
	out := make([]FamilyMetadata, len(list))
	for i, m := range list {
		out[i] = FamilyMetadata(m)
	}
	return out
}
