package mesos

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/vedette-io/vedette/internal/config"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newTest(t *testing.T, cfg Config) *Collector {
	t.Helper()
	c, err := New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	return c
}

func expose(t *testing.T, c prometheus.Collector) string {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(c))
	families, err := reg.Gather()
	require.NoError(t, err)
	var b bytes.Buffer
	for _, f := range families {
		_, err := expfmt.MetricFamilyToText(&b, f)
		require.NoError(t, err)
	}
	return b.String()
}

// serve answers with the fixtures as a master and as an agent, to who may ask.
func serve(t *testing.T, may func(r *http.Request) bool) *httptest.Server {
	t.Helper()
	file := func(name string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if !may(r) {
				http.Error(w, "no", http.StatusUnauthorized)
				return
			}
			http.ServeFile(w, r, filepath.Join("testdata", name))
		}
	}
	agent := http.NewServeMux()
	agent.HandleFunc("/metrics/snapshot", file("agent_snapshot.json"))
	agent.HandleFunc("/monitor/statistics", file("statistics.json"))
	agentSrv := httptest.NewServer(agent)
	t.Cleanup(agentSrv.Close)

	master := http.NewServeMux()
	master.HandleFunc("/metrics/snapshot", file("master_snapshot.json"))
	master.HandleFunc("/slaves", func(w http.ResponseWriter, r *http.Request) {
		if !may(r) {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		host := strings.TrimPrefix(agentSrv.URL, "http://")
		fmt.Fprintf(w, `{"slaves":[{"id":"S0","pid":"slave(1)@%s","active":true},{"id":"S1","pid":"slave(1)@127.0.0.1:1","active":false},{"id":"S2","pid":"odd"}]}`, host)
	})
	srv := httptest.NewServer(master)
	t.Cleanup(srv.Close)
	return srv
}

func anybody(*http.Request) bool { return true }

func TestGolden(t *testing.T) {
	srv := serve(t, anybody)
	cfg := DefaultConfig()
	cfg.Timeout = time.Minute
	cfg.Masters, cfg.DiscoverAgents = []string{srv.URL}, true
	c := newTest(t, cfg)
	got := expose(t, c)
	master := strings.TrimPrefix(srv.URL, "http://")
	agents := c.agents(t.Context())
	require.Len(t, agents, 1)
	got = strings.ReplaceAll(strings.ReplaceAll(got, master, "master:5050"), hostOf(agents[0]), "agent:5051")
	path := filepath.Join("testdata", "cluster.prom")
	if *rewrite {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
	require.Equal(t, 1.0, testutil.ToFloat64(c.metrics.skipped.WithLabelValues("repeated")))
	require.Equal(t, 1.0, testutil.ToFloat64(c.metrics.targets.WithLabelValues("agent")))
}

func TestAuthentication(t *testing.T) {
	for name, tc := range map[string]struct {
		set  func(*Config)
		may  func(*http.Request) bool
		want bool
	}{
		"nobody is refused": {func(*Config) {}, func(r *http.Request) bool { return r.Header.Get("Authorization") != "" }, false},
		"principal and secret": {func(c *Config) { c.Username, c.Password = "vedette", "s3cret" }, func(r *http.Request) bool {
			user, password, _ := r.BasicAuth()
			return user == "vedette" && password == "s3cret"
		}, true},
		"token": {func(c *Config) { c.Token = "abc" }, func(r *http.Request) bool { return r.Header.Get("Authorization") == "token=abc" }, true},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.Timeout = time.Minute
			cfg.Masters, cfg.DiscoverAgents = []string{serve(t, tc.may).URL}, true
			tc.set(&cfg)
			c := newTest(t, cfg)
			got := expose(t, c)
			require.Equal(t, tc.want, strings.Contains(got, "mesos_master_elected{"))
			require.Equal(t, tc.want, strings.Contains(got, "mesos_agent_threads{"))
			require.Equal(t, tc.want, testutil.ToFloat64(c.metrics.errors.WithLabelValues("snapshot")) == 0)
		})
	}
}

