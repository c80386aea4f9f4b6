package gen

import (
	"bytes"
	"cmp"
	"slices"
)

// TraceID is the id of a trace.
type TraceID = [16]byte

// SpanFacts remembers of every span of a load what queries ask for, so that
// answers can be compared with what was sent. Fill it with Trace and Span, then
// ask.
type SpanFacts struct {
	spans  []spanFact
	traces []traceFact

	services, names []string
	serviceIndex    map[string]uint16
	nameIndex       map[string]uint16
	traceIndex      map[TraceID]uint32
}

type spanFact struct {
	duration      int64
	trace         uint32
	service, name uint16
	failed        bool
}

type traceFact struct {
	id    TraceID
	start int64 // of its first span
	user  int32 // -1 is none
	root  uint16
	spans uint32
}

// FoundTrace is a trace as facts know it.
type FoundTrace struct {
	ID    TraceID
	Start int64 // of the first span
	Spans int
}

// NewSpanFacts returns facts about nothing.
func NewSpanFacts() *SpanFacts {
	return &SpanFacts{serviceIndex: map[string]uint16{}, nameIndex: map[string]uint16{}, traceIndex: map[TraceID]uint32{}}
}

// Trace returns the number of a trace, a new one if its id is not known.
func (f *SpanFacts) Trace(id TraceID) uint32 {
	t, ok := f.traceIndex[id]
	if !ok {
		t = uint32(len(f.traces))
		f.traceIndex[id] = t
		f.traces = append(f.traces, traceFact{id: id, user: -1})
	}
	return t
}

// SetRoot notes the service of a trace's root and the number of its user; -1 is
// none.
func (f *SpanFacts) SetRoot(trace uint32, service string, user int) {
	t := &f.traces[trace]
	t.root, t.user = intern(&f.services, f.serviceIndex, service), int32(user)
}

// Span adds a span of a trace.
func (f *SpanFacts) Span(trace uint32, service, name string, start, duration int64) {
	t := &f.traces[trace]
	if t.spans == 0 || start < t.start {
		t.start = start
	}
	t.spans++
	f.spans = append(f.spans, spanFact{
		duration: duration, trace: trace,
		service: intern(&f.services, f.serviceIndex, service), name: intern(&f.names, f.nameIndex, name),
	})
}

// Fail notes that the span that was added last has failed.
func (f *SpanFacts) Fail() { f.spans[len(f.spans)-1].failed = true }

func intern(list *[]string, index map[string]uint16, s string) uint16 {
	i, ok := index[s]
	if !ok {
		i = uint16(len(*list))
		index[s] = i
		*list = append(*list, s)
	}
	return i
}

// Len returns the number of spans.
func (f *SpanFacts) Len() int { return len(f.spans) }

// Traces returns the number of traces.
func (f *SpanFacts) Traces() int { return len(f.traces) }

// Services returns the services' names, sorted.
func (f *SpanFacts) Services() []string { return slices.Sorted(slices.Values(f.services)) }

// Counts returns the spans of every service, or those that failed.
func (f *SpanFacts) Counts(failed bool) map[string]int64 {
	counts := make([]int64, len(f.services))
	for i := range f.spans {
		if !failed || f.spans[i].failed {
			counts[f.spans[i].service]++
		}
	}
	out := map[string]int64{}
	for i, n := range counts {
		if n > 0 {
			out[f.services[i]] = n
		}
	}
	return out
}

// Operations returns the names of a service's spans with their numbers.
func (f *SpanFacts) Operations(service string) map[string]int64 {
	s, ok := f.serviceIndex[service]
	counts := make([]int64, len(f.names))
	for i := range f.spans {
		if ok && f.spans[i].service == s {
			counts[f.spans[i].name]++
		}
	}
	out := map[string]int64{}
	for i, n := range counts {
		if n > 0 {
			out[f.names[i]] = n
		}
	}
	return out
}

// CountNames returns how many spans have a name that the function accepts.
func (f *SpanFacts) CountNames(accept func(name string) bool) int64 {
	accepted := make([]bool, len(f.names))
	for i, name := range f.names {
		accepted[i] = accept(name)
	}
	n := int64(0)
	for i := range f.spans {
		if accepted[f.spans[i].name] {
			n++
		}
	}
	return n
}

