package etcd

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/vedette-io/vedette/collector/etcd/etcdtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// observer runs a discoverer and keeps what it says, as a discovery manager does.
type observer struct {
	t       *testing.T
	metrics *metrics

	mu     sync.Mutex
	groups map[string]*targetgroup.Group
	sent   int
	logs   bytes.Buffer
}

// Write takes the log in.
func (o *observer) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.logs.Write(p)
}

func observe(t *testing.T, cfg Config) *observer {
	t.Helper()
	o := &observer{t: t, groups: map[string]*targetgroup.Group{}}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultConfig().Timeout
	}
	o.metrics = cfg.NewDiscovererMetrics(prometheus.NewRegistry(), nil).(*metrics)
	d, err := cfg.NewDiscoverer(discovery.DiscovererOptions{Logger: slog.New(slog.NewTextHandler(o, nil)), Metrics: o.metrics, SetName: "job"})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	up := make(chan []*targetgroup.Group)
	var wg sync.WaitGroup
	wg.Go(func() {
		d.Run(ctx, up)
		close(up)
	})
	wg.Go(func() {
		for groups := range up {
			o.mu.Lock()
			for _, g := range groups {
				o.groups[g.Source] = g
			}
			o.sent++
			o.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		require.Zero(t, testutil.ToFloat64(o.metrics.targets))
		if testutil.CollectAndCount(o.metrics.connected) > 0 {
			require.Zero(t, testutil.ToFloat64(o.metrics.connected))
		}
	})
	return o
}

// targets returns source and address of every target, and the sources of groups
// that have become empty.
func (o *observer) targets() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := []string{}
	for _, g := range o.groups {
		if len(g.Targets) == 0 {
			out = append(out, g.Source+" empty")
		}
		for _, target := range g.Targets {
			out = append(out, g.Source+" "+string(target[model.AddressLabel]))
		}
	}
	slices.Sort(out)
	return out
}

func (o *observer) wants(want ...string) {
	o.t.Helper()
	slices.Sort(want)
	o.eventually(func() bool { return slices.Equal(o.targets(), want) })
}

func (o *observer) eventually(f func() bool) {
	o.t.Helper()
	if !within(f) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.t.Fatalf("got %v\n%s", o.groups, o.logs.String())
	}
}

// within polls f for a minute.
func within(f func() bool) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	end := time.NewTimer(time.Minute)
	defer end.Stop()
	for {
		if f() {
			return true
		}
		select {
		case <-tick.C:
		case <-end.C:
			return false
		}
	}
}

func (o *observer) logged(text string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Count(o.logs.String(), text)
}

func (o *observer) count(c *prometheus.CounterVec, more ...string) float64 {
	return testutil.ToFloat64(c.WithLabelValues(append([]string{"job"}, more...)...))
}

func (o *observer) connected() bool {
	return testutil.ToFloat64(o.metrics.connected.WithLabelValues("job")) == 1
}

func configOf(s *etcdtest.Server) Config {
	return Config{Endpoints: []string{s.Address()}, Prefix: "/service/"}
}

