package span

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
	"github.com/vedette-io/vedette/ebpf/http1"
	"github.com/vedette-io/vedette/ebpf/tls"
)

// The same as TestChain, inside TLS: Go and nginx with OpenSSL, as client and as
// server, HTTP/1.1 and HTTP/2.
func TestChainTLS(t *testing.T) {
	cert, key := featuretest.Certificate(t)
	start := func(scheme string, files ...string) string {
		last, _ := featuretest.StartRole(t, "back", append([]string{"", ""}, files...)...)
		app, _ := featuretest.StartRole(t, "front", append([]string{scheme + "://" + last}, files...)...)
		port, _ := featuretest.StartNginxTLSProxy(t, scheme, app)
		return "https://127.0.0.1:" + port + "/app"
	}
	whole, before := start("https", cert, key), start("http")
	b, err := feature.NewBuckets([]float64{1})
	require.NoError(t, err)
	inside := tls.New(tls.Config{Targets: []string{"nginx", filepath.Base(os.Args[0])}}, []float64{1})
	// what runs already is watched when this returns
	w := watchAll(t, 1, http1.New(b), inside)
	ns := make(map[int]int)
	for i := holdLeg + 1; i < len(legs); i++ {
		url := whole
		if strings.HasSuffix(legs[i].name, "to HTTP") {
			url = before
		}
		ns[i] = 200
		drive(t, url, i, ns[i])
	}
	w.requireChains(t, ns)
}

// A server that does TLS in memory: once it is known as one, both ends join.
func TestMemoryTLS(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is missing")
	}
	cert, key := featuretest.Certificate(t)
	cmd := exec.Command(python, "../tls/testdata/asyncio_server.py", cert, key)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	port, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	port = strings.TrimSpace(port)
	idle, _ := featuretest.StartRole(t, "server") // the client's file is watched before it begins
	require.NotEmpty(t, idle)
	w := watchAll(t, 1, tls.New(tls.Config{Targets: []string{"python3*", filepath.Base(os.Args[0])}}, []float64{1}))
	const n = 20
	asked := 0
	ours := func(s *tracepb.Span) bool {
		return attr(s, "url.path") == "/"+port+"/status/404"
	}
	// joined asks n times and says how many servers have a parent, the right one.
	joined := func() int {
		said, _ := featuretest.StartRole(t, "asker", "https://127.0.0.1:"+port+"/"+port+"/status/404", strconv.Itoa(n))
		require.Equal(t, "done", said)
		asked += n
		right, wrong := 0, 0
		require.Eventually(t, func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			clients, servers := make(map[string]bool), 0
			ids := make(map[string]bool)
			for _, s := range w.spans {
				if !ours(s) {
					continue
				}
				ids[string(s.SpanId)] = true
				if s.Kind == tracepb.Span_SPAN_KIND_CLIENT {
					clients[string(s.SpanId)] = true
				} else {
					servers++
				}
			}
			right, wrong = 0, 0
			for _, s := range w.spans {
				if ours(s) && s.Kind == tracepb.Span_SPAN_KIND_SERVER && len(s.ParentSpanId) > 0 {
					if right++; !clients[string(s.ParentSpanId)] {
						wrong++ // or its client has not come yet
					}
				}
			}
			return len(clients) == asked && servers == asked && len(ids) == 2*asked
		}, time.Minute, 50*time.Millisecond)
		require.Zero(t, wrong, "parents that are no client's")
		return right
	}
	before := joined()
	for before == 0 && asked < 5*n {
		before = joined()
	}
	require.Equal(t, before+n, joined())
}
