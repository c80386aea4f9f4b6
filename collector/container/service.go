package container

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/vedette-io/vedette/ebpf/identity"
)

const (
	// nameAgain is how old the name of a service may be: another program may run in
	// the container by now, and an engine or the kubelet may have told more.
	nameAgain = 10 * time.Second
	// keepName is for how long a name is kept that nobody asks for.
	keepName = time.Hour
	// namePatience is for how long the end waits for a process that the kernel does
	// not let anybody look into.
	namePatience = 5 * time.Second
	// lookAt is at how many processes of a container is looked.
	lookAt = 16
)

// wrappers begin what a container is for and wait for it.
var wrappers = []string{
	"sh", "bash", "dash", "ash", "busybox", "tini", "dumb-init", "docker-init", "catatonit", "s6-svscan", "runsvdir", "supervisord",
}

// container is how somebody who has no process calls a container: by its id, or by
// its pod and its name there.
type container struct{ id, podUID, name string }

// service is how identity's rule calls the service of a container.
type service struct {
	name, namespace string
	settled         bool // everybody has told what there is
	at, asked       time.Time
}

// services are the names of those that were asked for. Processes are looked at in a
// goroutine of their own, for it may take long: who asks has what is known by now.
type services struct {
	resolver *identity.Resolver
	wanted   chan container

	mu sync.Mutex
	of map[container]service // under mu
}

func newServices(c *Collector) *services {
	return &services{
		resolver: identity.New(string(c.proc), c), wanted: make(chan container, c.cfg.MaxContainers),
		of: make(map[container]service),
	}
}

// Service says what the service of a container is called by the rule of package
// identity, which is that of its main process, and its namespace, as far as that is
// known: name is empty at first. settled is false as long as more may be told of it.
// The container is known by its id, or by the UID of its pod and its name there. It
// answers from memory; Run finds out.
func (c *Collector) Service(containerID, podUID, nameInPod string) (name, namespace string, settled bool) {
	s, k, now := c.services, container{containerID, podUID, nameInPod}, c.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.of[k]
	v.asked = now
	if ok {
		s.of[k] = v
	}
	if !ok || now.Sub(v.at) >= nameAgain || !v.settled {
		select {
		case s.wanted <- k:
		default: // whoever asks again is heard then
		}
	}
	return v.name, v.namespace, v.settled
}

// nameServices finds out what was asked for until ctx ends.
func (c *Collector) nameServices(ctx context.Context) {
	s := c.services
	tick := time.NewTicker(c.cfg.RescanInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.resolver.Sweep(now)
			s.forget(c.now())
		case k := <-s.wanted:
			name, namespace, settled := c.service(k)
			s.put(k, service{name: name, namespace: namespace, settled: settled, at: c.now()})
		}
	}
}

// put takes a name. What is not known any more, of a container that has ended, stays.
func (s *services) put(k container, v service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.of[k]
	v.asked = cmp.Or(old.asked, v.at)
	if !v.settled && old.settled {
		v.name, v.namespace, v.settled = old.name, old.namespace, true
	}
	s.of[k] = v
}

func (s *services) forget(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range s.of {
		if now.Sub(v.asked) > keepName {
			delete(s.of, k)
		}
	}
}

// service looks for a container's main process. Without one, what its pod and its
// labels call it is what there is.
func (c *Collector) service(k container) (name, namespace string, settled bool) {
	c.mu.Lock()
	last := c.last
	c.mu.Unlock()
	known := c.names.Load()
	for _, g := range last.list {
		if g.kind != kindContainer || k.id != "" && g.id != k.id || k.id == "" && (g.podUID != k.podUID || known.of(g).Container != k.name) {
			continue
		}
		if p, begun := c.mainProcess(last.h, g); p.Executable != "" {
			return p.Service, p.Namespace, begun && known.settled(g)
		}
	}
	n := c.Names(k.id, k.podUID)
	return n.ServiceName(), n.PodNamespace, false
}

// mainProcess is the one that a container is for: the first that began and is not
// there to begin others. Where there is none of these, as long as a script prepares
// what is to run, it is the first, and begun is false.
func (c *Collector) mainProcess(h hierarchies, g *cgroup) (p identity.Process, begun bool) {
	var keys []identity.Key
	for _, pid := range c.pids(h, g) {
		if k, ok := c.services.resolver.Find(uint32(pid)); ok {
			keys = append(keys, k)
		}
		if len(keys) == lookAt {
			break
		}
	}
	slices.SortStableFunc(keys, func(a, b identity.Key) int { return cmp.Compare(a.StartNanos, b.StartNanos) })
	var first identity.Process
	for i, k := range keys {
		p := c.services.resolver.Resolve(k, "")
		if !slices.Contains(wrappers, p.Service) && p.Executable != "" {
			return p, true
		}
		if i == 0 {
			first = p
		}
	}
	return first, false
}
