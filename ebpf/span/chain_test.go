package span

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
	"github.com/vedette-io/vedette/ebpf/http1"
	"github.com/vedette-io/vedette/ebpf/identity"
)

func TestMain(m *testing.M) {
	featuretest.Main(m, map[string]func(){"front": front, "back": back, "driver": driver, "asker": asker})
}

// traceOf and friends are the ids that the driver gives request k.
func traceOf(k int) string  { return fmt.Sprintf("%016x%016x", 0x1234, mix(uint64(k))|1) }
func parentOf(k int) string { return fmt.Sprintf("%016x", mix(uint64(k)+1<<32)|1) }

// childOf is the span id that the front's tracer gives its call.
func childOf(k int) string { return fmt.Sprintf("%016x", mix(uint64(k)+2<<32)|1) }

// driver is the role that sends requests 0 to n-1 to a URL, eight at a time.
func driver() {
	n, _ := strconv.Atoi(os.Args[2])
	client := caller(8, len(os.Args) > 4 && os.Args[4] == "2")
	next := make(chan int)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for k := range next {
				req, _ := http.NewRequest("GET", fmt.Sprintf("%s/front/%d?secret=1", os.Args[1], k), nil)
				if os.Args[3] != "none" {
					req.Header.Set("traceparent", "00-"+traceOf(k)+"-"+parentOf(k)+"-01")
				}
				ask(client, req)
			}
		})
	}
	for k := range n {
		next <- k
	}
	close(next)
	wg.Wait()
	fmt.Println("done")
	io.Copy(io.Discard, os.Stdin)
}

// caller gives a client that believes any certificate, with HTTP/1.1 or HTTP/2.
func caller(connections int, http2 bool) *http.Client {
	p := new(http.Protocols)
	p.SetHTTP1(!http2)
	p.SetHTTP2(http2)
	return &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: connections, Protocols: p, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
}

// asker is the role that asks a URL n times, each over a connection of its own.
func asker() {
	n, _ := strconv.Atoi(os.Args[2])
	for range n {
		client := caller(1, false)
		req, _ := http.NewRequest("GET", os.Args[1], nil)
		ask(client, req)
		client.CloseIdleConnections()
	}
	fmt.Println("done")
	io.Copy(io.Discard, os.Stdin)
}

func ask(client *http.Client, req *http.Request) {
	resp, err := client.Do(req)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}

// front is the role that calls the next server once for each request.
func front() {
	client := caller(16, len(os.Args) > 5 && os.Args[5] == "2")
	answer(func(w http.ResponseWriter, r *http.Request) {
		k := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		req, _ := http.NewRequest("GET", os.Args[1]+"/back/"+k, nil)
		n, _ := strconv.Atoi(k)
		switch os.Args[2] {
		case "forward", "hold":
			req.Header["traceparent"] = r.Header["Traceparent"]
		case "child":
			req.Header.Set("Traceparent", "00-"+traceOf(n)+"-"+childOf(n)+"-01")
		case "unsampled":
			req.Header.Set("Traceparent", "00-"+traceOf(n)+"-"+childOf(n)+"-00")
		}
		ask(client, req)
		if os.Args[2] == "hold" { // what it has asked is long forgotten when it answers
			<-time.After(5 * tick)
		}
		fmt.Fprintln(w, "front")
	})
}

// back is the role at the end of the chain. Some answers take longer than others.
func back() {
	answer(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "7") {
			<-time.After(5 * time.Millisecond)
		}
		fmt.Fprintln(w, "back")
	})
}

func answer(h http.HandlerFunc) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// A certificate and its key are the last arguments of those that serve TLS.
	if n := len(os.Args); n > 2 && strings.HasSuffix(os.Args[n-1], ".pem") {
		go http.ServeTLS(l, h, os.Args[n-2], os.Args[n-1])
	} else {
		go http.Serve(l, h)
	}
	fmt.Println(l.Addr())
	io.Copy(io.Discard, os.Stdin)
}

// heard checks what the kernel decided against Wanted.
type heard struct {
	*Recorder
	mu     sync.Mutex
	strays int
}

func (h *heard) Add(c *feature.Call) {
	if !h.Wanted(c.Traceparent, c.Seq, c.Local, c.Peer) {
		h.mu.Lock()
		h.strays++
		h.mu.Unlock()
	}
	h.Recorder.Add(c)
}

