package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/common/model"

	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
	"github.com/vedette-io/vedette/ebpf/protocol/protocoltest"
)

// asShop makes this test binary a small web service; the variable's value is the
// address of its PostgreSQL.
const asShop = "VEDETTE_TEST_AS_SHOP"

// shop is a service that knows nothing of Vedette: every item is one query. It
// says where it listens, and ends with its standard input.
func shop(database string) error {
	if len(os.Args) > 1 && os.Args[1] == "version" {
		fmt.Println("1.0")
		return nil
	}
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://postgres@"+database+"/postgres?sslmode=disable&pool_max_conns=4")
	if err != nil {
		return err
	}
	defer pool.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /item/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.Atoi(r.PathValue("id"))
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		var stock int
		if err := pool.QueryRow(ctx, "SELECT $1::int % 5", id).Scan(&stock); err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		if stock == 0 {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		fmt.Fprintln(w, stock)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go http.Serve(l, mux)
	fmt.Println(l.Addr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// shopProgram gives the path of an executable of that name that is shop.
func shopProgram(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	self, err := os.Executable()
	if err == nil && os.Link(self, path) != nil {
		var b []byte
		if b, err = os.ReadFile(self); err == nil {
			err = os.WriteFile(path, b, 0o755)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// startShop starts a shop and gives its address. As an engine does, it enters its
// control groups before it begins the program.
func startShop(t *testing.T, program, database string, groups ...string) (addr string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", `read go && exec "$0"`, program)
	cmd.Env = append(os.Environ(), asShop+"="+database)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	for _, dir := range groups {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
			t.Skip("moving a process into a cgroup is not allowed here: ", err)
		}
	}
	if _, err := io.WriteString(in, "go\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fscanln(out, &addr); err != nil {
		t.Fatalf("the shop does not say where it listens: %v", err)
	}
	return addr
}

// chain is nginx, a Go service and PostgreSQL, which were running before Vedette.
type chain struct {
	t                        *testing.T
	name                     string // the service's
	program                  string // its executable
	nginx, service, database string // their ports
	client                   *http.Client
}

func startChain(t *testing.T) *chain {
	t.Helper()
	skipShort(t)
	database := protocoltest.StartPostgres(t)
	c := &chain{t: t, name: fmt.Sprintf("shop-%d", os.Getpid()), database: featuretest.PortOf(t, database)}
	c.program = shopProgram(t, c.name)
	service := startShop(t, c.program, database)
	c.service = featuretest.PortOf(t, service)
	c.nginx, _ = featuretest.StartNginx(t, service)
	c.client = featuretest.NewClient(t, true)
	c.drive(8, nil) // so that connections are older than Vedette
	return c
}

// drive asks for items 0 to n-1, four at a time: every fifth is not found.
func (c *chain) drive(n int, header func(item int) string) {
	c.t.Helper()
	next := make(chan int)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for item := range next {
				want := http.StatusOK
				if item%5 == 0 {
					want = http.StatusNotFound
				}
				h := ""
				if header != nil {
					h = header(item)
				}
				if err := ask(c.client, "http://127.0.0.1:"+c.nginx+"/app/item/"+strconv.Itoa(item), h, want); err != nil {
					c.t.Error(err)
				}
			}
		})
	}
	for item := range n {
		next <- item
	}
	close(next)
	wg.Wait()
}

// ask sends one request and wants an answer with a status.
func ask(client *http.Client, url, traceparent string, want int) error {
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if traceparent != "" {
		r.Header.Set("traceparent", traceparent)
	}
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err == nil && resp.StatusCode != want {
		err = fmt.Errorf("%s: status %d, want %d", url, resp.StatusCode, want)
	}
	return err
}

// value gives the sum of what a query finds, and whether it finds anything.
func (p *process) value(query string) (float64, bool) {
	p.t.Helper()
	var v model.Vector
	p.query("sum("+query+")", &v)
	if len(v) == 0 {
		return 0, false
	}
	return float64(v[0].Value), true
}

// finds waits until a query finds something.
func (p *process) finds(query string) {
	p.t.Helper()
	eventually(p.t, query, func() bool {
		_, ok := p.value(query)
		return ok
	})
}

// counts waits until the sum of what a query finds reaches want, and wants it to
// be exactly that.
func (p *process) counts(query string, want float64) {
	p.t.Helper()
	var got float64
	deadline := time.Now().Add(patience)
	eventually(p.t, query, func() bool {
		got, _ = p.value(query)
		return got >= want || time.Now().After(deadline.Add(-time.Second))
	})
	if got != want {
		p.t.Errorf("%s: got %v, want %v", query, got, want)
	}
}

// loaded waits until series say that a feature is loaded, or skips the test if
// they say why it cannot be.
func (p *process) loaded(features ...string) {
	p.t.Helper()
	for _, name := range features {
		state, reason := "", ""
		eventually(p.t, "the eBPF feature "+name+" was tried", func() bool {
			var v model.Vector
			p.query(fmt.Sprintf(`vedette_ebpf_feature{name=%q,reason!="not started"}`, name), &v)
			if len(v) == 1 {
				state, reason = string(v[0].Metric["state"]), string(v[0].Metric["reason"])
			}
			return len(v) == 1
		})
		if state != "loaded" {
			p.t.Skipf("eBPF feature %s is %s: %s", name, state, reason)
		}
	}
}

// Without a word of configuration, Vedette shows the host, and requests and edges
// of services that were running before it.
func TestE2EChain(t *testing.T) {
	c := startChain(t)
	begin := time.Now()
	p := start(t, t.TempDir())
	p.loaded("http", "stream", "tcp", "process")
	t.Logf("loaded after %s", time.Since(begin).Round(time.Second))

	const n = 200
	c.drive(n, nil)
	version := exec.Command(c.program, "version")
	version.Env = append(os.Environ(), asShop+"=none")
	if err := version.Run(); err != nil {
		t.Fatal(err)
	}

	service := fmt.Sprintf("service_name=%q", c.name)
	for status, want := range map[string]float64{"200": n * 4 / 5, "404": n / 5} {
		answer := fmt.Sprintf(`http_request_method="GET",http_response_status_code=%q`, status)
		p.counts(`http_server_request_duration_seconds_count{service_name="nginx",server_port="`+c.nginx+`",`+answer+`}`, want)
		p.counts(`http_client_request_duration_seconds_count{service_name="nginx",server_port="`+c.service+`",`+answer+`}`, want)
		p.counts(`http_server_request_duration_seconds_count{`+service+`,`+answer+`}`, want)
	}
	p.counts(`http_server_request_duration_seconds_count{server_port="`+c.nginx+`"}`, n) // and nobody else's
	p.counts(`db_client_operation_duration_seconds_count{`+service+`,db_system_name="postgresql",db_operation_name="SELECT",error_type=""}`, n)
	p.counts(`db_server_operation_duration_seconds_count{service_name="postgres",server_port="`+c.database+`",db_operation_name="SELECT",error_type=""}`, n)

	edge := `client="nginx",server="` + c.name + `",connection_type=""`
	p.counts(`traces_service_graph_request_total{`+edge+`}`, n)
	p.counts(`traces_service_graph_request_failed_total{`+edge+`}`, n/5)
	p.counts(`traces_service_graph_request_client_seconds_count{`+edge+`}`, n)
	// What prepares the query is an operation, too.
	p.finds(`sum(traces_service_graph_request_total{client="` + c.name + `",server="postgres",connection_type="database"})
		== sum(db_client_operation_duration_seconds_count{` + service + `})`)

	p.finds(`tcp_connections{service_name="nginx",side="client",service_peer_name="` + c.name + `"} > 0`)
	p.finds(`tcp_connections{` + service + `,side="client",service_peer_name="postgres"} > 0`)
	p.finds(`tcp_sent_bytes_total{` + service + `,side="client",service_peer_name="postgres"} > 0`)
	p.counts(`process_starts_total{`+service+`}`, 1)
	p.counts(`process_exits_total{`+service+`,process_exit_code="0"}`, 1)
	for _, name := range []string{"node_cpu_seconds_total", "node_memory_MemAvailable_bytes", "node_load1", "node_filesystem_avail_bytes", "node_network_receive_bytes_total"} {
		p.finds(name)
	}
	t.Logf("everything seen %s after the start", time.Since(begin).Round(time.Second))

	t.Run("container", func(t *testing.T) { c.inContainer(t, p.in(t)) })
	p.stop()
}

// inContainer runs another shop where an engine would put it: its requests and its
// resources have the container's id.
func (c *chain) inContainer(t *testing.T, p *process) {
	id := make([]byte, 32)
	_, _ = rand.Read(id)
	group := "docker-" + hex.EncodeToString(id) + ".scope"
	name := fmt.Sprintf("cart-%d", os.Getpid())
	addr := startShop(t, shopProgram(t, name), "127.0.0.1:"+c.database, makeGroups(t, group)...)
	const n = 20
	for range n {
		if err := ask(c.client, "http://"+addr+"/item/1", "", http.StatusOK); err != nil {
			t.Error(err)
		}
	}
	container := fmt.Sprintf(`container_id="%x",service_name=%q`, id, name)
	p.counts(`http_server_request_duration_seconds_count{`+container+`}`, n)
	p.counts(`db_client_operation_duration_seconds_count{`+container+`,db_operation_name="SELECT"}`, n)
	p.finds(`tcp_connections{` + container + `,service_peer_name="postgres"}`)
	p.finds(`container_memory_working_set_bytes{id="/` + group + `"} > 0`)
	p.finds(`container_cpu_usage_seconds_total{id="/` + group + `"}`)
	p.finds(fmt.Sprintf(`container_last_seen{name="%x"}`, id))
}

// makeGroups makes a control group in every hierarchy, which goes with the test,
// and gives its directories.
func makeGroups(t *testing.T, name string) (dirs []string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("making cgroups takes root")
	}
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) < 3 || !strings.HasPrefix(f[2], "cgroup") || filepath.Base(f[1]) == "cpuset" { // which wants to be set up
			continue
		}
		dir := filepath.Join(f[1], name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Skip("making cgroups is not allowed here: ", err)
		}
		dirs = append(dirs, dir)
		t.Cleanup(func() { eventually(t, "remove "+dir, func() bool { return os.Remove(dir) == nil }) })
	}
	if dirs == nil {
		t.Skip("there are no cgroups here")
	}
	return dirs
}

