package container

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	askTimeout = 3 * time.Second // of a request
	askAgain   = time.Minute     // labels of pods and names of containers may change
	settling   = 30 * time.Second
	maxText    = 1 << 10 // of a label's value
)

// meta is what an engine knows about a container, or about a pod.
type meta struct {
	Name, Image               string
	Container, Pod, Namespace string
	Workload, Service         string // see identity.Names
	Labels                    map[string]string
	known                     bool
}

// merge takes from m what other does not have.
func (m meta) merge(other meta) meta {
	for _, f := range []struct{ to, from *string }{
		{&other.Name, &m.Name}, {&other.Image, &m.Image},
		{&other.Container, &m.Container}, {&other.Pod, &m.Pod}, {&other.Namespace, &m.Namespace},
		{&other.Workload, &m.Workload}, {&other.Service, &m.Service},
	} {
		if *f.to == "" {
			*f.to = *f.from
		}
	}
	if len(m.Labels) > 0 {
		labels := maps.Clone(m.Labels)
		maps.Copy(labels, other.Labels)
		other.Labels = labels
	}
	other.known = true
	return other
}

// catalog is what all engines together know. It does not change.
type catalog struct {
	containers map[string]meta      // by id
	pods       map[string]meta      // by uid
	asked      map[string]time.Time // see question.ids; nil in an answer
	podless    bool                 // nobody is there who knows pods
}

// of returns what is known about a cgroup.
func (k *catalog) of(g *cgroup) meta {
	id := ""
	if g.kind == kindContainer {
		id = g.id
	}
	return k.find(id, g.podUID)
}

// find returns what is known about a container, a pod, or both.
func (k *catalog) find(id, podUID string) meta {
	var m meta
	if pod, ok := k.pods[podUID]; ok && podUID != "" {
		m = meta{Pod: pod.Pod, Namespace: pod.Namespace, Workload: pod.Workload, Service: pod.Service, known: true}
	}
	if own, ok := k.containers[id]; ok && id != "" {
		m = m.merge(own)
	}
	return m
}

// question is what sources are asked.
type question struct {
	groups []*cgroup
	ids    map[string]time.Time // of the containers among them; when they were first asked for
	labels []string             // of which the values are wanted
}

// catalog returns an empty one for an answer.
func (q *question) catalog() *catalog {
	return &catalog{containers: map[string]meta{}, pods: map[string]meta{}}
}

// add adds what is known about a container to an answer, if it was asked for.
func (q *question) add(k *catalog, id string, m meta) {
	if _, wanted := q.ids[id]; wanted {
		m.Labels = q.pick(m.Labels)
		k.containers[id] = k.containers[id].merge(m)
	}
}

// pick returns the labels that are wanted. Of a label that is too long the beginning
// is kept.
func (q *question) pick(labels map[string]string) map[string]string {
	var picked map[string]string
	for _, l := range q.labels {
		v, ok := labels[l]
		if !ok {
			continue
		}
		if picked == nil {
			picked = map[string]string{}
		}
		if len(v) > maxText {
			v = strings.Clone(v[:maxText])
		}
		picked[l] = v
	}
	return picked
}

// source is an engine that knows names. errAbsent says that it is not there.
type source interface {
	name() string
	ask(ctx context.Context, q *question) (*catalog, error)
}

var errAbsent = errors.New("not there")

