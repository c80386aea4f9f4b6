package tempo

import (
	"net/url"
	"strconv"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/query/traceapi"
	"github.com/vedette-io/vedette/query/traceql"
)

// spanFilter chooses spans of a trace; nil chooses all.
type spanFilter struct {
	pipeline  *traceql.Pipeline
	ancestors bool // of the spans that match come with them
}

// newSpanFilter reads the parameters q, one spanset filter, and keep_hierarchy.
func newSpanFilter(q url.Values) (*spanFilter, error) {
	text := q.Get("q")
	if text == "" {
		return nil, nil
	}
	query, err := traceql.Parse(text)
	if err != nil {
		return nil, err
	}
	if query.Metrics == nil && len(query.Pipeline.Stages) == 1 {
		if _, ok := query.Pipeline.Stages[0].(*traceql.Filter); ok {
			f := &spanFilter{pipeline: query.Pipeline, ancestors: true}
			if keep := q.Get("keep_hierarchy"); keep != "" {
				if f.ancestors, err = strconv.ParseBool(keep); err != nil {
					return nil, traceapi.BadRequest("invalid keep_hierarchy: got %q, want true or false", keep)
				}
			}
			return f, nil
		}
	}
	return nil, traceapi.BadRequest("invalid q: want a single spanset filter such as { status = error }")
}

// rows returns the rows of the spans that are chosen, ascending.
func (f *spanFilter) rows(s *signal.Spans) []uint32 {
	rows := make([]uint32, 0, s.Len())
	if f == nil {
		for i := range s.Len() {
			rows = append(rows, uint32(i))
		}
		return rows
	}
	var t traceql.Trace
	t.Reset(s)
	keep := make([]bool, s.Len())
	for _, set := range traceql.NewEvaluator(f.pipeline).Eval(&t) {
		for _, row := range set.Rows {
			for at := int(row); at >= 0 && !keep[at]; at = t.Parent(at) {
				keep[at] = true
				if !f.ancestors {
					break
				}
			}
		}
	}
	for i, k := range keep {
		if k {
			rows = append(rows, uint32(i))
		}
	}
	return rows
}
