package metric

import (
	"math"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/storage/block"
	"github.com/vedette-io/vedette/storage/index"
)

// runRows is how many samples one run of a table holds. There is one at least for
// each window of each tenant that gets samples.
const runRows = 1 << 12

// run is a piece of a table's columns, in order of arrival.
type run struct {
	refs   [runRows]index.Ref
	times  [runRows]int64
	values [runRows]float64
}

// runPool keeps runs from one flush to the next.
var runPool = sync.Pool{New: func() any { return new(run) }}

// table is the mutable part of a window's head: samples in order of arrival.
// The window's lock guards appending; what lies below a length that was read
// under the lock never changes and is read without it. A table that flushes is
// no longer appended to.
type table struct {
	runs []*run
	n    int

	histograms []histogramRow
	starts     []startRow
	exemplars  []exemplarRow
	metadata   []signal.Metadata

	sources    map[block.SourceKey]int64 // lowest offset that the table has data of
	covers     []block.Source            // once frozen: what the block will say it holds
	since      time.Time                 // of the first append
	minTime    int64
	maxTime    int64
	outOfOrder bool // some series has a sample that is older than its one before

	pins atomic.Int32 // the window's, and one of every query that reads the table

	viewMu sync.Mutex
	view   *sortedRows // of a prefix of the rows
}

type histogramRow struct {
	ref  index.Ref
	time int64
	h    Histogram
}

type startRow struct {
	ref   index.Ref
	time  int64
	start int64
}

type exemplarRow struct {
	ref    index.Ref
	time   int64
	value  float64
	labels string // canonical bytes
}

func newTable(now time.Time) *table {
	t := &table{sources: make(map[block.SourceKey]int64), since: now, minTime: math.MaxInt64, maxTime: math.MinInt64}
	t.pins.Store(1)
	return t
}

func (t *table) append(ref index.Ref, time int64, value float64) {
	at := t.n % runRows
	if at == 0 {
		t.runs = append(t.runs, runPool.Get().(*run))
	}
	r := t.runs[len(t.runs)-1]
	r.refs[at] = ref
	r.times[at] = time
	r.values[at] = value
	t.n++
}

// rows counts everything that a flush has to write.
func (t *table) rows() int {
	return t.n + len(t.histograms) + len(t.exemplars) + len(t.metadata)
}

func (t *table) cover(time int64) {
	t.minTime = min(t.minTime, time)
	t.maxTime = max(t.maxTime, time)
}

// unpin ends one use of the table; the last gives its runs back.
func (t *table) unpin() {
	if t.pins.Add(-1) > 0 {
		return
	}
	for _, r := range t.runs {
		runPool.Put(r)
	}
	t.runs, t.n = nil, 0
}

// sortedRows holds the first n rows of a table by series: series r has the
// samples start[r] to start[r+1], by time; those with equal times in order of
// arrival.
type sortedRows struct {
	n      int
	start  []uint32
	times  []int64
	values []float64
}

func (s *sortedRows) of(ref index.Ref) (times []int64, values []float64) {
	if s == nil || int(ref)+1 >= len(s.start) {
		return nil, nil
	}
	a, b := s.start[ref], s.start[ref+1]
	return s.times[a:b:b], s.values[a:b:b]
}

// sortRows sorts the first n rows of runs, whose refs are below series, by
// counting: series arrive in nearly the same order over and over, so both
// passes walk memory forwards.
func sortRows(runs []*run, n, series int, outOfOrder bool) *sortedRows {
	s := &sortedRows{n: n, start: make([]uint32, series+2), times: make([]int64, n), values: make([]float64, n)}
	next := s.start[1:] // next[r] counts r, then becomes the place of r's next sample
	eachRun(runs, n, func(r *run, rows int) {
		for _, ref := range r.refs[:rows] {
			next[ref+1]++
		}
	})
	for i := 1; i < len(next); i++ {
		next[i] += next[i-1]
	}
	eachRun(runs, n, func(r *run, rows int) {
		for i, ref := range r.refs[:rows] {
			at := next[ref]
			next[ref] = at + 1
			s.times[at] = r.times[i]
			s.values[at] = r.values[i]
		}
	})
	s.start = s.start[:series+1]
	if outOfOrder {
		for ref := range series {
			sortByTime(s.of(index.Ref(ref)))
		}
	}
	return s
}

func eachRun(runs []*run, n int, f func(r *run, rows int)) {
	for i := 0; n > 0; i++ {
		rows := min(n, runRows)
		f(runs[i], rows)
		n -= rows
	}
}

// sortByTime sorts samples by time and keeps the order of equal times.
func sortByTime(times []int64, values []float64) {
	if slices.IsSorted(times) {
		return
	}
	sort.Stable(byTime{times, values})
}

type byTime struct {
	times  []int64
	values []float64
}

func (s byTime) Len() int           { return len(s.times) }
func (s byTime) Less(i, j int) bool { return s.times[i] < s.times[j] }
func (s byTime) Swap(i, j int) {
	s.times[i], s.times[j] = s.times[j], s.times[i]
	s.values[i], s.values[j] = s.values[j], s.values[i]
}

// snapshot is a table as a query saw it: the columns' prefix of that moment.
type snapshot struct {
	table      *table
	runs       []*run
	n          int
	series     int
	outOfOrder bool
	histograms []histogramRow
	starts     []startRow
}

// sorted returns a view of nearly all of the snapshot's rows; those from
// view.n on are for the caller to scan. Views are kept, and renewed when they
// miss an eighth.
func (s *snapshot) sorted() *sortedRows {
	t := s.table
	t.viewMu.Lock()
	defer t.viewMu.Unlock()
	if v := t.view; v != nil && v.n <= s.n && s.n-v.n <= max(4096, v.n/8) {
		return v
	}
	if v := t.view; v != nil && v.n > s.n {
		// A later snapshot has sorted more. Those rows are newer than ours; seeing
		// them does no harm.
		return v
	}
	t.view = sortRows(s.runs, s.n, s.series, s.outOfOrder)
	return t.view
}

// tail collects the samples of refs (ascending) that view does not hold.
func (s *snapshot) tail(view *sortedRows, refs []index.Ref) map[index.Ref]*Samples {
	if view.n >= s.n {
		return nil
	}
	wanted := refSet(refs, s.series)
	var out map[index.Ref]*Samples
	for row := view.n; row < s.n; row++ {
		r, at := s.runs[row/runRows], row%runRows
		ref := r.refs[at]
		if wanted[ref/64]&(1<<(ref%64)) == 0 {
			continue
		}
		if out == nil {
			out = make(map[index.Ref]*Samples)
		}
		c := out[ref]
		if c == nil {
			c = &Samples{}
			out[ref] = c
		}
		c.Times = append(c.Times, r.times[at])
		c.Values = append(c.Values, r.values[at])
	}
	for _, c := range out {
		sortByTime(c.Times, c.Values)
	}
	return out
}
