package cli

import (
	"bytes"
	"cmp"
	"slices"
)

// noSpan stands for no index of a span.
const noSpan = -1

// forest is the spans of a trace as trees. Every span is in it, whatever a
// sender did: one whose parent is not there, is itself, or would close a circle
// begins a tree of its own. Where a client and a server share an id, as Zipkin's
// older clients make them, the server's span is below the client's, and what
// names that id as parent is below the server's.
type forest struct {
	spans      []Span
	parent     []int32 // index of the parent, noSpan of roots
	circle     []bool  // its parent was cut off to break a circle
	first      []int32 // children of i are children[first[i]:first[i+1]]
	children   []int32 // by parent, then by start
	roots      []int32 // by start
	start, end int64   // of all spans
}

func newForest(spans []Span) *forest {
	f := &forest{spans: spans, parent: make([]int32, len(spans)), circle: make([]bool, len(spans))}
	for i := range spans {
		s := &spans[i]
		if i == 0 || s.Start < f.start {
			f.start = s.Start
		}
		f.end = max(f.end, s.Start, s.End)
	}
	f.findParents()
	f.cutCircles()
	f.sortChildren()
	return f
}

func (f *forest) findParents() {
	byID := make(map[SpanID]int32, len(f.spans))
	clients := map[int32]int32{} // by the server that shares the client's id
	for i := range f.spans {
		row := int32(i)
		other, taken := byID[f.spans[i].ID]
		if !taken {
			byID[f.spans[i].ID] = row
			continue
		}
		server, client := row, other
		if f.spans[row].Kind == kindClient {
			server, client = other, row
		}
		if f.spans[server].Kind == kindServer && f.spans[client].Kind == kindClient {
			if _, has := clients[server]; !has {
				clients[server] = client
			}
			byID[f.spans[i].ID] = server
		}
	}
	for i := range f.spans {
		f.parent[i] = noSpan
		if client, shared := clients[int32(i)]; shared {
			f.parent[i] = client
		} else if id := f.spans[i].Parent; id != (SpanID{}) {
			if p, ok := byID[id]; ok {
				f.parent[i] = p
			}
		}
	}
}

// cutCircles makes a span of every circle of parents, the one that starts first,
// a root.
func (f *forest) cutCircles() {
	seen := make([]int32, len(f.spans)) // by which walk, from 1
	for i := range f.parent {
		walk := int32(i) + 1
		row := int32(i)
		for row != noSpan && seen[row] == 0 {
			seen[row] = walk
			row = f.parent[row]
		}
		if row == noSpan || seen[row] != walk {
			continue
		}
		earliest := row
		for at := f.parent[row]; at != row; at = f.parent[at] {
			if f.spans[at].Start < f.spans[earliest].Start {
				earliest = at
			}
		}
		f.parent[earliest], f.circle[earliest] = noSpan, true
	}
}

func (f *forest) sortChildren() {
	n := len(f.spans)
	f.first = make([]int32, n+1)
	f.children = make([]int32, 0, n)
	for i, p := range f.parent {
		if p == noSpan {
			f.roots = append(f.roots, int32(i))
		} else {
			f.children = append(f.children, int32(i))
		}
	}
	slices.SortFunc(f.roots, f.byStart)
	slices.SortFunc(f.children, func(a, b int32) int {
		return cmp.Or(cmp.Compare(f.parent[a], f.parent[b]), f.byStart(a, b))
	})
	at := 0
	for p := range n {
		f.first[p] = int32(at)
		for at < len(f.children) && f.parent[f.children[at]] == int32(p) {
			at++
		}
	}
	f.first[n] = int32(at)
}

// byStart orders spans by start, the longer ones first, roots of the trace
// before orphans.
func (f *forest) byStart(a, b int32) int {
	x, y := &f.spans[a], &f.spans[b]
	return cmp.Or(
		cmp.Compare(x.Start, y.Start), orphanRank(x)-orphanRank(y),
		cmp.Compare(y.End, x.End), bytes.Compare(x.ID[:], y.ID[:]), cmp.Compare(a, b),
	)
}

func orphanRank(s *Span) int {
	if s.Parent == (SpanID{}) {
		return 0
	}
	return 1
}