// watcher is a recorder over the feature http, and what it has written.
type watcher struct {
	*heard
	reg *prometheus.Registry

	mu    sync.Mutex
	spans []*tracepb.Span
}

func watch(t *testing.T, ratio float64) *watcher {
	t.Helper()
	b, err := feature.NewBuckets([]float64{1})
	require.NoError(t, err)
	return watchAll(t, ratio, http1.New(b))
}

// watchAll is watch over some features, of which the last one's metrics are there.
func watchAll(t *testing.T, ratio float64, features ...feature.Feature) *watcher {
	t.Helper()
	w := &watcher{}
	c := DefaultConfig()
	c.Ratio, c.Wait = ratio, 2*tick
	require.NoError(t, c.Validate())
	w.heard = &heard{Recorder: New(Options{
		Config: c, Resolver: identity.New("/proc", nil), Write: w.take, Logger: slog.New(slog.DiscardHandler),
	})}
	for _, f := range features {
		w.reg = featuretest.Start(t, f, func(env *feature.Environment) { env.Calls = w.heard })
		w.Watch(f.(feature.Opener))
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return w
}

func (w *watcher) take(_ context.Context, payload []byte) error {
	var req collectortrace.ExportTraceServiceRequest
	if err := proto.Unmarshal(payload, &req); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, rs := range req.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			w.spans = append(w.spans, ss.Spans...)
		}
	}
	return nil
}

// await gives what was written about paths of the chain, once it is as much as
// wanted, by place in the chain: "client /app/front/7".
func (w *watcher) await(t *testing.T, want int) map[string]*tracepb.Span {
	t.Helper()
	var got map[string]*tracepb.Span
	deadline := time.Now().Add(30 * time.Second)
	for {
		got = make(map[string]*tracepb.Span)
		w.mu.Lock()
		for _, s := range w.spans {
			path := attr(s, "url.path")
			if full := attr(s, "url.full"); full != "" {
				_, rest, _ := strings.Cut(full, "://")
				path = rest[strings.IndexByte(rest, '/'):]
			}
			if !strings.Contains(path, "front/") && !strings.Contains(path, "back/") {
				continue
			}
			key := strings.ToLower(strings.TrimPrefix(s.Kind.String(), "SPAN_KIND_")) + " " + path
			require.NotContains(t, got, key, "the same span twice")
			got[key] = s
		}
		w.mu.Unlock()
		if len(got) >= want || time.Now().After(deadline) {
			break
		}
		<-time.After(50 * time.Millisecond)
	}
	if len(got) != want {
		for _, m := range featuretest.Family(t, w.reg, "vedette_ebpf_span_lost_total", nil) {
			t.Log("lost", featuretest.Label(m, "reason"), m.Counter.GetValue())
		}
	}
	w.heard.mu.Lock()
	defer w.heard.mu.Unlock()
	require.Zero(t, w.strays, "the kernel keeps what Wanted does not")
	return got
}

