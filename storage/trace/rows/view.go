package rows

import (
	"sync"
	"sync/atomic"

	"github.com/vedette-io/vedette/internal/signal"
)

// indexAfter is how many searches a view does group by group before it makes an
// index of its traces.
const indexAfter = 16

// TableView is a table at one moment. It is a Source, and does not change.
type TableView struct {
	sp     *Space
	groups []*Group
	mem    []*memGroup

	searches atomic.Int32
	once     sync.Once
	runs     map[signal.TraceID]viewRun // of the first run of every trace
	more     []viewRun                  // further runs
}

// viewRun is rows [first:end) of a group. next is the index in more of the
// trace's next run, or -1.
type viewRun struct {
	group, first, end uint32
	next              int32
}

func newView(sp *Space, mem []*memGroup) *TableView {
	v := &TableView{sp: sp, mem: mem[:len(mem):len(mem)], groups: make([]*Group, len(mem))}
	groups, data := make([]Group, len(mem)), make([]viewGroup, len(mem))
	for i, m := range mem {
		data[i] = viewGroup{memGroup: m, sp: sp}
		groups[i] = Group{info: m.info, data: &data[i]}
		v.groups[i] = &groups[i]
	}
	return v
}

// Space returns what indexes in the view's groups mean.
func (v *TableView) Space() (*Space, error) { return v.sp, nil }

// Groups returns the groups in order of arrival. They must not be changed.
func (v *TableView) Groups() []*Group { return v.groups }

// FindTrace appends the runs of a trace to dst, in order of arrival.
func (v *TableView) FindTrace(id signal.TraceID, dst []Run) ([]Run, error) {
	if v.searches.Add(1) <= indexAfter {
		for i, m := range v.mem {
			if first, end, ok := m.findTrace(id); ok {
				dst = append(dst, Run{Group: v.groups[i], First: first, End: end})
			}
		}
		return dst, nil
	}
	v.once.Do(v.index)
	r, ok := v.runs[id]
	for ok {
		dst = append(dst, Run{Group: v.groups[r.group], First: int(r.first), End: int(r.end)})
		if r.next < 0 {
			break
		}
		r = v.more[r.next]
	}
	return dst, nil
}

func (v *TableView) index() {
	n := 0
	for _, m := range v.mem {
		n = max(n, m.info.Traces)
	}
	v.runs = make(map[signal.TraceID]viewRun, n)
	for i := len(v.mem) - 1; i >= 0; i-- {
		m := v.mem[i]
		rows := m.traceRows()
		for t, id := range m.tids() {
			r := viewRun{group: uint32(i), first: rows[t], end: rows[t+1], next: -1}
			if later, ok := v.runs[id]; ok {
				r.next = int32(len(v.more))
				v.more = append(v.more, later)
			}
			v.runs[id] = r
		}
	}
}
