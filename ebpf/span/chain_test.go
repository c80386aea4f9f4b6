package span

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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

// leg is one sort of requests down a chain of servers. Each request has a number that
// says whose it is, so that all legs may use the same servers, and tests that run
// elsewhere on this host at the same time are told apart.
type leg struct {
	name   string
	mode   string // what the front makes of a traceparent
	driver bool   // asks by HTTP/2
	front  bool   // likewise
}

const stride, run = 1000, 1_000_000

// numberOf gives request i of a leg, of the test whose process has this id.
func numberOf(pid, leg, i int) int { return pid*run + leg*stride + i }

// legOf is the leg of a request.
func legOf(k int) *leg { return &legs[k%run/stride] }

// legs of TestChain, then those inside TLS, then those that end behind it.
var legs = [...]leg{
	{"none", "none", false, false},
	{"forward", "forward", false, false},
	{"child", "child", false, false},
	{"unsampled", "unsampled", false, false},
	{"hold", "hold", false, false},
	{"none in TLS", "none", false, false},
	{"forward in TLS", "forward", false, false},
	{"child in TLS", "child", false, true},
	{"unsampled in TLS", "unsampled", true, true},
	{"none in TLS HTTP2", "none", true, true},
	{"forward in TLS HTTP2", "forward", true, true},
	{"none from TLS to HTTP", "none", true, false},
	{"forward from TLS to HTTP", "forward", false, false},
}

// holdLeg is the one that takes its time.
const holdLeg = 4

// traceOf and friends are the ids that the driver gives request k.
func traceOf(k int) string  { return fmt.Sprintf("%016x%016x", 0x1234, mix(uint64(k))|1) }
func parentOf(k int) string { return fmt.Sprintf("%016x", mix(uint64(k)+1<<32)|1) }

// childOf is the span id that the front's tracer gives its call.
func childOf(k int) string { return fmt.Sprintf("%016x", mix(uint64(k)+2<<32)|1) }