// One agent that hangs, one that answers nonsense and one that is away leave the
// others' series as they are.
func TestFailures(t *testing.T) {
	good := serve(t, anybody)
	hold := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hold }))
	t.Cleanup(func() { close(hold); hangs.Close() })
	nonsense := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"a":[`) }))
	t.Cleanup(nonsense.Close)
	away := httptest.NewServer(nil)
	away.Close()

	cfg := DefaultConfig()
	cfg.Timeout = time.Second
	cfg.Masters = []string{good.URL}
	cfg.Agents = []string{hangs.URL, nonsense.URL, away.URL}
	c := newTest(t, cfg)
	require.Contains(t, expose(t, c), "mesos_master_elected{")
	require.Equal(t, 3.0, testutil.ToFloat64(c.metrics.errors.WithLabelValues("snapshot")))
	require.Equal(t, 3.0, testutil.ToFloat64(c.metrics.errors.WithLabelValues("statistics")))
}

func TestMapping(t *testing.T) {
	for name, tc := range map[string]struct {
		snapshot string
		want     []string
	}{
		"free is total less used":        {`{"master/cpus_total":8,"master/cpus_used":3}`, []string{`mesos_master_cpus{target="m",type="free"} 5`, `mesos_master_cpus{target="m",type="total"} 8`, `mesos_master_cpus{target="m",type="used"} 3`}},
		"no free without used":           {`{"master/cpus_total":8}`, []string{`mesos_master_cpus{target="m",type="total"} 8`}},
		"removals that no shutdown made": {`{"master/slave_removals":5,"master/slave_shutdowns_completed":2}`, []string{`mesos_master_slave_removal_events_total{event="completed",target="m"} 2`, `mesos_master_slave_removal_events_total{event="died",target="m"} 3`}},
		"what is no number is left out":  {`{"master/elected":"yes","master/uptime_secs":null,"master/outstanding_offers":[1]}`, nil},
		"reasons":                        {`{"master/task_lost/source_slave/reason_x":2,"master/task_lost/source_slave":9}`, []string{`mesos_master_task_state_counts_by_source_reason{reason="x",source="slave",state="lost",target="m"} 2`}},
		"frameworks with slashes":        {`{"frameworks/a/b/messages_received":1}`, []string{`mesos_master_frameworks_messages{framework="a/b",target="m",type="received"} 1`}},
		"unknown keys":                   {`{"master/new_thing":1,"system/load_1min":2}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			values, err := decodeSnapshot([]byte(tc.snapshot))
			require.NoError(t, err)
			var o outcome
			o.addSnapshot(masterFamilies(), values, "m", 10)
			require.Equal(t, tc.want, lines(t, o))
		})
	}
}

func TestLimits(t *testing.T) {
	values := map[string]float64{}
	var list []executor
	for i := range 10 {
		values[fmt.Sprintf("allocator/mesos/roles/r%d/shares/dominant", i)] = 1
		list = append(list, executor{ID: fmt.Sprint(i), Statistics: map[string]json.RawMessage{"threads": json.RawMessage("1")}})
	}
	var o outcome
	o.addSnapshot(masterFamilies(), values, "m", 4)
	o.addStatistics(statistics(), list, "a", 4)
	require.Len(t, o.samples, 8)
	require.Equal(t, 12, o.limited)
}

// lines are the samples as text without help and types.
func lines(t *testing.T, o outcome) []string {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(fixed(o.samples)))
	families, err := reg.Gather()
	require.NoError(t, err)
	var b bytes.Buffer
	for _, f := range families {
		_, err := expfmt.MetricFamilyToText(&b, f)
		require.NoError(t, err)
	}
	var list []string
	for line := range strings.Lines(b.String()) {
		if !strings.HasPrefix(line, "#") {
			list = append(list, strings.TrimSpace(line))
		}
	}
	return list
}

// fixed is a collector of samples that are there already.
type fixed []prometheus.Metric

func (f fixed) Describe(ch chan<- *prometheus.Desc) {
	for _, list := range [][]*family{masterFamilies(), agentFamilies()} {
		for _, x := range list {
			ch <- x.desc
		}
	}
	for _, s := range statistics() {
		ch <- s.desc
	}
}

func (f fixed) Collect(ch chan<- prometheus.Metric) {
	for _, m := range f {
		ch <- m
	}
}

func TestValidate(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	bad := Config{Masters: []string{"10.0.0.1:5050", "http://a:1", "http://a:1/"}, Agents: []string{"http://b/path"}, Username: "u", Token: config.Secret("t")}
	err := bad.Validate()
	for _, key := range []string{"masters", "agents", "timeout", "max_executors", "username", "token"} {
		require.ErrorContains(t, err, key+":")
	}
	require.ErrorContains(t, Config{DiscoverAgents: true}.Validate(), "discover_agents:")
	cfg := DefaultConfig()
	cfg.CAFile = filepath.Join(t.TempDir(), "absent")
	_, err = New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.ErrorContains(t, err, "ca_file")
}

// Whatever a master or an agent answers, a registry takes what is made of it.
func FuzzAnswers(f *testing.F) {
	for _, name := range []string{"master_snapshot.json", "agent_snapshot.json", "statistics.json"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(f, err)
		f.Add(data)
	}
	f.Add([]byte("{\"master/task_\xff/source_a/reason_b\":1,\"master/task_\xfe/source_a/reason_b\":1e400}"))
	f.Add([]byte(`[{"executor_id":"a","statistics":{"threads":1}},{"executor_id":"a"}]`))
	f.Add([]byte(`{"slaves":[{"pid":"slave(1)@[::1]:5051"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var o outcome
		if values, err := decodeSnapshot(data); err == nil {
			o.addSnapshot(masterFamilies(), values, "i", 100)
			o.addSnapshot(agentFamilies(), values, "i", 100)
		}
		if list, err := decodeStatistics(data); err == nil {
			o.addStatistics(statistics(), list, "i", 100)
		}
		lines(t, o)
		hosts, err := decodeAgents(data)
		for _, h := range hosts {
			require.NoError(t, err)
			require.Equal(t, h, hostOf("http://"+h))
		}
	})
}