func (f *forest) below(i int32) []int32 { return f.children[f.first[i]:f.first[i+1]] }

// root returns the span that the trace began with: the first without a parent,
// or the first of all if there is none.
func (f *forest) root() (i int32, arrived bool) {
	for _, r := range f.roots {
		if f.spans[r].Parent == (SpanID{}) {
			return r, true
		}
	}
	return f.roots[0], false
}

// row is a line of a waterfall: a span, or alike siblings that are folded.
type row struct {
	spans []int32
	depth int
	// more has a bit for every level, up to the 64th, at which a line goes on
	// below this row.
	more   uint64
	last   bool // of its siblings
	parent bool // has rows below it

	hidden, hiddenErrors int // spans below it that are not shown
}

// Folding.
const (
	foldOver = 100  // spans of a trace above which alike siblings are folded
	foldFrom = 5    // as many siblings
	maxRows  = 1000 // of a waterfall that is folded
)

// rows walks the trees, parents before children; every span is in one row.
func (f *forest) rows(fold bool) []row {
	var rows, stack []row
	push := func(list []row) {
		for i := range slices.Backward(list) {
			list[i].last = i == len(list)-1
			stack = append(stack, list[i])
		}
	}
	push(f.group(f.roots, fold, false))
	var below []int32
	for len(stack) > 0 {
		r := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		below = below[:0]
		for _, s := range r.spans {
			below = append(below, f.below(s)...)
		}
		if len(r.spans) > 1 {
			slices.SortFunc(below, f.byStart)
		}
		r.parent = len(below) > 0
		if !r.last && r.depth < 64 {
			r.more |= 1 << r.depth
		}
		rows = append(rows, r)
		children := f.group(below, fold, len(r.spans) > 1)
		for i := range children {
			children[i].depth, children[i].more = r.depth+1, r.more
		}
		push(children)
	}
	return rows
}

// cut leaves so many rows at most: as many whole levels of the trees as fit, or,
// if not even the first two do, those that come first. The counts of what is
// left out are in the rows above it, or in rest.
func (f *forest) cut(rows []row, most int) (kept []row, rest row) {
	if len(rows) <= most {
		return rows, rest
	}
	var levels []int // rows of each
	for i := range rows {
		if rows[i].depth == len(levels) {
			levels = append(levels, 0)
		}
		levels[rows[i].depth]++
	}
	deepest, sum := 0, levels[0]
	for deepest+1 < len(levels) && sum+levels[deepest+1] <= most {
		deepest++
		sum += levels[deepest]
	}
	byLevel := deepest > 0
	for i := range rows {
		r := &rows[i]
		switch {
		case byLevel && r.depth <= deepest || !byLevel && len(kept) < most:
			kept = append(kept, *r)
		case byLevel:
			f.hide(&kept[len(kept)-1], r) // rows of the deepest level come before what is below
		default:
			f.hide(&rest, r)
		}
	}
	return kept, rest
}

// hide counts the spans of a row below another.
func (f *forest) hide(above, r *row) {
	above.parent = false
	above.hidden += len(r.spans)
	if f.spans[r.spans[0]].Error { // alike ones are all
		above.hiddenErrors += len(r.spans)
	}
}

// alike is what folded siblings have in common.
type alike struct {
	service, name string
	kind          Kind
	failed        bool
}

// group returns a row for every span, or one for alike ones, in the order of
// the first of each. Those below folded rows are folded, however few.
func (f *forest) group(spans []int32, fold, below bool) []row {
	if !fold || len(spans) < foldFrom && !below {
		out := make([]row, len(spans))
		for i := range spans {
			out[i].spans = slices.Clone(spans[i : i+1])
		}
		return out
	}
	sets := make(map[alike][]int32)
	key := func(i int32) alike {
		s := &f.spans[i]
		return alike{s.Service, s.Name, s.Kind, s.Error}
	}
	for _, i := range spans {
		sets[key(i)] = append(sets[key(i)], i)
	}
	var out []row
	for _, i := range spans {
		set := sets[key(i)]
		switch {
		case len(set) < foldFrom && !below:
			out = append(out, row{spans: []int32{i}})
		case set[0] == i:
			out = append(out, row{spans: set})
		}
	}
	return out
}
