package profile

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/pprof/profile"

	"github.com/vedette-io/vedette/ebpf/profile/symbol"
)

// Query says which samples are wanted.
type Query struct {
	// Service whose samples are wanted; "" is all services.
	Service string
	// From and To are the bounds of time. Intervals that overlap with it are in
	// the answer as a whole; a zero time is no bound.
	From, To time.Time
	// PerProcess tells the processes of a service apart.
	PerProcess bool
}

// Node is one frame of a flame graph and all that was called from it.
type Node struct {
	// Name of the function.
	Name string `json:"name"`
	// Value is the processor time in it and in what it called, in nanoseconds.
	Value int64 `json:"value"`
	// Self is the part of Value that is in it alone.
	Self int64 `json:"self"`
	// Children are what it called, by name.
	Children []*Node `json:"children,omitempty"`
}

// Service is what has samples.
type Service struct {
	// Name of the service.
	Name string `json:"name"`
	// Samples of it that are held.
	Samples uint64 `json:"samples"`
	// Seconds of processor time that the samples stand for.
	Seconds float64 `json:"seconds"`
}

// period is the time that a sample stands for.
func (f *Feature) period() time.Duration { return time.Second / time.Duration(f.config.Frequency) }

// ask reads what the kernel has and gives what q wants.
func (f *Feature) ask(q Query) (*view, error) {
	if err := f.drain(); err != nil {
		return nil, err
	}
	return f.store.view(q.Service, q.From, q.To), nil
}

// Services lists the services with samples, those with most first.
func (f *Feature) Services(q Query) ([]Service, error) {
	v, err := f.ask(q)
	if err != nil {
		return nil, err
	}
	sums := make(map[string]uint64)
	for p, n := range v.counts {
		sums[v.sources[p.source].Service] += n
	}
	all := make([]Service, 0, len(sums))
	for name, n := range sums {
		all = append(all, Service{name, n, float64(n) * f.period().Seconds()})
	}
	slices.SortFunc(all, func(a, b Service) int { return cmp.Or(cmp.Compare(b.Samples, a.Samples), cmp.Compare(a.Name, b.Name)) })
	return all, nil
}

// Folded writes one line for each stack: the service, where asked for its process,
// the frames from the outermost on, a space and the number of samples. Functions
// of the kernel end in _[k].
func (f *Feature) Folded(w io.Writer, q Query) error {
	v, err := f.ask(q)
	if err != nil {
		return err
	}
	b := bufio.NewWriter(w)
	var path []string
	var walk func(n *tree) error
	walk = func(n *tree) error {
		path = append(path, n.name)
		defer func() { path = path[:len(path)-1] }()
		if n.self > 0 {
			if _, err := fmt.Fprintf(b, "%s %d\n", strings.Join(path, ";"), n.self); err != nil {
				return err
			}
		}
		for _, c := range n.sorted() {
			if err := walk(c); err != nil {
				return err
			}
		}
		return nil
	}
	for _, c := range v.tree(q.PerProcess).sorted() {
		if err := walk(c); err != nil {
			return fmt.Errorf("write folded stacks: %w", err)
		}
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("write folded stacks: %w", err)
	}
	return nil
}

// Flamegraph gives the samples as a tree, whose first level are the services.
func (f *Feature) Flamegraph(q Query) (*Node, error) {
	v, err := f.ask(q)
	if err != nil {
		return nil, err
	}
	return v.tree(q.PerProcess).render(int64(f.period())), nil
}

// tree is a flame graph while it is added up.
type tree struct {
	name        string
	self, total uint64
	children    map[string]*tree
}

func (t *tree) child(name string) *tree {
	c := t.children[name]
	if c == nil {
		c = &tree{name: name}
		if t.children == nil {
			t.children = make(map[string]*tree)
		}
		t.children[name] = c
	}
	return c
}

func (t *tree) sorted() []*tree {
	return slices.SortedFunc(maps.Values(t.children), func(a, b *tree) int { return strings.Compare(a.name, b.name) })
}

