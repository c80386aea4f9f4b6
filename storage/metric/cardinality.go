package metric

import (
	"cmp"
	"context"
	"math"
	"slices"
)

// Count is a name and how many there are of it.
type Count struct {
	Name  string
	Value uint64
}

// Cardinality says where a tenant's series come from, in its newest window.
type Cardinality struct {
	Series  int
	Pairs   int   // label pairs
	Chunks  int64 // in blocks
	Samples int64 // in blocks and heads
	MinTime int64 // unix milliseconds
	MaxTime int64

	SeriesByMetric []Count // most first, as all that follow
	ValuesByLabel  []Count // distinct values of a label
	BytesByLabel   []Count // bytes of a label's values, each value once
	SeriesByPair   []Count // name=value
}

// Cardinality returns the limit greatest of each list.
func (db *DB) Cardinality(tenant string, limit int) Cardinality {
	var c Cardinality
	t := db.lookupTenant(tenant)
	if t == nil {
		return c
	}
	windows := t.all()
	if len(windows) == 0 {
		return c
	}
	c.MinTime, c.MaxTime = math.MaxInt64, math.MinInt64
	w := windows[len(windows)-1]
	_ = db.eachWindow(context.Background(), tenant, w.start, w.start, func(w *window) error {
		w.cardinality(&c, limit)
		return nil
	})
	return c
}

func (w *window) cardinality(c *Cardinality, limit int) {
	x := w.index
	c.Series, c.Pairs = x.Len(), x.Pairs()
	for _, b := range w.blocks {
		c.Chunks += b.meta.Chunks
		c.Samples += b.meta.Samples
		c.MinTime, c.MaxTime = min(c.MinTime, b.meta.MinTime), max(c.MaxTime, b.meta.MaxTime)
	}
	for _, t := range []*table{w.flushing, w.table} {
		if t != nil && t.rows() > 0 {
			c.Samples += int64(t.n + len(t.histograms))
			c.MinTime, c.MaxTime = min(c.MinTime, t.minTime), max(c.MaxTime, t.maxTime)
		}
	}
	metrics, pairs, values, bytes := top{n: limit}, top{n: limit}, top{n: limit}, top{n: limit}
	for _, name := range x.LabelNames() {
		distinct, size := 0, 0
		x.EachPair(name, func(value []byte, series int) {
			distinct++
			size += len(value)
			if name == nameLabel {
				metrics.add(string(value), uint64(series))
			}
			if pairs.wants(uint64(series)) {
				pairs.add(name+"="+string(value), uint64(series))
			}
		})
		values.add(name, uint64(distinct))
		bytes.add(name, uint64(size))
	}
	c.SeriesByMetric, c.SeriesByPair = metrics.list, pairs.list
	c.ValuesByLabel, c.BytesByLabel = values.list, bytes.list
}

// top keeps the n greatest counts, sorted.
type top struct {
	n    int
	list []Count
}

func (t *top) wants(v uint64) bool {
	return t.n <= 0 || len(t.list) < t.n || t.list[len(t.list)-1].Value < v
}

func (t *top) add(name string, v uint64) {
	if !t.wants(v) {
		return
	}
	i, _ := slices.BinarySearchFunc(t.list, v, func(c Count, v uint64) int { return cmp.Compare(v, c.Value) })
	for i < len(t.list) && t.list[i].Value == v && t.list[i].Name < name {
		i++
	}
	t.list = slices.Insert(t.list, i, Count{name, v})
	if t.n > 0 && len(t.list) > t.n {
		t.list = t.list[:t.n]
	}
}
