package probe

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cilium/ebpf"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature"
)

// stuck is a feature that counts every collection, and hangs where it is told to.
type stuck struct {
	name string
	desc *prometheus.Desc // of two series, one of its own and one that others may have

	mu     sync.Mutex
	hangs  map[string]chan struct{} // until it is closed; under mu
	calls  map[string]int           // how often it was asked; under mu
	inside int                      // calls under way; under mu
	most   int                      // of them at a time; under mu
	count  uint64                   // under mu
}

func newStuck(name, metric string) *stuck {
	return &stuck{
		name: name, desc: prometheus.NewDesc(metric, "Help.", []string{"of"}, nil),
		hangs: make(map[string]chan struct{}), calls: make(map[string]int),
	}
}

// hang has what it is asked next not return until the function given is called.
func (s *stuck) hang(what string) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := make(chan struct{})
	s.hangs[what] = ch
	return func() {
		s.mu.Lock()
		delete(s.hangs, what)
		s.mu.Unlock()
		close(ch)
	}
}

func (s *stuck) asked(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[what]
}

func (s *stuck) counted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int(s.count)
}

func (s *stuck) enter(what string) (now uint64, leave func()) {
	s.mu.Lock()
	s.calls[what]++
	s.inside++
	s.most = max(s.most, s.inside)
	s.count++
	now, ch := s.count, s.hangs[what]
	s.mu.Unlock()
	if ch != nil {
		<-ch
	}
	return now, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.inside--
	}
}

func (s *stuck) Name() string { return s.name }
func (s *stuck) Ladder() []feature.Rung {
	return []feature.Rung{{Load: func(*feature.Environment) error { return s.did("load") }}}
}
func (s *stuck) did(what string) error {
	_, leave := s.enter(what)
	leave()
	return nil
}
func (s *stuck) Sweep(time.Time)                     { _ = s.did("sweep") }
func (s *stuck) Arrivals() *ebpf.Map                 { return nil }
func (s *stuck) Close() error                        { return s.did("close") }
func (s *stuck) Describe(ch chan<- *prometheus.Desc) { ch <- s.desc }
func (s *stuck) Collect(ch chan<- prometheus.Metric) { _ = s.CollectEdges(ch, nil) }
func (s *stuck) CollectEdges(ch chan<- prometheus.Metric, visit func(*feature.Edge)) error {
	now, leave := s.enter("collect")
	defer leave()
	if visit != nil {
		visit(&feature.Edge{Client: "a", Server: "b", Requests: now})
	}
	ch <- prometheus.MustNewConstMetric(s.desc, prometheus.CounterValue, float64(now), s.name)
	ch <- prometheus.MustNewConstMetric(s.desc, prometheus.CounterValue, float64(now), "both")
	return nil
}

// watching is a probe of these features, what it exports, and what it has logged.
type watching struct {
	*testing.T
	p    *Probe
	reg  *prometheus.Registry
	log  bytes.Buffer
	stop func() error
}