// Quantile returns the duration that a part q of a service's spans do not
// exceed; 0 if it has none.
func (f *SpanFacts) Quantile(service string, q float64) int64 {
	at, _, _ := f.QuantileAround(service, q, 0)
	return at
}

// QuantileAround returns also the durations so many ranks below and above.
func (f *SpanFacts) QuantileAround(service string, q float64, ranks int) (at, below, above int64) {
	s, ok := f.serviceIndex[service]
	var all []int64
	for i := range f.spans {
		if ok && f.spans[i].service == s {
			all = append(all, f.spans[i].duration)
		}
	}
	if len(all) == 0 {
		return 0, 0, 0
	}
	slices.Sort(all)
	rank := func(i int) int64 { return all[max(0, min(len(all)-1, i))] }
	i := int(q * float64(len(all)))
	return rank(i), rank(i - ranks), rank(i + ranks)
}

// SpanMatch says which spans Newest looks for; what is zero matches all.
type SpanMatch struct {
	Service, Name string
	Failed        bool
	Longer        int64 // than so many nanoseconds
}

// Newest returns the traces that start last of those with a span that matches,
// the last first, at most limit.
func (f *SpanFacts) Newest(m SpanMatch, limit int) []FoundTrace {
	service, ok := f.serviceIndex[m.Service]
	name, named := f.nameIndex[m.Name]
	if m.Service != "" && !ok || m.Name != "" && !named {
		return nil
	}
	var found []uint32
	for i := range f.spans {
		s := &f.spans[i]
		if (m.Service == "" || s.service == service) && (m.Name == "" || s.name == name) && (!m.Failed || s.failed) &&
			(m.Longer == 0 || s.duration > m.Longer) && (len(found) == 0 || found[len(found)-1] != s.trace) {
			found = append(found, s.trace)
		}
	}
	return f.newest(found, limit)
}

// NewestOfUser returns a user's newest traces in the same way, of all services if
// root is empty or of those whose root is of that service.
func (f *SpanFacts) NewestOfUser(user int, root string, limit int) []FoundTrace {
	var found []uint32
	for i := range f.traces {
		if t := &f.traces[i]; t.user == int32(user) && (root == "" || f.services[t.root] == root) {
			found = append(found, uint32(i))
		}
	}
	return f.newest(found, limit)
}

func (f *SpanFacts) newest(found []uint32, limit int) []FoundTrace {
	slices.Sort(found)
	found = slices.Compact(found)
	slices.SortFunc(found, func(a, b uint32) int {
		x, y := &f.traces[a], &f.traces[b]
		return cmp.Or(-cmp.Compare(x.start, y.start), bytes.Compare(x.id[:], y.id[:]))
	})
	out := make([]FoundTrace, 0, min(limit, len(found)))
	for _, t := range found[:min(limit, len(found))] {
		out = append(out, FoundTrace{f.traces[t].id, f.traces[t].start, int(f.traces[t].spans)})
	}
	return out
}

// Samples returns n traces from all over the load.
func (f *SpanFacts) Samples(n int) []FoundTrace {
	n = min(n, len(f.traces))
	out := make([]FoundTrace, 0, n)
	for i := range n {
		t := &f.traces[(2*i+1)*len(f.traces)/(2*n)]
		out = append(out, FoundTrace{t.id, t.start, int(t.spans)})
	}
	return out
}

// Users returns n users with traces of the given root, spread over all of them.
func (f *SpanFacts) Users(n int, root string) []int {
	seen := map[int32]bool{}
	var all []int
	for i := range f.traces {
		if t := &f.traces[i]; t.user >= 0 && !seen[t.user] && f.services[t.root] == root {
			seen[t.user] = true
			all = append(all, int(t.user))
		}
	}
	n = min(n, len(all))
	slices.Sort(all)
	out := make([]int, 0, n)
	for i := range n {
		out = append(out, all[(2*i+1)*len(all)/(2*n)])
	}
	return out
}