// Services come, move and go: by deletion, by a lease that is revoked and by one
// that expires.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	s.Put("/service/web/1", "10.0.0.1:80", time.Hour)
	s.Put("/services/other/1", "10.9.9.9:80", time.Hour)
	o := observe(t, configOf(s))
	o.wants("/service/web 10.0.0.1:80")
	lease := s.Put("/service/web/2", "10.0.0.2:80", time.Hour)
	s.Put("/service/db/1", `{"targets": ["10.0.0.3:5432", "10.0.0.3:9187"], "labels": {"zone": "x"}}`, time.Hour)
	o.wants("/service/web 10.0.0.1:80", "/service/web 10.0.0.2:80", "/service/db 10.0.0.3:5432", "/service/db 10.0.0.3:9187")
	o.eventually(func() bool { return testutil.ToFloat64(o.metrics.targets) == 4 })
	o.mu.Lock()
	require.Equal(t, model.LabelValue(fmt.Sprintf("%x", lease)), o.groups["/service/web"].Targets[1][labelLease])
	o.mu.Unlock()

	// An address changes under the same key.
	s.Put("/service/web/1", "10.0.0.9:81", time.Hour)
	o.wants("/service/web 10.0.0.9:81", "/service/web 10.0.0.2:80", "/service/db 10.0.0.3:5432", "/service/db 10.0.0.3:9187")

	_, err := s.Client.Revoke(t.Context(), lease)
	require.NoError(t, err)
	o.wants("/service/web 10.0.0.9:81", "/service/db 10.0.0.3:5432", "/service/db 10.0.0.3:9187")
	_, err = s.Client.Delete(t.Context(), "/service/db/", clientv3.WithPrefix())
	require.NoError(t, err)
	o.wants("/service/web 10.0.0.9:81", "/service/db empty")

	// A lease that is kept alive until its key is seen, and then by nobody.
	lease = s.Put("/service/batch/1", "10.0.0.4:80", 4*time.Second)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	alive, err := s.Client.KeepAlive(ctx, lease)
	require.NoError(t, err)
	o.wants("/service/web 10.0.0.9:81", "/service/db empty", "/service/batch 10.0.0.4:80")
	leave()
	for range alive { // ends
	}
	o.wants("/service/web 10.0.0.9:81", "/service/db empty", "/service/batch empty")
	require.Equal(t, 1., o.count(o.metrics.lists))
	require.Zero(t, testutil.CollectAndCount(o.metrics.errors))
}

// A prefix of more keys than a page holds is read whole, while it changes.
func TestLargePrefix(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	const n = 2*pageKeys + 17
	for begin := 0; begin < n; begin += 100 {
		var ops []clientv3.Op
		for i := begin; i < min(begin+100, n); i++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("/service/web/%05d", i), fmt.Sprintf("10.0.0.1:%d", 1000+i)))
		}
		_, err := s.Client.Txn(t.Context()).Then(ops...).Commit()
		require.NoError(t, err)
	}
	o := observe(t, configOf(s))
	for i := range 50 {
		_, err := s.Client.Delete(t.Context(), fmt.Sprintf("/service/web/%05d", i*40))
		require.NoError(t, err)
	}
	o.eventually(func() bool { return len(o.targets()) == n-50 })
}

// Values that make no target are skipped, counted, and logged once.
func TestBadValues(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	s.Put("/service/web/1", "nowhere", time.Hour)
	s.Put("/service/web/2", "10.0.0.2:80", time.Hour)
	o := observe(t, configOf(s))
	o.wants("/service/web 10.0.0.2:80")
	s.Put("/service/web/1", "still nowhere", time.Hour)
	s.Put("/service/web/3", "10.0.0.3:80", time.Hour)
	o.wants("/service/web 10.0.0.2:80", "/service/web 10.0.0.3:80")
	require.Equal(t, 2., o.count(o.metrics.badValues))

	// A listing does not count or log again what it has seen.
	s.Kill()
	o.eventually(func() bool { return !o.connected() })
	s.Restart()
	o.eventually(func() bool { return o.count(o.metrics.lists) == 2 })
	s.Put("/service/web/1", "10.0.0.1:80", time.Hour)
	o.wants("/service/web 10.0.0.1:80", "/service/web 10.0.0.2:80", "/service/web 10.0.0.3:80")
	require.Equal(t, 2., o.count(o.metrics.badValues))
	require.Equal(t, 1, o.logged("skip a key of etcd"))
	require.Equal(t, 1, o.logged("key=/service/web/1"))
}

// The server is killed and comes back: the targets stay meanwhile, and what has
// changed is seen.
func TestRestart(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	s.Put("/service/web/1", "10.0.0.1:80", time.Hour)
	s.Put("/service/db/1", "10.0.0.3:80", time.Hour)
	o := observe(t, configOf(s))
	both := []string{"/service/web 10.0.0.1:80", "/service/db 10.0.0.3:80"}
	o.wants(both...)
	o.eventually(o.connected)
	s.Kill()
	o.eventually(func() bool { return !o.connected() })
	o.wants(both...)
	s.Restart()
	_, err := s.Client.Delete(t.Context(), "/service/db/1")
	require.NoError(t, err)
	o.wants("/service/web 10.0.0.1:80", "/service/db empty")
	o.eventually(o.connected)
	s.Put("/service/web/2", "10.0.0.2:80", time.Hour)
	o.wants("/service/web 10.0.0.1:80", "/service/web 10.0.0.2:80", "/service/db empty")
}

