package traces

import (
	"math"

	"github.com/vedette-io/vedette/query/traceql"
	"github.com/vedette-io/vedette/storage/trace/rows"
)

const kindServer = 2

// ofTrace reports whether columns say a field of regular traces, though not of
// single rows.
func ofTrace(a traceql.Attribute) bool {
	switch a.Intrinsic {
	case traceql.IntrinsicTraceDuration, traceql.IntrinsicRootName, traceql.IntrinsicRootService:
		return !a.Parent
	}
	return false
}

// rootOnly reports whether a comparison of nestedSetParent only tells spans
// without parent, of which it is -1, from the others; and whether it holds for
// either.
func rootOnly(f *traceql.Field, m *matcher) (root, other, ok bool) {
	if f == nil || f.Intrinsic != traceql.IntrinsicNestedSetParent || f.Parent {
		return false, false, false
	}
	lo, hi, isNumber := m.ints()
	if !isNumber {
		return false, false, false
	}
	everyOther := lo <= 0 && hi >= math.MaxInt32
	noOther := lo > hi || hi < 0 || lo > math.MaxInt32
	return m.one(traceql.Int(-1)), m.one(traceql.Int(0)), everyOther || noOther
}

// rootPred holds for spans without parent, or for the others, or both.
type rootPred struct{ root, other bool }

func (p *rootPred) prune(*worker) verdict { return some }

func (p *rootPred) cost() int { return costColumn }

func (p *rootPred) eval(w *worker, dst bitmap) error {
	parents, err := w.cur.Parents()
	if err != nil {
		return err
	}
	for row, parent := range parents {
		if root := parent == rows.ParentNone; root && p.root || !root && p.other {
			dst.set(row)
		}
	}
	if !w.local {
		return nil
	}
	return w.sharedRoots(parents)
}

// sharedRoots marks traces irregular whose root is a server's span with the id of
// another: it may be below its client's, as Zipkin's older model has it.
func (w *worker) sharedRoots(parents []int32) error {
	begins, err := w.cur.TraceRows()
	if err != nil {
		return err
	}
	shapes, err := w.cur.Shapes()
	if err != nil {
		return err
	}
	ids, err := w.cur.SpanIDs()
	if err != nil {
		return err
	}
	for t := range w.info.Traces {
		first, end := begins[t], begins[t+1]
		for row := first; row < end; row++ {
			if parents[row] != rows.ParentNone || w.space.sp.Shapes[shapes[row]].Kind != kindServer {
				continue
			}
			for other := first; other < end; other++ {
				if other != row && ids[other] == ids[row] {
					w.markIrregular(first, end)
				}
			}
		}
	}
	return nil
}

// tracePred compares a value of the trace; it is right of regular ones.
type tracePred struct {
	intrinsic traceql.Intrinsic
	m         matcher
}

func (p *tracePred) prune(*worker) verdict { return some }

func (p *tracePred) cost() int { return costRead }

func (p *tracePred) eval(w *worker, dst bitmap) error {
	begins, err := w.cur.TraceRows()
	if err != nil {
		return err
	}
	value := w.traceDuration
	if p.intrinsic != traceql.IntrinsicTraceDuration {
		value = w.rootValue
	}
	for t := range w.info.Traces {
		v, err := value(p.intrinsic, begins[t], begins[t+1])
		if err != nil {
			return err
		}
		if p.m.one(v) {
			for row := begins[t]; row < begins[t+1]; row++ {
				dst.set(int(row))
			}
		}
	}
	return nil
}

func (w *worker) traceDuration(_ traceql.Intrinsic, first, end uint32) (traceql.Static, error) {
	starts, err := w.cur.Starts()
	if err != nil {
		return traceql.Static{}, err
	}
	durations, err := w.cur.Durations()
	if err != nil {
		return traceql.Static{}, err
	}
	begin, last := starts[first], int64(0)
	for row := first; row < end; row++ {
		begin = min(begin, starts[row])
		last = max(last, starts[row], starts[row]+durations[row])
	}
	return traceql.Duration(last - begin), nil
}

// rootValue returns the name or service of the first span without parent.
func (w *worker) rootValue(i traceql.Intrinsic, first, end uint32) (traceql.Static, error) {
	parents, err := w.cur.Parents()
	if err != nil {
		return traceql.Static{}, err
	}
	starts, err := w.cur.Starts()
	if err != nil {
		return traceql.Static{}, err
	}
	root := -1
	for row := first; row < end; row++ {
		if parents[row] != rows.ParentNone {
			continue
		}
		if root < 0 {
			root = int(row)
		} else if starts[row] == starts[root] {
			w.markIrregular(first, end) // which is first is seen from the whole
		}
	}
	if root < 0 {
		return traceql.Static{}, nil
	}
	if i == traceql.IntrinsicRootName {
		shapes, err := w.cur.Shapes()
		if err != nil {
			return traceql.Static{}, err
		}
		return traceql.String(w.space.sp.Shapes[shapes[root]].Name), nil
	}
	resources, err := w.cur.Resources()
	if err != nil {
		return traceql.Static{}, err
	}
	v, _ := findAttribute(w.space.sp.Resources[resources[root]].Attrs, "service.name")
	return v.static(), nil
}