// driver is the role that sends the first n requests of a leg to a URL, eight at a
// time.
func driver() {
	number, _ := strconv.Atoi(os.Args[2])
	n, _ := strconv.Atoi(os.Args[3])
	pid, _ := strconv.Atoi(os.Args[4])
	client := caller(8, legs[number].driver)
	next := make(chan int)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for k := range next {
				req, _ := http.NewRequest("GET", fmt.Sprintf("%s/front/%d?secret=1", os.Args[1], k), nil)
				if legs[number].mode != "none" {
					req.Header.Set("traceparent", "00-"+traceOf(k)+"-"+parentOf(k)+"-01")
				}
				ask(client, req)
			}
		})
	}
	if number == holdLeg {
		fmt.Println("done") // who waits for the spans need not wait for the answers
	}
	for i := range n {
		next <- numberOf(pid, number, i)
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
	clients := [2]*http.Client{caller(16, false), caller(16, true)}
	answer(func(w http.ResponseWriter, r *http.Request) {
		k := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		req, _ := http.NewRequest("GET", os.Args[1]+"/back/"+k, nil)
		n, _ := strconv.Atoi(k)
		leg := legOf(n)
		switch leg.mode {
		case "forward", "hold":
			req.Header["traceparent"] = r.Header["Traceparent"]
		case "child":
			req.Header.Set("Traceparent", "00-"+traceOf(n)+"-"+childOf(n)+"-01")
		case "unsampled":
			req.Header.Set("Traceparent", "00-"+traceOf(n)+"-"+childOf(n)+"-00")
		}
		client := clients[0]
		if leg.front {
			client = clients[1]
		}
		ask(client, req)
		if leg.mode == "hold" { // what it has asked is long forgotten when it answers
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

// attentive is a feature that knows of open requests, and whether the recorder was
// in doubt for what it had lost: of whatever runs on this host.
type attentive struct {
	feature.Opener
	before atomic.Uint64
	doubt  atomic.Bool
}

func (a *attentive) Open(visit func(*feature.Call)) (uint64, error) {
	lost, err := a.Opener.Open(visit)
	if a.before.Swap(lost) != lost || err != nil {
		a.doubt.Store(true)
	}
	return lost, err
}

// watcher is a recorder over features, and what it has written.
type watcher struct {
	*heard
	openers []*attentive

	mu    sync.Mutex
	spans []*tracepb.Span
}

func watch(t *testing.T, ratio float64) *watcher {
	t.Helper()
	b, err := feature.NewBuckets([]float64{1})
	require.NoError(t, err)
	return watchAll(t, ratio, http1.New(b))
}

// watchAll is watch over some features.
func watchAll(t *testing.T, ratio float64, features ...feature.Feature) *watcher {
	t.Helper()
	w := &watcher{}
	c := DefaultConfig()
	c.Ratio, c.Wait = ratio, 2*tick
	c.Buffer = 1 << 20 // others on this host may ask more than an agent has room for
	require.NoError(t, c.Validate())
	w.heard = &heard{Recorder: New(Options{
		Config: c, Resolver: identity.New("/proc", nil), Write: w.take, Logger: slog.New(slog.DiscardHandler),
	})}
	for _, f := range features {
		featuretest.Start(t, f, func(env *feature.Environment) { env.Calls = w.heard })
		a := &attentive{Opener: f.(feature.Opener)}
		w.openers = append(w.openers, a)
		w.Watch(a)
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
	deadline := time.Now().Add(time.Minute)
	for {
		got = make(map[string]*tracepb.Span)
		w.mu.Lock()
		for _, s := range w.spans {
			path := attr(s, "url.path")
			if full := attr(s, "url.full"); full != "" {
				_, rest, _ := strings.Cut(full, "://")
				path = rest[strings.IndexByte(rest, '/'):]
			}
			if k, err := strconv.Atoi(path[strings.LastIndexByte(path, '/')+1:]); err != nil || k/run != os.Getpid() {
				continue // another's
			}
			key := strings.ToLower(strings.TrimPrefix(s.Kind.String(), "SPAN_KIND_")) + " " + path
			if got[key] != nil {
				w.mu.Unlock()
				t.Fatalf("%s: the same span twice", key)
			}
			got[key] = s
		}
		w.mu.Unlock()
		if len(got) >= want || time.Now().After(deadline) {
			break
		}
		<-time.After(50 * time.Millisecond)
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

// startChain starts servers, and gives the URL of the first one.
func startChain(t *testing.T) string {
	t.Helper()
	last, _ := featuretest.StartRole(t, "back")
	app, _ := featuretest.StartRole(t, "front", "http://"+last)
	port, _ := featuretest.StartNginx(t, app)
	return "http://127.0.0.1:" + port + "/app"
}

// drive sends the first n requests of a leg down the chain.
func drive(t *testing.T, url string, leg, n int) {
	t.Helper()
	said, _ := featuretest.StartRole(t, "driver", url, strconv.Itoa(leg), strconv.Itoa(n), strconv.Itoa(os.Getpid()))
	require.Equal(t, "done", said)
}

// Every link in a chain of nginx and two Go servers is the one that the
// application made, or is not there; with a traceparent all of them are.
func TestChain(t *testing.T) {
	w := watch(t, 1)
	url := startChain(t)
	ns := map[int]int{0: 200, 1: 200, 2: 200, 3: 200, holdLeg: 8}
	drive(t, url, holdLeg, ns[holdLeg])
	for i := range holdLeg {
		drive(t, url, i, ns[i])
	}
	w.requireChains(t, ns)
	for i, at := range chainOf(numberOf(os.Getpid(), 1, 1)) {
		t.Logf("%s%s %s", strings.Repeat("  ", i), at, attr(w.await(t, 0)[at], "url.full"))
	}
}

// requireChains wants all spans of some legs, of each its first requests, with all
// links that can be known.
func (w *watcher) requireChains(t *testing.T, ns map[int]int) {
	t.Helper()
	want := 0
	for _, n := range ns {
		want += 6 * n
	}
	got := w.await(t, want)
	doubt := w.doubt()
	for _, i := range slices.Sorted(maps.Keys(ns)) {
		t.Run(legs[i].name, func(t *testing.T) {
			n := ns[i]
			own := make(map[string]*tracepb.Span)
			missing := ""
			for j := range n {
				for _, at := range chainOf(numberOf(os.Getpid(), i, j)) {
					if own[at] = got[at]; own[at] == nil {
						missing = at
					}
					delete(got, at)
				}
			}
			switch {
			case missing != "" && doubt:
				t.Skipf("%s is missing: others on this host left it no room", missing)
			case missing != "":
				t.Fatalf("%s is missing", missing)
			}
			right, absent := checkLinks(t, own, i, n)
			t.Logf("%d spans, %d links right, %d absent, none wrong", len(own), right, absent)
			switch {
			case legs[i].mode == "none":
				require.Equal(t, 3*n, right)
			case doubt:
				// Something was lost, maybe of others on this host: nobody knows then
				// who was first. The two ends of a connection join all the same.
				require.GreaterOrEqual(t, right, 3*n)
			default:
				require.Equal(t, 6*n, right)
			}
		})
	}
	for at := range got {
		t.Fatalf("%s, and %d more, are too many", at, len(got)-1)
	}
}

// doubt says whether something was lost.
func (w *watcher) doubt() bool {
	w.Recorder.mu.Lock()
	full := w.counts["buffer_full"] > 0
	w.Recorder.mu.Unlock()
	return full || slices.ContainsFunc(w.openers, func(a *attentive) bool { return a.doubt.Load() })
}

// checkLinks wants every link to be the one that the application made, or absent.
func checkLinks(t *testing.T, got map[string]*tracepb.Span, number, n int) (right, absent int) {
	t.Helper()
	mode := legs[number].mode
	ids := make(map[string]string)
	for at, s := range got {
		if is := ids[string(s.SpanId)]; is != "" {
			t.Fatalf("%s has the id of %s", at, is)
		}
		ids[string(s.SpanId)] = at
	}
	for i := range n {
		k := numberOf(os.Getpid(), number, i)
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

// Half of the traces are kept, each whole: those that Wanted names. Without a
// traceparent both ends of a connection decide alike.
func TestSampledChain(t *testing.T) {
	const n, none, child = 300, 0, 2
	w := watch(t, 0.5)
	keep := func(i int) bool {
		k := numberOf(os.Getpid(), child, i)
		return w.Wanted("00-"+traceOf(k)+"-"+parentOf(k)+"-01", 0, netip.AddrPort{}, netip.AddrPort{})
	}
	wanted := 0
	for i := range n {
		if keep(i) {
			wanted++
		}
	}
	require.InDelta(t, n/2, wanted, n/8)
	url := startChain(t)
	drive(t, url, none, n)
	drive(t, url, child, n)
	// What ended first is told first: with the last of these all others have come.
	var got map[string]*tracepb.Span
	chains := func(number int) (in int) {
		for i := range n {
			for _, at := range chainOf(numberOf(os.Getpid(), number, i)) {
				if got[at] != nil {
					in++
				}
			}
		}
		return in
	}
	for deadline := time.Now().Add(time.Minute); chains(child) < 6*wanted && time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
		got = w.await(t, 0)
	}
	if n := chains(child); n < 6*wanted && w.doubt() {
		t.Skipf("%d of %d are missing: others on this host left them no room", 6*wanted-n, 6*wanted)
	}
	for i := range n {
		for _, at := range chainOf(numberOf(os.Getpid(), child, i)) {
			require.Equal(t, keep(i), got[at] != nil, at)
		}
	}
	require.InDelta(t, 3*n, chains(none), n)
	require.Len(t, got, chains(none)+chains(child))
	for at := range got {
		other := strings.Replace(at, "client", "server", 1)
		if strings.HasPrefix(at, "server") {
			other = strings.Replace(at, "server", "client", 1)
		}
		if got[other] == nil {
			t.Fatalf("%s is missing", other)
		}
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
	}, time.Minute, 50*time.Millisecond)
}