func watchStuck(t *testing.T, features ...feature.Feature) *watching {
	w := &watching{T: t, reg: prometheus.NewPedanticRegistry()}
	c := DefaultConfig()
	c.Features = []string{"http", "tcp"}
	p, err := New(Options{Config: c, Logger: slog.New(slog.NewTextHandler(&w.log, nil))})
	require.NoError(t, err)
	p.features, p.states.of = nil, make(map[string][2]string)
	for _, f := range features {
		p.features = append(p.features, p.newWatched(f))
	}
	w.p = p
	for _, c := range p.Collectors() {
		require.NoError(t, w.reg.Register(c))
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	w.stop = func() error {
		cancel()
		return <-done
	}
	return w
}

// series gives what is exported by now, and how long that took.
func (w *watching) series() (map[string]float64, time.Duration) {
	began := time.Now()
	families, err := w.reg.Gather()
	require.NoError(w, err)
	all := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				if l.GetName() == "of" || l.GetName() == "state" || l.GetName() == "name" || l.GetName() == "reason" && l.GetValue() != "" {
					name += " " + l.GetValue()
				}
			}
			all[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return all, time.Since(began)
}

// has checks what is exported, the graph's histograms and failures aside.
func (w *watching) has(took time.Duration, want map[string]float64) {
	w.Helper()
	all, t := w.series()
	maps.DeleteFunc(all, func(k string, _ float64) bool {
		return strings.HasSuffix(k, "failed_total") || strings.HasSuffix(k, "_client_seconds")
	})
	require.Equal(w, want, all)
	require.Equal(w, took, t)
}

// warned says how often a feature was said to hang, and to be back.
func (w *watching) warned() (hung, back int) {
	return strings.Count(w.log.String(), "does not answer"), strings.Count(w.log.String(), "answers again")
}

// What hangs when it is collected is left out, and nothing else; it is there again with
// the next collection, which has more than what it says at last. Sums that it
// has a part in go on and never fall.
func TestCollectHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newStuck("http", "shared_total"), newStuck("tcp", "shared_total")
		w := watchStuck(t, a, b)
		<-w.p.Started()
		const graph = "traces_service_graph_request_total"
		const hung = "vedette_ebpf_feature http no answer to collect hung"
		good := map[string]float64{"vedette_ebpf_feature http loaded": 1, "vedette_ebpf_feature tcp loaded": 1}
		with := func(base map[string]float64, more map[string]float64) map[string]float64 {
			all := maps.Clone(base)
			maps.Copy(all, more)
			return all
		}
		w.has(0, with(good, map[string]float64{"shared_total http": 2, "shared_total tcp": 2, "shared_total both": 4, graph: 4}))

		release := a.hang("collect")
		bad := map[string]float64{hung: 1, "vedette_ebpf_feature tcp loaded": 1}
		w.has(askWithin, with(bad, map[string]float64{"shared_total tcp": 3, "shared_total both": 5, graph: 5}))
		w.has(0, with(bad, map[string]float64{"shared_total tcp": 4, "shared_total both": 6, graph: 6}))
		require.Equal(t, 2, a.asked("collect"), "it is not asked again")
		b.count = 100
		w.has(0, with(bad, map[string]float64{"shared_total tcp": 101, "shared_total both": 103, graph: 103}))

		release()
		synctest.Wait()
		w.has(0, with(good, map[string]float64{"shared_total http": 4, "shared_total tcp": 102, "shared_total both": 106, graph: 106}))
		hangs, back := w.warned()
		require.Equal(t, []int{1, 1}, []int{hangs, back}, w.log.String())
		require.NoError(t, w.stop())
		require.Equal(t, 1, a.most, "it is asked one thing at a time")
	})
}

// What always takes too long is told once, and its state stays; what it says comes with
// the next collection, unless that is long after.
func TestCollectIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newStuck("http", "slow_total")
		w := watchStuck(t, a)
		<-w.p.Started()
		last := 0
		for round := range 4 {
			release := a.hang("collect")
			all, took := w.series()
			require.Equal(t, askWithin, took)
			why := "no answer to collect"
			if round == 1 || round == 2 {
				why = "late answer to collect"
				require.EqualValues(t, last, all["slow_total http"])
				require.EqualValues(t, last, all["traces_service_graph_request_total"])
				again, took := w.series() // somebody else's
				require.Zero(t, took)
				require.Equal(t, all, again)
			} else {
				require.NotContains(t, all, "slow_total http")
			}
			last = a.counted()
			release()
			synctest.Wait()
			state, reason := w.p.Feature("http")
			require.Equal(t, []string{"hung", why}, []string{string(state), reason})
			if round == 2 {
				time.Sleep(keepLate)
			}
		}
		all, took := w.series()
		require.Zero(t, took)
		require.Greater(t, all["slow_total http"], float64(last))
		state, _ := w.p.Feature("http")
		require.Equal(t, feature.Loaded, state)
		hangs, back := w.warned()
		require.Equal(t, []int{1, 1}, []int{hangs, back}, w.log.String())
		require.NoError(t, w.stop())
	})
}

// One that hangs while it forgets what is gone is left out of collections, too, and
// the others are swept on time.
func TestSweepHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newStuck("http", "a_total"), newStuck("tcp", "b_total")
		w := watchStuck(t, a, b)
		<-w.p.Started()
		release := a.hang("sweep")
		time.Sleep(sweepEvery + askTurn)
		synctest.Wait()
		require.Equal(t, 1, b.asked("sweep"))
		time.Sleep(3 * sweepEvery)
		require.Equal(t, []int{1, 4}, []int{a.asked("sweep"), b.asked("sweep")})
		all, took := w.series()
		require.Zero(t, took)
		require.NotContains(t, all, "a_total http")
		require.Contains(t, all, "b_total tcp")
		require.Contains(t, all, "vedette_ebpf_feature http no answer to sweep hung")
		release()
		time.Sleep(sweepEvery)
		synctest.Wait()
		all, _ = w.series()
		require.Contains(t, all, "a_total http")
		require.Contains(t, all, "vedette_ebpf_feature http loaded")
		hangs, back := w.warned()
		require.Equal(t, []int{1, 1}, []int{hangs, back}, w.log.String())
		require.NoError(t, w.stop())
		require.Equal(t, 1, a.most)
	})
}

