package traceql

import (
	"cmp"
	"slices"
	"strings"

	"github.com/vedette-io/vedette/internal/signal"
)

const (
	kindServer = 2
	kindClient = 3

	statusError = 2
)

// noRow stands for no span.
const noRow = -1

// Trace is all spans of one trace, prepared for evaluation: spans are rows of
// Spans. What looks at the tree is computed when it is first needed, in time in
// proportion to the spans.
//
// The tree holds every span, whatever a sender did: a span whose parent is not
// there (an orphan), is itself, or would close a circle begins a tree of its
// own. If spans have the same id, as client and server share one in Zipkin's
// older model, the server's is a child of the client's and spans below name the
// server's; else the first row with an id is what spans below name.
type Trace struct {
	Spans *signal.Spans

	Start, End int64 // of all spans, unix nanoseconds
	Root       int   // first row without parent, by start; -1 if there is none

	built      bool
	parent     []int32
	first      []int32 // row of the first child
	next       []int32 // row of the next child of the parent
	children   []int32 // number of them
	order      []int32 // rows, parents before children
	left       []int32
	right      []int32
	sibling    []int32 // same for spans that share a parent, -1 for others
	siblingLen int     // numbers that sibling has
	byID       map[signal.SpanID]int32
}

// Reset makes t the trace of all spans in s, which must not change while t is
// used.
func (t *Trace) Reset(s *signal.Spans) {
	t.Spans, t.built, t.Root = s, false, noRow
	t.Start, t.End = 0, 0
	for i := range s.Len() {
		if i == 0 || s.Starts[i] < t.Start {
			t.Start = s.Starts[i]
		}
		t.End = max(t.End, s.Starts[i], s.Ends[i])
		if s.Parents[i].IsZero() && (t.Root == noRow || s.Starts[i] < s.Starts[t.Root]) {
			t.Root = i
		}
	}
}

// Duration returns the time from the first start to the last end.
func (t *Trace) Duration() int64 { return t.End - t.Start }

// Len returns the number of spans.
func (t *Trace) Len() int { return t.Spans.Len() }

// Parent returns the row of a span's parent in the tree, -1 if it has none.
func (t *Trace) Parent(row int) int {
	t.build()
	return int(t.parent[row])
}

// NestedSet returns the numbers that a walk down and up the tree gives a span:
// those below it have numbers between. The parent's left one is -1 of a root and
// 0 of a span whose parent is not there.
func (t *Trace) NestedSet(row int) (left, right, parent int) {
	t.build()
	left, right, parent = int(t.left[row]), int(t.right[row]), 0
	if p := t.parent[row]; p != noRow {
		parent = int(t.left[p])
	} else if t.Spans.Parents[row].IsZero() {
		parent = -1
	}
	return left, right, parent
}

func (t *Trace) build() {
	if t.built {
		return
	}
	t.built = true
	n := t.Len()
	for _, s := range []*[]int32{&t.parent, &t.first, &t.next, &t.children, &t.left, &t.right, &t.sibling} {
		*s = slices.Grow((*s)[:0], n)[:n]
	}
	t.findParents()
	t.cutCircles()
	for i := range n {
		t.first[i], t.next[i], t.children[i] = noRow, noRow, 0
	}
	for i := n - 1; i >= 0; i-- {
		if p := t.parent[i]; p != noRow {
			t.next[i] = t.first[p]
			t.first[p] = int32(i)
			t.children[p]++
		}
	}
	t.number()
	t.findSiblings()
}

// findParents fills parent by id.
func (t *Trace) findParents() {
	s := t.Spans
	if t.byID == nil {
		t.byID = make(map[signal.SpanID]int32, t.Len())
	}
	clear(t.byID)
	var clients map[int32]int32 // row of the client, by row of the server that shares its id
	for i := range s.Len() {
		row := int32(i)
		other, taken := t.byID[s.SpanIDs[i]]
		if !taken {
			t.byID[s.SpanIDs[i]] = row
			continue
		}
		server, client := row, other
		if s.Kinds[row] == kindClient {
			server, client = other, row
		}
		if s.Kinds[server] != kindServer || s.Kinds[client] != kindClient {
			continue
		}
		if clients == nil {
			clients = map[int32]int32{}
		}
		if _, has := clients[server]; !has {
			clients[server] = client
		}
		t.byID[s.SpanIDs[i]] = server
	}
	for i := range s.Len() {
		row := int32(i)
		t.parent[i] = noRow
		if client, shared := clients[row]; shared {
			t.parent[i] = client
		} else if !s.Parents[i].IsZero() {
			if p, ok := t.byID[s.Parents[i]]; ok && p != row {
				t.parent[i] = p
			}
		}
	}
}