func attr(s *tracepb.Span, key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

// chainOf lists the places of request k, first to last.
func chainOf(k int) []string {
	return []string{
		fmt.Sprintf("client /app/front/%d", k), fmt.Sprintf("server /app/front/%d", k),
		fmt.Sprintf("client /front/%d", k), fmt.Sprintf("server /front/%d", k),
		fmt.Sprintf("client /back/%d", k), fmt.Sprintf("server /back/%d", k),
	}
}

// drive sends requests down the chain.
func drive(t *testing.T, mode string, n int) {
	t.Helper()
	last, _ := featuretest.StartRole(t, "back")
	app, _ := featuretest.StartRole(t, "front", "http://"+last, mode)
	port, _ := featuretest.StartNginx(t, app)
	said, _ := featuretest.StartRole(t, "driver", "http://127.0.0.1:"+port+"/app", strconv.Itoa(n), mode)
	require.Equal(t, "done", said)
}

// Every link in a chain of nginx and two Go servers is the one that the
// application made, or is not there; with a traceparent all of them are.
func TestChain(t *testing.T) {
	for _, mode := range []string{"none", "forward", "child", "unsampled", "hold"} {
		t.Run(mode, func(t *testing.T) {
			n := 200
			if mode == "hold" {
				n = 8
			}
			w := watch(t, 1)
			drive(t, mode, n)
			got := w.await(t, 6*n)
			right, absent := checkLinks(t, got, mode, n)
			for i, at := range chainOf(1) {
				t.Logf("%s%s %s", strings.Repeat("  ", i), at, attr(got[at], "url.full"))
			}
			t.Logf("%d spans, %d links right, %d absent, none wrong", len(got), right, absent)
			require.Len(t, got, 6*n)
			switch {
			case mode == "none":
				require.Equal(t, 3*n, right)
			case w.lost(t) > 0:
				// of others on this host: nobody knows then who was first
				require.GreaterOrEqual(t, right, 4*n)
			default:
				require.Equal(t, 6*n, right)
			}
		})
	}
}

// checkLinks wants every link to be the one that the application made, or absent.
func checkLinks(t *testing.T, got map[string]*tracepb.Span, mode string, n int) (right, absent int) {
	t.Helper()
	ids := make(map[string]string)
	for at, s := range got {
		require.NotContains(t, ids, string(s.SpanId), "%s has the id of %s", at, ids[string(s.SpanId)])
		ids[string(s.SpanId)] = at
	}
	for k := range n {
		before := map[string]string{} // the true parents
		chain := chainOf(k)
		for i, at := range chain {
			if s := got[at]; s != nil && i > 0 && got[chain[i-1]] != nil {
				before[at] = hex.EncodeToString(got[chain[i-1]].SpanId)
			}
		}
		if mode != "none" {
			before[chain[0]] = parentOf(k)
		}
		if mode == "child" {
			before[chain[4]] = childOf(k)
		}
		for _, at := range chain {
			s := got[at]
			if s == nil {
				continue
			}
			if mode != "none" {
				require.Equal(t, traceOf(k), hex.EncodeToString(s.TraceId), at)
			}
			switch parent := hex.EncodeToString(s.ParentSpanId); parent {
			case "":
				if absent++; absent <= 8 && mode != "none" {
					t.Logf("%s has no parent", at)
				}
			case before[at]:
				right++
			default:
				t.Fatalf("%s: wrong parent %s, want %s", at, parent, before[at])
			}
		}
	}
	return right, absent
}

func (w *watcher) lost(t *testing.T) (n float64) {
	for _, m := range featuretest.Family(t, w.reg, "vedette_ebpf_span_lost_total", nil) {
		n += m.Counter.GetValue()
	}
	return n
}

// Half of the traces are kept, each whole: those that Wanted names.
func TestSampledChain(t *testing.T) {
	const n = 300
	w := watch(t, 0.5)
	wanted := 0
	for k := range n {
		if w.Wanted("00-"+traceOf(k)+"-"+parentOf(k)+"-01", 0, netip.AddrPort{}, netip.AddrPort{}) {
			wanted++
		}
	}
	require.InDelta(t, n/2, wanted, n/8)
	drive(t, "child", n)
	got := w.await(t, 6*wanted)
	require.Len(t, got, 6*wanted)
	for k := range n {
		keep := w.Wanted("00-"+traceOf(k)+"-"+parentOf(k)+"-01", 0, netip.AddrPort{}, netip.AddrPort{})
		for _, at := range chainOf(k) {
			require.Equal(t, keep, got[at] != nil, at)
		}
	}
}

// Without a traceparent both ends of a connection decide alike.
func TestSampledConnections(t *testing.T) {
	const n = 300
	w := watch(t, 0.5)
	drive(t, "none", n)
	<-time.After(5 * tick) // nothing says that all have come
	got := w.await(t, 0)
	require.InDelta(t, 3*n, len(got), n)
	for at := range got {
		other := strings.Replace(at, "client", "server", 1)
		if strings.HasPrefix(at, "server") {
			other = strings.Replace(at, "server", "client", 1)
		}
		require.Contains(t, got, other)
		require.Equal(t, got[at].TraceId, got[other].TraceId)
	}
}

// In another network namespace, whose loopback has the same addresses.
func TestNetworkNamespace(t *testing.T) {
	w := watch(t, 1)
	featuretest.StartRole(t, "namespace")
	count := func() (clients, joined int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		ids := make(map[string]bool)
		for _, s := range w.spans {
			if s.Kind == tracepb.Span_SPAN_KIND_CLIENT {
				ids[string(s.SpanId)] = true
			}
		}
		for _, s := range w.spans {
			if s.Kind == tracepb.Span_SPAN_KIND_SERVER && ids[string(s.ParentSpanId)] {
				joined++
			}
		}
		return len(ids), joined
	}
	require.Eventually(t, func() bool {
		clients, joined := count()
		return clients >= 50 && joined >= 50
	}, 20*time.Second, 50*time.Millisecond)
}
