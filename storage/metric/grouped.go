package metric

import (
	"cmp"
	"slices"
	"sort"

	"github.com/vedette-io/vedette/storage/index"
)

// timed is a row of a head's sparse columns.
type timed interface {
	histogramRow | startRow
	at() (index.Ref, int64)
}

func (r histogramRow) at() (index.Ref, int64) { return r.ref, r.time }

func (r startRow) at() (index.Ref, int64) { return r.ref, r.time }

// grouped holds rows by series and time; those of equal times in order of
// arrival.
type grouped[R timed] struct {
	rows  []R
	start []uint32 // series r has the rows start[r] to start[r+1]; nil if there are few rows
}

// groupRows groups rows of series below the given one. Many rows are sorted by
// counting, as sortRows does.
func groupRows[R timed](rows []R, series int) grouped[R] {
	if len(rows) == 0 {
		return grouped[R]{}
	}
	if len(rows) < series/16 {
		rows = slices.Clone(rows)
		slices.SortStableFunc(rows, func(a, b R) int {
			r, s := a.at()
			q, t := b.at()
			return cmp.Or(cmp.Compare(r, q), cmp.Compare(s, t))
		})
		return grouped[R]{rows: rows}
	}
	g := grouped[R]{rows: make([]R, len(rows)), start: make([]uint32, series+2)}
	next := g.start[1:] // next[r] counts r, then becomes the place of r's next row
	for i := range rows {
		ref, _ := rows[i].at()
		next[ref+1]++
	}
	for i := 1; i < len(next); i++ {
		next[i] += next[i-1]
	}
	for i := range rows {
		ref, _ := rows[i].at()
		g.rows[next[ref]] = rows[i]
		next[ref]++
	}
	g.start = g.start[:series+1]
	for ref := range series {
		sortRowsByTime(g.rows[g.start[ref]:g.start[ref+1]])
	}
	return g
}

func sortRowsByTime[R timed](rows []R) {
	byTime := func(a, b R) int {
		_, s := a.at()
		_, t := b.at()
		return cmp.Compare(s, t)
	}
	if len(rows) > 1 && !slices.IsSortedFunc(rows, byTime) {
		slices.SortStableFunc(rows, byTime)
	}
}

// of returns the rows of a series.
func (g *grouped[R]) of(ref index.Ref) []R {
	if g.start == nil {
		begin := sort.Search(len(g.rows), func(i int) bool { r, _ := g.rows[i].at(); return r >= ref })
		end := begin
		for end < len(g.rows) {
			if r, _ := g.rows[end].at(); r != ref {
				break
			}
			end++
		}
		return g.rows[begin:end]
	}
	if int(ref)+1 >= len(g.start) {
		return nil
	}
	return g.rows[g.start[ref]:g.start[ref+1]]
}

// eachFirst calls f for the first of the rows of every timestamp; rows are those
// of one series, by time.
func eachFirst[R timed](rows []R, f func(time int64, r *R)) {
	last := int64(0)
	for i := range rows {
		if _, t := rows[i].at(); i == 0 || t != last {
			last = t
			f(t, &rows[i])
		}
	}
}

// wanted returns the rows whose series are among refs, of those below the given
// one.
func wanted[R timed](rows []R, refs []index.Ref, series int) []R {
	if len(rows) == 0 {
		return nil
	}
	set := refSet(refs, series)
	var out []R
	for i := range rows {
		if ref, _ := rows[i].at(); set[ref/64]&(1<<(ref%64)) != 0 {
			out = append(out, rows[i])
		}
	}
	return out
}

// refSet is a bitmap of refs, which are below series.
func refSet(refs []index.Ref, series int) []uint64 {
	set := make([]uint64, series/64+1)
	for _, r := range refs {
		set[r/64] |= 1 << (r % 64)
	}
	return set
}