// absent tells whether an error means that nobody is there to be asked.
func absent(err error) bool {
	return errors.Is(err, errAbsent) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

// newSources lists the sources; what a later one says counts more.
func newSources(cfg Config) []source {
	sources := []source{newBundles(cfg.HostRoot)}
	for _, s := range cfg.ContainerdSockets {
		sources = append(sources, newContainerd(cfg.HostRoot, s))
	}
	for _, s := range cfg.DockerSockets {
		sources = append(sources, newDocker(cfg.HostRoot, s))
	}
	if cfg.Kubelet.URL != "" {
		sources = append(sources, newKubelet(cfg.Kubelet))
	}
	return sources
}

// lacks says whether something may still be told of a container: the kubelet lists
// a container some time after it runs, and the API server a static pod.
func (k *catalog) lacks(g *cgroup) bool {
	if _, ok := k.containers[g.id]; !ok {
		return true
	}
	_, ok := k.pods[g.podUID]
	return !ok && g.podUID != ""
}

// settled says whether all was told of a container that is to be had: engines know
// one when it runs, the kubelet, where there is one, some time after.
func (k *catalog) settled(g *cgroup) bool {
	_, asked := k.asked[g.id]
	return !k.lacks(g) || asked && (g.podUID == "" || k.podless)
}

// left is what of an earlier answer is about containers and pods that are still
// there; nil: nothing.
func (k *catalog) left(q *question) *catalog {
	if k == nil {
		return nil
	}
	left := q.catalog()
	for _, g := range q.groups {
		if m, ok := k.containers[g.id]; ok && g.kind == kindContainer {
			left.containers[g.id] = m
		}
		if m, ok := k.pods[g.podUID]; ok {
			left.pods[g.podUID] = m
		}
	}
	if len(left.containers)+len(left.pods) == 0 {
		return nil
	}
	return left
}

// enricher asks the sources when there are containers that they were not asked
// for, for a while when some are that nobody knew, and now and then.
type enricher struct {
	c       *Collector
	seen    map[string]time.Time // see question.ids
	at      time.Time
	answers []*catalog // the last ones, by source
	failing []bool
	absent  []bool
}

func (e *enricher) refresh(ctx context.Context, s snapshot) {
	now, known := e.c.now(), e.c.names.Load()
	q := &question{groups: s.list, ids: map[string]time.Time{}, labels: e.c.cfg.Labels}
	fresh := false
	for _, g := range s.list {
		if g.kind == kindContainer {
			first, old := e.seen[g.id]
			if !old {
				first = now
			}
			q.ids[g.id] = first
			fresh = fresh || !old || now.Sub(first) < settling && known.lacks(g)
		}
	}
	e.seen = q.ids
	if e.answers == nil {
		n := len(e.c.sources)
		e.answers, e.failing, e.absent = make([]*catalog, n), make([]bool, n), make([]bool, n)
	}
	switch {
	case len(q.ids) == 0:
		clear(e.answers)
	case fresh || now.Sub(e.at) >= askAgain:
		e.at = now
		var wg sync.WaitGroup
		for i, src := range e.c.sources {
			wg.Go(func() { e.ask(ctx, i, src, q) })
		}
		wg.Wait()
	default:
		return
	}
	all := q.catalog()
	for _, answer := range e.answers {
		if answer == nil {
			continue
		}
		for id, m := range answer.containers {
			all.containers[id] = all.containers[id].merge(m)
		}
		maps.Copy(all.pods, answer.pods)
	}
	all.asked, all.podless = q.ids, true
	for i, src := range e.c.sources {
		all.podless = all.podless && (src.name() != kubeletName || e.absent[i])
	}
	e.c.names.Store(all)
}

// ask asks one source. What it does not answer, it has said before.
func (e *enricher) ask(ctx context.Context, i int, src source, q *question) {
	ctx, cancel := context.WithTimeout(ctx, 2*askTimeout)
	defer cancel()
	answer, err := src.ask(ctx, q)
	if err == nil {
		e.c.metrics.asked.WithLabelValues(src.name()).Inc()
		e.answers[i], e.failing[i], e.absent[i] = answer, false, false
		return
	}
	e.answers[i] = e.answers[i].left(q)
	e.absent[i] = absent(err) && e.answers[i] == nil
	switch {
	case e.absent[i]: // who has answered is starting again
		if !e.failing[i] {
			e.failing[i] = true
			e.c.log.Debug("nobody to ask for names of containers", "source", src.name(), "reason", err)
		}
	case ctx.Err() != nil && ctx.Err() != context.DeadlineExceeded:
	default:
		e.c.metrics.errors.WithLabelValues(src.name()).Inc()
		if !e.failing[i] {
			e.failing[i] = true
			e.c.log.Warn("names of containers may be missing", "source", src.name(), "reason", err)
		}
	}
}
