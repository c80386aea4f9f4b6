package container

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// asking is an enricher whose clock and list of containers a test sets.
type asking struct {
	enricher
	now  time.Time
	list []*cgroup
}

func newAsking(t *testing.T, sources ...source) *asking {
	t.Helper()
	c, err := New(testConfig(t.TempDir()), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	c.sources = sources
	a := &asking{enricher: enricher{c: c}, now: time.Unix(1_700_000_000, 0)}
	c.now = func() time.Time { return a.now }
	return a
}

// there says which containers there are, each in a pod called after it, and has them
// asked for.
func (a *asking) there(t *testing.T, ids ...string) {
	t.Helper()
	a.list = nil
	for _, id := range ids {
		a.list = append(a.list, &cgroup{place: place{kind: kindContainer, id: id, podUID: "of-" + id}, path: "/" + id})
	}
	a.refresh(t.Context(), snapshot{list: a.list})
}

// all is a source's answer that names every container, and its pod.
func (a *asking) all(context.Context) (*catalog, error) {
	k := &catalog{containers: map[string]meta{}, pods: map[string]meta{}}
	for _, g := range a.list {
		k.containers[g.id] = meta{Name: "name-" + g.id}
		k.pods[g.podUID] = meta{Pod: "pod-" + g.id}
	}
	return k, nil
}

// A source that is away for ever leaves the names of the containers that live, and
// of no other; once none is left, it is one that was never there.
func TestAwayForEver(t *testing.T) {
	src := &scriptedSource{}
	a := newAsking(t, src)
	src.play(a.all)
	a.there(t, "a", "b")
	require.Equal(t, "name-b", a.c.Names("b", "").Container)
	src.play(func(context.Context) (*catalog, error) { return nil, fmt.Errorf("dial: %w", syscall.ECONNREFUSED) })
	failures := func() float64 { return testutil.ToFloat64(a.c.metrics.errors.WithLabelValues("docker")) }
	for range 1000 {
		a.now = a.now.Add(askAgain)
		a.there(t, "a", "b")
	}
	require.Equal(t, 1000.0, failures())
	require.Equal(t, "pod-a", a.c.Names("a", "of-a").Pod)
	require.Equal(t, "name-b", a.c.Names("b", "").Container)

	a.now = a.now.Add(askAgain)
	a.there(t, "b")
	require.Zero(t, a.c.Names("a", "of-a"))
	require.Equal(t, "pod-b", a.c.Names("b", "of-b").Pod)
	before := failures()
	for range 10 {
		a.now = a.now.Add(askAgain)
		a.there(t, "c")
	}
	require.Zero(t, a.c.Names("b", "of-b"))
	require.Nil(t, a.answers[0])
	require.Equal(t, before, failures())
}

// Containers come and go: what is remembered is as much as there is, and nothing
// when there is nothing.
func TestComeAndGo(t *testing.T) {
	src := &scriptedSource{}
	a := newAsking(t, src)
	src.play(a.all)
	asked := func() int { return int(testutil.ToFloat64(a.c.metrics.asked.WithLabelValues("docker"))) }
	const rounds, many = 360, 30 // 10,800 containers in an hour
	for i := range rounds {
		a.now = a.now.Add(10 * time.Second)
		var ids []string
		for j := range many {
			ids = append(ids, fmt.Sprint(i, "-", j))
		}
		a.there(t, ids...)
		require.Len(t, a.c.names.Load().containers, many)
		require.Len(t, a.seen, many)
	}
	require.Equal(t, rounds, asked(), "once a look")
	a.there(t)
	require.Empty(t, a.c.names.Load().containers)
	require.Empty(t, a.c.names.Load().pods)
	require.Empty(t, a.seen)
	require.Nil(t, a.answers[0])
	a.there(t, "again")
	require.Equal(t, "name-again", a.c.Names("again", "").Container)
}

// Sources are asked at once: one that waits holds up no other.
func TestSideBySide(t *testing.T) {
	first, second := &scriptedSource{}, &scriptedSource{}
	a := newAsking(t, first, second)
	met := make(chan struct{})
	first.play(func(ctx context.Context) (*catalog, error) {
		select {
		case <-met:
			return a.all(ctx)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	second.play(func(ctx context.Context) (*catalog, error) {
		close(met)
		return a.all(ctx)
	})
	a.there(t, "a")
	require.Zero(t, testutil.ToFloat64(a.c.metrics.errors.WithLabelValues("docker")))
}

// Sources disagree: the later one counts, by container, and what only the earlier
// one says stays.
func TestSourcesDisagree(t *testing.T) {
	first, second := &scriptedSource{}, &scriptedSource{}
	a := newAsking(t, first, second)
	say := func(s *scriptedSource, m meta) {
		s.play(func(context.Context) (*catalog, error) { return &catalog{containers: map[string]meta{"a": m}}, nil })
	}
	say(first, meta{Name: "mine", Image: "i:1", Container: "old", Pod: "p-0", Namespace: "prod"})
	say(second, meta{Name: "theirs", Image: "i:2", Service: "front"})
	a.there(t, "a")
	require.Equal(t, meta{Name: "theirs", Image: "i:2", Container: "old", Pod: "p-0", Namespace: "prod", Service: "front", known: true},
		a.c.names.Load().find("a", ""))
}

// A bundle is read once: it is as large as a container's specification.
func TestBundlesOnce(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "run/containerd/io.containerd.runtime.v2.task/k8s.io", idA)
	require.NoError(t, os.MkdirAll(dir, 0o755))
	write := func(text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o600))
	}
	b := newBundles(root)
	q := &question{ids: map[string]time.Time{idA: {}}, groups: []*cgroup{{place: place{kind: kindContainer, id: idA, runtime: "cri"}}}}
	name := func() string {
		k, err := b.ask(t.Context(), q)
		require.NoError(t, err)
		return k.containers[idA].Name
	}
	require.Empty(t, name())
	write(`{"annotations":{"nerdctl/name":"web"}}`)
	require.Equal(t, "web", name())
	write(`{"annotations":{"nerdctl/name":"other"}}`)
	require.Equal(t, "web", name())
	_, err := b.ask(t.Context(), new(question))
	require.NoError(t, err)
	require.Empty(t, b.read)
	require.Equal(t, "other", name())
}

// A file without end is none that is read.
func TestReadFileIsBounded(t *testing.T) {
	_, ok := readFile("/dev/zero")
	require.False(t, ok)
}