// One that hangs while it is loaded holds up no other, and is there when it is
// loaded at last.
func TestLoadHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newStuck("http", "a_total"), newStuck("tcp", "b_total")
		release := a.hang("load")
		began := time.Now()
		w := watchStuck(t, a, b)
		time.Sleep(loadTurn)
		synctest.Wait()
		all, took := w.series()
		require.Zero(t, took)
		require.Contains(t, all, "b_total tcp")
		<-w.p.Started()
		require.Equal(t, loadWithin, time.Since(began))
		all, _ = w.series()
		require.NotContains(t, all, "a_total http")
		require.Contains(t, all, "vedette_ebpf_feature http no answer to load hung")
		release()
		synctest.Wait()
		all, _ = w.series()
		require.Contains(t, all, "a_total http")
		require.Contains(t, all, "vedette_ebpf_feature http loaded")
		require.NoError(t, w.stop())
		require.Equal(t, []int{1, 1}, []int{a.asked("close"), b.asked("close")})
	})
}

// The end does not wait for ever, whatever hangs, and what is let go afterwards is
// detached then.
func TestEndHangs(t *testing.T) {
	for _, what := range []string{"load", "collect", "close"} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := newStuck("http", "a_total"), newStuck("tcp", "b_total")
				release := a.hang(what)
				w := watchStuck(t, a, b)
				synctest.Wait()
				if what == "collect" {
					w.series()
				}
				began := time.Now()
				require.EqualError(t, w.stop(), fmt.Sprintf("detach eBPF feature http: %s has not returned within %s", what, endWithin))
				require.Equal(t, endWithin, time.Since(began))
				if what != "load" {
					require.Equal(t, 1, b.asked("close"))
				}
				state, reason := w.p.Feature("http")
				require.Equal(t, []string{"hung", "no end of " + what}, []string{string(state), reason})
				release()
				synctest.Wait()
				require.Equal(t, []int{1, 1}, []int{a.asked("close"), a.most})
				state, _ = w.p.Feature("http")
				require.Equal(t, feature.Off, state)
			})
		})
	}
}

// One whose own work does not end leaves the others the time to be detached.
func TestServeHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newStuck("http", "a_total"), newStuck("tcp", "b_total")
		release := make(chan struct{})
		w := watchStuck(t, &serves{a, release}, b)
		<-w.p.Started()
		require.EqualError(t, w.stop(), fmt.Sprintf("detach eBPF feature http: run has not returned within %s", endWithin))
		require.Equal(t, 1, b.asked("close"))
		close(release)
		synctest.Wait()
		require.Equal(t, 1, a.asked("close"))
	})
}

// serves has work of its own, until it is closed.
type serves struct {
	*stuck
	until chan struct{}
}

func (s *serves) Run(context.Context) error {
	<-s.until
	return nil
}

// Requests without a response are asked for with the same bound.
func TestOpenHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &opens{hang: make(chan struct{})}
		one := &opener{Opener: o, caller: newCaller("http", newStates(), slog.New(slog.DiscardHandler)), lost: 7}
		lost, err := one.Open(func(*feature.Call) { t.Error("visited") })
		require.Error(t, err)
		require.EqualValues(t, 7, lost)
		close(o.hang)
		synctest.Wait()
		var seen []string
		lost, err = one.Open(func(c *feature.Call) { seen = append(seen, c.Traceparent) })
		require.NoError(t, err)
		require.EqualValues(t, 9, lost)
		require.Equal(t, []string{"x", "y"}, seen)
	})
}

// opens has two open requests, told when hang is closed.
type opens struct{ hang chan struct{} }

func (o *opens) Open(visit func(*feature.Call)) (uint64, error) {
	<-o.hang
	c := new(feature.Call)
	for _, c.Traceparent = range []string{"x", "y"} {
		visit(c)
	}
	return 9, nil
}