// hop is one span of a request's way through the chain.
type hop struct{ id, parent string }

// Every request's way is one trace, whose links are right or not there.
func TestE2EChainTraces(t *testing.T) {
	c := startChain(t)
	p := start(t, t.TempDir(), "--config", agentFile(t, "collect: {ebpf: {spans: {ratio: 1}}}"))
	p.loaded("http", "stream")
	run := make([]byte, 8)
	_, _ = rand.Read(run)
	trace := func(item int) string { return fmt.Sprintf("%x%016x", run, 1<<60+item) }
	parent := func(item int) string { return fmt.Sprintf("%016x", 1<<40+item) }
	const n = 40
	c.drive(n, func(item int) string { return "00-" + trace(item) + "-" + parent(item) + "-01" })

	own := fmt.Sprintf("resource.service.name = %q", c.name)
	// all waits for a query to find n traces; fewer are right once this host has
	// had more requests than Vedette makes spans of.
	all := func(query string) {
		t.Helper()
		var found []string
		eventually(t, query, func() bool {
			found = p.search(query)
			return len(found) >= n || p.lostSpans() > 0
		})
		if len(found) > n {
			t.Errorf("%s: got %d traces, want %d", query, len(found), n)
		}
	}
	all("{ " + own + " && kind = server }")
	all(`{ resource.service.name = "nginx" && kind = client } > { ` + own + " && kind = server }")
	// Queries carry no header: the two ends of each are a trace of their own.
	all("{ " + own + ` && kind = client && span.db.operation.name = "SELECT" } > { resource.service.name = "postgres" && kind = server }`)

	absent := 0
	eventually(t, "every span of every item has its parent", func() bool {
		absent = 0
		for item := range n {
			absent += c.absent(p, item, trace(item), parent(item))
		}
		return absent == 0 || p.lostSpans() > 0
	})
	t.Logf("%d traces of 4 spans, %d links absent, %v requests lost on this host", n, absent, p.lostSpans())
	item := n - 1
	last := fmt.Sprintf("{ %s && kind = server && span.url.path = %q }", own, "/item/"+strconv.Itoa(item))
	if got := p.search(last); absent == 0 && (len(got) != 1 || got[0] != trace(item)) {
		t.Errorf("%s: got %v, want the trace %s", last, got, trace(item))
	}
	// Spans do not make the edges a second time.
	p.finds(`vedette_ingest_spanmetrics_skipped_spans_total{reason="probe"} > 0`)
	p.counts(`traces_service_graph_request_total{client="nginx",server="`+c.name+`"}`, n)
	p.stop()
}

