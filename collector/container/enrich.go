package container

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"syscall"
	"time"
)

const (
	askTimeout = 3 * time.Second
	askAgain   = time.Minute // labels of pods and names of containers may change
	settling   = 30 * time.Second
	maxAnswer  = 64 << 20
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
	containers map[string]meta // by id
	pods       map[string]meta // by uid
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

// source is an engine that knows names. errAbsent says that it is not there.
type source interface {
	name() string
	ask(ctx context.Context, list []*cgroup) (*catalog, error)
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

// enricher asks the sources when there are containers that they were not asked
// for, for a while when some are that nobody knew, and now and then.
type enricher struct {
	c       *Collector
	seen    map[string]time.Time // when they were first asked for containers that are there
	at      time.Time
	answers []*catalog // the last ones, by source
	failing []bool
}

func (e *enricher) refresh(ctx context.Context, s snapshot) {
	now, known := e.c.now(), e.c.names.Load()
	ids := map[string]time.Time{}
	fresh := false
	for _, g := range s.list {
		if g.kind == kindContainer {
			first, old := e.seen[g.id]
			if !old {
				first = now
			}
			ids[g.id] = first
			fresh = fresh || !old || now.Sub(first) < settling && known.lacks(g)
		}
	}
	if len(ids) == 0 || !fresh && now.Sub(e.at) < askAgain {
		return
	}
	e.seen, e.at = ids, now
	if e.answers == nil {
		e.answers, e.failing = make([]*catalog, len(e.c.sources)), make([]bool, len(e.c.sources))
	}
	for i, src := range e.c.sources {
		e.ask(ctx, i, src, s.list)
	}
	all := &catalog{containers: map[string]meta{}, pods: map[string]meta{}}
	for _, answer := range e.answers {
		if answer == nil {
			continue
		}
		for id, m := range answer.containers {
			if _, ok := ids[id]; ok {
				all.containers[id] = all.containers[id].merge(m)
			}
		}
		maps.Copy(all.pods, answer.pods)
	}
	e.c.names.Store(all)
}

func (e *enricher) ask(ctx context.Context, i int, src source, list []*cgroup) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answer, err := src.ask(ctx, list)
	switch {
	case err == nil:
		e.c.metrics.asked.WithLabelValues(src.name()).Inc()
		e.answers[i], e.failing[i] = answer, false
	case absent(err) && e.answers[i] == nil: // who has answered is starting again
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