// cutCircles makes one span of every circle of parents a tree of its own.
func (t *Trace) cutCircles() {
	seen := t.left // by the row from which a walk up came, from 1
	clear(seen)
	for i := range t.parent {
		walk := int32(i) + 1
		for row := int32(i); row != noRow; row = t.parent[row] {
			if seen[row] == walk {
				t.parent[row] = noRow
			}
			if seen[row] != 0 {
				break
			}
			seen[row] = walk
		}
	}
}

// number walks down and up all trees.
func (t *Trace) number() {
	t.order = t.order[:0]
	count := int32(0)
	for i := range t.parent {
		root := int32(i)
		if t.parent[root] != noRow {
			continue
		}
		for row := root; row != noRow; {
			count++
			t.left[row] = count
			t.order = append(t.order, row)
			if t.first[row] != noRow {
				row = t.first[row]
				continue
			}
			row = t.ascend(root, row, &count)
		}
	}
}

// ascend leaves row and the parents of which it is the last child, and returns
// the next row to visit.
func (t *Trace) ascend(root, row int32, count *int32) int32 {
	for {
		*count++
		t.right[row] = *count
		if row == root {
			return noRow
		}
		if t.next[row] != noRow {
			return t.next[row]
		}
		row = t.parent[row]
	}
}

// findSiblings numbers the spans that share a parent: by its row, and beyond the
// rows by its id if it is not there.
func (t *Trace) findSiblings() {
	t.siblingLen = t.Len()
	var missing map[signal.SpanID]int32
	for i, p := range t.parent {
		id := t.Spans.Parents[i]
		t.sibling[i] = p
		if p != noRow || id.IsZero() {
			continue
		}
		if _, there := t.byID[id]; there {
			continue // its own parent, or cut from a circle
		}
		group, ok := missing[id]
		if !ok {
			if missing == nil {
				missing = map[signal.SpanID]int32{}
			}
			group = int32(t.siblingLen)
			missing[id] = group
			t.siblingLen++
		}
		t.sibling[i] = group
	}
}

// resource returns the resource of a span.
func (t *Trace) resource(row int) *signal.Resource {
	s := t.Spans
	return &s.Resources[s.Scopes[s.Scope[row]].Resource]
}

// service returns the service's name of a span, empty if it has none.
func (t *Trace) service(row int) []byte {
	r := t.resource(row)
	a, ok := findAttr(t.Spans, t.Spans.Attrs[r.AttrBegin:r.AttrEnd], "service.name")
	if !ok || a.Type != signal.AttrString {
		return nil
	}
	return t.Spans.Bytes(a.Range())
}

func findAttr(s *signal.Spans, attrs []signal.Attr, name string) (signal.Attr, bool) {
	for _, a := range attrs {
		if int(a.Key.Len) == len(name) && string(s.Bytes(a.Key)) == name {
			return a, true
		}
	}
	return signal.Attr{}, false
}

// Summary returns what an answer says of the whole trace; Spansets are left to
// the caller.
func (t *Trace) Summary() TraceSummary {
	s := t.Spans
	sum := TraceSummary{Start: t.Start, Duration: t.Duration(), Spans: s.Len()}
	if s.Len() > 0 {
		sum.ID = s.TraceIDs[0]
	}
	if t.Root != noRow {
		sum.RootName = string(s.Bytes(s.Names[t.Root]))
		sum.RootService = string(t.service(t.Root))
	}
	index := map[string]int{}
	for i := range s.Len() {
		service := t.service(i)
		at, ok := index[string(service)]
		if !ok {
			at = len(sum.Services)
			name := string(service)
			index[name] = at
			sum.Services = append(sum.Services, ServiceSummary{Service: name})
		}
		sum.Services[at].Spans++
		if s.Statuses[i] == statusError {
			sum.Services[at].Errors++
			sum.Errors++
		}
	}
	slices.SortFunc(sum.Services, func(a, b ServiceSummary) int { return strings.Compare(a.Service, b.Service) })
	return sum
}

// SpanMatch returns a span as an answer shows it, with the values of some
// attributes; those that it has not are left out.
func (t *Trace) SpanMatch(row int, attrs []Attribute) SpanMatch {
	s := t.Spans
	m := SpanMatch{
		ID: s.SpanIDs[row], Name: string(s.Bytes(s.Names[row])), Service: string(t.service(row)),
		Start: s.Starts[row], Duration: s.Duration(row),
	}
	for _, a := range attrs {
		if v := t.Value(a, row); !v.IsNil() {
			m.Attrs = append(m.Attrs, KeyValue{Key: a.ShortName(), Value: v})
		}
	}
	return m
}

// SortRows sorts rows by start, then id, as answers show them.
func (t *Trace) SortRows(rows []int32) {
	s := t.Spans
	slices.SortFunc(rows, func(a, b int32) int {
		if c := cmp.Compare(s.Starts[a], s.Starts[b]); c != 0 {
			return c
		}
		return slices.Compare(s.SpanIDs[a][:], s.SpanIDs[b][:])
	})
}