// A server that comes back without its data is at a lower revision; a watch that
// went on from the higher one would hear nothing.
func TestWipedServer(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	for i := range 20 {
		s.Put("/service/web/1", fmt.Sprintf("10.0.0.1:%d", 80+i), time.Hour)
	}
	o := observe(t, configOf(s))
	o.wants("/service/web 10.0.0.1:99")
	o.eventually(o.connected)
	s.Kill()
	o.eventually(func() bool { return !o.connected() })
	s.Wipe()
	s.Restart()
	o.wants("/service/web empty")
	s.Put("/service/web/2", "10.0.0.2:80", time.Hour)
	o.wants("/service/web 10.0.0.2:80")
	require.NotZero(t, o.logged("etcd has gone back"))
}

// The revision that a watch would resume from is compacted while the discoverer
// is cut off.
func TestCompaction(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	g := newGate(t, s.Address())
	s.Put("/service/web/1", "10.0.0.1:80", time.Hour)
	cfg := configOf(s)
	cfg.Endpoints = []string{g.address()}
	o := observe(t, cfg)
	o.wants("/service/web 10.0.0.1:80")
	o.eventually(o.connected)
	g.shut()
	o.eventually(func() bool { return !o.connected() })
	_, err := s.Client.Delete(t.Context(), "/service/web/1")
	require.NoError(t, err)
	r, err := s.Client.Put(t.Context(), "/service/db/1", "10.0.0.2:80")
	require.NoError(t, err)
	_, err = s.Client.Compact(t.Context(), r.Header.Revision, clientv3.WithCompactPhysical())
	require.NoError(t, err)
	require.Equal(t, []string{"/service/web 10.0.0.1:80"}, o.targets())
	g.open()
	o.wants("/service/web empty", "/service/db 10.0.0.2:80")
	s.Put("/service/db/1", "10.0.0.3:80", time.Hour)
	o.wants("/service/web empty", "/service/db 10.0.0.3:80")
}

// Of two members one goes away, then comes back while the other one goes.
func TestMemberLoss(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	one, two := newGate(t, s.Address()), newGate(t, s.Address())
	cfg := configOf(s)
	cfg.Endpoints = []string{one.address(), two.address()}
	o := observe(t, cfg)
	s.Put("/service/web/1", "10.0.0.1:80", time.Hour)
	o.wants("/service/web 10.0.0.1:80")
	one.shut()
	s.Put("/service/web/1", "10.0.0.1:81", time.Hour)
	o.wants("/service/web 10.0.0.1:81")
	one.open()
	two.shut()
	s.Put("/service/web/1", "10.0.0.1:82", time.Hour)
	o.wants("/service/web 10.0.0.1:82")
}

// A connection that falls silent is given up for another one.
func TestSilence(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a keepalive of 15 seconds; left out by -short")
	}
	t.Parallel()
	s := etcdtest.Start(t)
	g := newGate(t, s.Address())
	cfg := configOf(s)
	cfg.Endpoints = []string{g.address()}
	o := observe(t, cfg)
	s.Put("/service/web/1", "10.0.0.1:80", time.Hour)
	o.wants("/service/web 10.0.0.1:80")
	g.hush()
	s.Put("/service/web/1", "10.0.0.1:81", time.Hour)
	o.wants("/service/web 10.0.0.1:81")
}