// absent counts the links that the trace of an item lacks. A wrong one fails the
// test.
func (c *chain) absent(p *process, item int, trace, parent string) (n int) {
	c.t.Helper()
	hops, way := p.hops(trace), c.way(item)
	for _, at := range way {
		h, ok := hops[at]
		switch {
		case !ok || h.parent == "":
			n++
		case parent != "" && h.parent != parent:
			c.t.Fatalf("item %d: %s: parent %s, want %s: %v", item, at, h.parent, parent, hops)
		}
		parent = h.id
	}
	for at := range hops {
		if !slices.Contains(way, at) {
			c.t.Fatalf("item %d: %s is in its trace", item, at)
		}
	}
	return n
}

// way lists the spans of an item's request, first to last.
func (c *chain) way(item int) []string {
	path := "/item/" + strconv.Itoa(item)
	return []string{
		"Client 127.0.0.1:" + c.nginx + "/app" + path, "Server nginx /app" + path,
		"Client 127.0.0.1:" + c.service + path, "Server " + c.name + " " + path,
	}
}

// hops gives the spans of a trace as way names them.
func (p *process) hops(trace string) map[string]hop {
	p.t.Helper()
	code, _, body := p.send("GET", "/tempo/api/traces/"+trace, nil, "Accept", "application/protobuf")
	if code == http.StatusNotFound {
		return nil
	}
	out := map[string]hop{}
	for _, rs := range unmarshalTraces(p.t, []byte(body)).ResourceSpans().All() {
		name, _ := rs.Resource().Attributes().Get("service.name")
		for _, ss := range rs.ScopeSpans().All() {
			for _, s := range ss.Spans().All() {
				at := s.Kind().String() + " " + name.AsString() + " "
				if path, ok := s.Attributes().Get("url.path"); ok {
					at += path.Str()
				}
				if full, ok := s.Attributes().Get("url.full"); ok {
					at = s.Kind().String() + " " + strings.TrimPrefix(full.Str(), "http://")
				}
				if _, twice := out[at]; twice {
					p.t.Errorf("trace %s: %s is there twice", trace, at)
				}
				out[at] = hop{id: s.SpanID().String(), parent: s.ParentSpanID().String()}
			}
		}
	}
	return out
}

// lostSpans gives how many requests of this host became no spans, and how many spans
// have no parent because of what was lost: then it is not known who was first to
// send a header.
func (p *process) lostSpans() float64 {
	p.t.Helper()
	lost, _ := p.value("vedette_ebpf_span_lost_total")
	doubted, _ := p.value("vedette_ebpf_span_doubted_parents_total")
	return lost + doubted
}
