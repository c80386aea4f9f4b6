package http1

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

// crawl is the role crawl: asks each of 400 addresses, all of this host, for each
// line of its standard input.
func crawl() {
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	lines := bufio.NewScanner(os.Stdin)
	for {
		said := "done"
		for i := range 400 {
			resp, err := c.Get(fmt.Sprintf("http://127.1.%d.%d:%s", i/200, i%200+1, os.Args[1]))
			if err != nil {
				said = err.Error()
				break
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		fmt.Println(said)
		if !lines.Scan() {
			return
		}
	}
}

// A process that asks any number of servers leaves room for others: what it has
// asked of most of them is one series, and leaves the kernel.
func TestHTTPCrawler(t *testing.T) {
	f := newFeature(t)
	reg := featuretest.Start(t, f, nil)
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	require.NoError(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go server.Serve(l)
	defer server.Close()
	line, _ := featuretest.StartRole(t, "crawl", featuretest.PortOf(t, l.Addr().String()))
	require.Equal(t, "done", line)
	who := map[string]string{"service_name": "test-crawl"}
	count := func(want map[string]string) (n uint64, series int) {
		all := featuretest.Family(t, reg, "http_client_request_duration_seconds", want)
		for _, m := range all {
			n += m.GetHistogram().GetSampleCount()
		}
		return n, len(all)
	}
	require.Eventually(t, func() bool { n, _ := count(who); return n >= 400 }, time.Minute, 10*time.Millisecond)
	check := func() {
		t.Helper()
		n, series := count(who)
		require.EqualValues(t, 400, n)
		require.Equal(t, maxRemotes+1, series)
		n, series = count(map[string]string{"service_name": "test-crawl", "server_address": other, "server_port": ""})
		require.EqualValues(t, 400-maxRemotes, n)
		require.Equal(t, 1, series)
		var edges uint64
		require.NoError(t, featuretest.Edges(f, func(e *feature.Edge) {
			if e.Client == "test-crawl" && e.Server == other {
				edges += e.Requests
			}
		}))
		require.EqualValues(t, 400-maxRemotes, edges)
	}
	crawled := netip.MustParsePrefix("127.1.0.0/16")
	kept := func() (n int) {
		require.NoError(t, feature.EachEntry(f.objects.Maps[bpf.HttpMapRequests], func(k bpf.HttpHttpKey, _ *bpf.HttpHttpValue) {
			if feature.AddrOf(k.Addr).Is4() && crawled.Contains(feature.AddrOf(k.Addr)) { // others ask by IPv6, too
				n++
			}
		}))
		return n
	}
	check()
	require.Equal(t, 400, kept())
	f.Sweep(time.Now())
	check()
	require.Equal(t, 400, kept(), "they may count on")
	f.Sweep(time.Now())
	check()
	require.Equal(t, maxRemotes+1, kept())
	f.Sweep(time.Now().Add(time.Hour))
	f.Sweep(time.Now().Add(2 * time.Hour))
	check() // as long as the process lives
}