func (t *tree) render(unit int64) *Node {
	n := &Node{Name: t.name, Value: int64(t.total) * unit, Self: int64(t.self) * unit}
	for _, c := range t.sorted() {
		n.Children = append(n.Children, c.render(unit))
	}
	return n
}

// kernelMark is how flame graphs tell the kernel's functions.
const kernelMark = "_[k]"

// tree adds up a view.
func (v *view) tree(perProcess bool) *tree {
	root := &tree{name: "all"}
	for p, n := range v.counts {
		s := v.sources[p.source]
		at := root.child(symbol.Clean(s.Service))
		root.total += n
		at.total += n
		if perProcess {
			at = at.child("pid " + strconv.FormatUint(uint64(s.pid), 10))
			at.total += n
		}
		for _, id := range v.path(p.node) {
			frame := v.frames[id]
			name := frame.Name
			if frame.Object == "kernel" {
				name += kernelMark
			}
			at = at.child(name)
			at.total += n
		}
		at.self += n
	}
	return root
}

// path gives the frames that lead to a node, the outermost first.
func (v *view) path(id uint32) []uint32 {
	var frames []uint32
	for ; id != 0; id = v.nodes[id].parent {
		frames = append(frames, v.nodes[id].frame)
	}
	slices.Reverse(frames)
	return frames
}

// Pprof writes the samples as a compressed profile.proto, for go tool pprof and
// what else reads it. Samples have the labels service, namespace, executable,
// container, container_name, pod and pid, as far as they are known.
func (f *Feature) Pprof(w io.Writer, q Query) error {
	v, err := f.ask(q)
	if err != nil {
		return err
	}
	period := int64(f.period())
	p := &profile.Profile{
		SampleType:        []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		DefaultSampleType: "cpu",
		PeriodType:        &profile.ValueType{Type: "cpu", Unit: "nanoseconds"},
		Period:            period,
	}
	if !v.from.IsZero() {
		p.TimeNanos, p.DurationNanos = v.from.UnixNano(), int64(v.to.Sub(v.from))
	}
	locations := make(map[uint32]*profile.Location)
	location := func(id uint32) *profile.Location {
		l := locations[id]
		if l == nil {
			frame := v.frames[id]
			fn := &profile.Function{ID: uint64(len(p.Function) + 1), Name: frame.Name, SystemName: frame.Name, Filename: frame.Object}
			l = &profile.Location{ID: fn.ID, Line: []profile.Line{{Function: fn}}}
			p.Function, p.Location = append(p.Function, fn), append(p.Location, l)
			locations[id] = l
		}
		return l
	}
	places := slices.SortedFunc(maps.Keys(v.counts), func(a, b place) int {
		return cmp.Or(cmp.Compare(a.source, b.source), cmp.Compare(a.node, b.node))
	})
	for _, at := range places {
		n := int64(v.counts[at])
		s := &profile.Sample{Value: []int64{n, n * period}, Label: v.sources[at.source].labels()}
		if pid := v.sources[at.source].pid; pid != 0 {
			s.NumLabel = map[string][]int64{"pid": {int64(pid)}}
		}
		for id := at.node; id != 0; id = v.nodes[id].parent {
			s.Location = append(s.Location, location(v.nodes[id].frame))
		}
		p.Sample = append(p.Sample, s)
	}
	if err := p.CheckValid(); err != nil {
		return fmt.Errorf("make a pprof profile: %w", err)
	}
	if err := p.Write(w); err != nil {
		return fmt.Errorf("write a pprof profile: %w", err)
	}
	return nil
}

func (s source) labels() map[string][]string {
	l := make(map[string][]string)
	for name, v := range map[string]string{
		"service": s.Service, "namespace": s.Namespace, "executable": s.Executable,
		"container": s.ContainerID, "container_name": s.ContainerName, "pod": s.Pod,
	} {
		if v != "" {
			l[name] = []string{v}
		}
	}
	return l
}
