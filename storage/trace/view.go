package trace

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/storage/block"
	"github.com/vedette-io/vedette/storage/trace/rows"
)

// View is what a tenant had stored at one moment: blocks, the head that is being
// flushed, and the head. Every span that was appended before is in it once,
// whatever is flushed, merged or dropped while it is open; but for spans that a
// client has sent twice, which Trace tells apart and Groups does not.
//
// A View must be closed, and is used by one goroutine at a time, but for Suspect:
// several may read its groups.
type View struct {
	db     *DB
	tenant *tenant // nil if there is none of the name
	blocks []*blockFile
	heads  []*rows.TableView

	minTime, maxTime int64
	sources          []rows.Source
	listed           bool          // groups and all are set
	groups           []*rows.Group // within the times
	all              int
	cursor           rows.Cursor

	mu       sync.Mutex
	warnings []error
}

// View returns what is stored of a tenant. MinTime and MaxTime, unix nanoseconds
// and both inclusive, choose its row groups.
func (db *DB) View(tenant string, minTime, maxTime int64) *View {
	if t := db.lookupTenant(tenant); t != nil {
		return t.view(minTime, maxTime)
	}
	return &View{db: db}
}

func (t *tenant) view(minTime, maxTime int64) *View {
	t.db.metrics.views.Inc()
	v := &View{db: t.db, tenant: t, minTime: minTime, maxTime: maxTime}
	t.mu.RLock()
	v.blocks = t.blocks
	for _, b := range v.blocks {
		b.Pin()
	}
	for _, h := range []*head{t.flushing, t.head} {
		if h != nil {
			v.heads = append(v.heads, h.table.Snapshot())
		}
	}
	t.mu.RUnlock()
	for _, b := range v.blocks {
		v.sources = append(v.sources, b.rows)
	}
	for _, h := range v.heads {
		v.sources = append(v.sources, h)
	}
	return v
}

// list finds the row groups within the View's times. A look-up by id does without.
func (v *View) list() {
	if v.listed {
		return
	}
	v.listed = true
	for _, s := range v.sources {
		for _, g := range s.Groups() {
			v.all++
			if overlaps(g, v.minTime, v.maxTime) {
				v.groups = append(v.groups, g)
			}
		}
	}
	slices.SortStableFunc(v.groups, func(a, b *rows.Group) int {
		return cmp.Compare(b.Info().MaxTraceStart, a.Info().MaxTraceStart)
	})
}

// overlaps reports whether a span of the group may touch [minTime, maxTime].
func overlaps(g *rows.Group, minTime, maxTime int64) bool {
	i := g.Info()
	return i.MinStart <= maxTime && addClamped(i.MaxStart, max(i.MaxDuration, 0)) >= minTime
}

// Sources returns everything that the View reads.
func (v *View) Sources() []rows.Source { return v.sources }

// Groups returns the row groups that may have spans within the View's times, by
// the start of their newest trace, the newest first.
func (v *View) Groups() []*rows.Group {
	v.list()
	return v.groups
}

// AllGroups returns how many row groups there are, whatever their times.
func (v *View) AllGroups() int {
	v.list()
	return v.all
}

// Find returns where the spans of a trace are, whatever their times.
func (v *View) Find(id signal.TraceID) []rows.Run {
	var runs []rows.Run
	for _, s := range v.sources {
		n := len(runs)
		var err error
		if runs, err = s.FindTrace(id, runs); err != nil {
			runs = runs[:n]
			v.Suspect(err)
		}
	}
	return runs
}

// A program that gives all its spans the same id makes a trace without end; so
// much of it is read at most.
const (
	maxTraceSpans = 250_000
	maxTraceBytes = 256 << 20 // of text
)

// Trace appends the spans of a trace to dst, whatever their times; none if the
// trace is not there. Spans that were stored twice (same id, kind, start, end
// and name) come once. A damaged block is passed over, and of a trace of more than
// 250,000 spans or 256 MB only so much is read: Warnings tells.
func (v *View) Trace(id signal.TraceID, dst *signal.Spans) error {
	return v.TraceColumns(id, nil, dst)
}

// TraceColumns is Trace without the attributes, status messages and what else
// lies in columns that are not wanted; nil wants all.
func (v *View) TraceColumns(id signal.TraceID, wanted func(c *rows.ColumnInfo) bool, dst *signal.Spans) error {
	begin := time.Now()
	v.cursor.Wanted = wanted
	from, size := dst.Len(), len(dst.Buf)
	for _, r := range v.Find(id) {
		n := dst.Len()
		if most := maxTraceSpans - (n - from); r.End-r.First > most || len(dst.Buf)-size > maxTraceBytes {
			v.warn(fmt.Errorf("read trace %x: it has more than %d spans or %d MB, the rest is left out", id, maxTraceSpans, maxTraceBytes>>20))
			if r.End = r.First + most; r.End <= r.First || len(dst.Buf)-size > maxTraceBytes {
				break
			}
		}
		if err := rows.AppendRun(dst, &v.cursor, r); err != nil {
			if !errors.Is(err, block.ErrCorruption) {
				return err
			}
			cutSpans(dst, n)
			v.Suspect(err)
		}
	}
	dropDuplicates(dst, from)
	v.db.metrics.looked(time.Since(begin), dst.Len() > from)
	return nil
}

// Suspect takes note of an error that reading the View's groups gave: a damaged
// block is taken out of service soon, and Warnings says so. It may be called
// concurrently.
func (v *View) Suspect(err error) {
	v.warn(err)
	var c *block.CorruptionError
	if v.tenant == nil || !errors.As(err, &c) {
		return
	}
	for _, b := range v.blocks {
		if b.Dir() == c.Block {
			v.tenant.suspect(b, err)
		}
	}
}

func (v *View) warn(err error) {
	v.mu.Lock()
	v.warnings = append(v.warnings, err)
	v.mu.Unlock()
}

// Warnings returns what the View could not read.
func (v *View) Warnings() []error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.warnings
}

// Close lets go of the blocks. A second Close does nothing.
func (v *View) Close() {
	for _, b := range v.blocks {
		if err := b.Unpin(); err != nil {
			v.db.logger.Warn("delete block", "block", b.Dir(), "err", err)
		}
	}
	v.blocks, v.heads, v.sources, v.groups = nil, nil, nil, nil
}

// Bounds returns the earliest and the latest start of all spans, unix
// nanoseconds; first > last if there are none.
func (v *View) Bounds() (first, last int64) {
	first, last = math.MaxInt64, math.MinInt64
	for _, s := range v.sources {
		for _, g := range s.Groups() {
			i := g.Info()
			first, last = min(first, i.MinStart), max(last, i.MaxStart)
		}
	}
	return first, last
}