// A server that wants a certificate gets it; without one there is no answer.
func TestTLS(t *testing.T) {
	t.Parallel()
	s, certs := etcdtest.StartTLS(t)
	s.Put("/service/web/1", "10.0.0.1:80", time.Hour)
	cfg := configOf(s)
	cfg.Endpoints = []string{"https://" + s.Address()}
	cfg.TLSConfig = &promconfig.TLSConfig{CAFile: certs.CA, CertFile: certs.Cert, KeyFile: certs.Key}
	observe(t, cfg).wants("/service/web 10.0.0.1:80")

	cfg.TLSConfig, cfg.Timeout = nil, model.Duration(500*time.Millisecond)
	o := observe(t, cfg)
	o.eventually(func() bool { return o.count(o.metrics.errors, "list") > 0 })
	require.Empty(t, o.targets())

	cfg.TLSConfig = &promconfig.TLSConfig{CAFile: certs.CA + ".missing"}
	o = observe(t, cfg)
	o.eventually(func() bool { return o.count(o.metrics.errors, "dial") > 0 })
	require.NotZero(t, o.logged("read tls_config: "))
}

// A watch from a revision that is compacted ends with ErrCompacted; the session
// lists again by itself.
func TestCompactedWatch(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	for i := range 5 {
		s.Put("/service/web/1", fmt.Sprintf("10.0.0.1:%d", 80+i), time.Hour)
	}
	r, err := s.Client.Get(t.Context(), "/service/web/1")
	require.NoError(t, err)
	_, err = s.Client.Compact(t.Context(), r.Header.Revision)
	require.NoError(t, err)

	cfg := configOf(s)
	cfg.Timeout = DefaultConfig().Timeout
	m := newMetrics(prometheus.NewRegistry())
	d, err := New(cfg, discovery.DiscovererOptions{Metrics: m, SetName: "job"})
	require.NoError(t, err)
	d.revision = 1
	err = d.watch(t.Context(), s.Client, nil, nil)
	require.ErrorContains(t, err, `watch "/service/" from revision 2: `)
	require.ErrorIs(t, err, rpctypes.ErrCompacted)
}

// One endpoint that answers is enough, and a discoverer that starts before etcd
// waits for it.
func TestEndpoints(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	s.Put("/service/web/1", "10.0.0.1:80", time.Hour)
	s.Kill()
	cfg := configOf(s)
	cfg.Endpoints = []string{"127.0.0.1:1", "http://" + s.Address()}
	cfg.Timeout = model.Duration(time.Second)
	o := observe(t, cfg)
	o.eventually(func() bool { return o.count(o.metrics.errors, "list") > 0 })
	require.Empty(t, o.targets())
	s.Restart()
	o.wants("/service/web 10.0.0.1:80")
	require.NotZero(t, o.logged("no answer from 127.0.0.1:1, http://"+s.Address()+" within 1s"))
}

// A login, and a password that is wrong at first.
func TestLogin(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	s.Put("/service/web/1", "10.0.0.1:80", time.Hour)
	ctx := t.Context()
	for _, f := range []func() error{
		func() error { _, err := s.Client.RoleAdd(ctx, "root"); return err },
		func() error { _, err := s.Client.UserAdd(ctx, "root", "top secret"); return err },
		func() error { _, err := s.Client.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := s.Client.RoleAdd(ctx, "reader"); return err },
		func() error {
			_, err := s.Client.RoleGrantPermission(ctx, "reader", "/service/", "/service0", clientv3.PermissionType(clientv3.PermRead))
			return err
		},
		func() error { _, err := s.Client.UserAdd(ctx, "vedette", "right"); return err },
		func() error { _, err := s.Client.UserGrantRole(ctx, "vedette", "reader"); return err },
		func() error { _, err := s.Client.AuthEnable(ctx); return err },
	} {
		require.NoError(t, f())
	}
	file := filepath.Join(t.TempDir(), "password")
	cfg := configOf(s)
	cfg.Username, cfg.PasswordFile = "vedette", file
	o := observe(t, cfg)
	o.eventually(func() bool { return o.logged("read password_file") > 0 })
	require.NoError(t, os.WriteFile(file, []byte("wrong\n"), 0o600))
	o.eventually(func() bool { return o.logged("authentication failed") > 0 })
	require.NoError(t, os.WriteFile(file, []byte("right\n"), 0o600))
	o.wants("/service/web 10.0.0.1:80")
	require.NotZero(t, o.count(o.metrics.errors, "dial"))
}
