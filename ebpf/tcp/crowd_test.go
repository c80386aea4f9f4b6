package tcp

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

// crawl connects once to each of 400 addresses, all of this host, and to as many
// that nobody listens at, until its standard input ends.
func crawl() {
	for i := range 400 {
		for _, port := range os.Args[1:] {
			if c, err := net.Dial("tcp", fmt.Sprintf("127.1.%d.%d:%s", i/200, i%200+1, port)); err == nil {
				c.Close()
			}
		}
	}
	fmt.Println("done")
	bufio.NewScanner(os.Stdin).Scan()
}

// A process that asks any number of addresses leaves room for others.
func TestTCPCrawler(t *testing.T) {
	reg := startPrograms(t)
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	_, open, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	line, _ := featuretest.StartRole(t, "crawl", open, featuretest.FreePort(t))
	require.Equal(t, "done", line)
	crawler := map[string]string{"service_name": "test-crawl", "side": "client"}
	featuretest.RequireCounter(t, reg, "tcp_connections_opened_total", crawler, 400)
	featuretest.RequireCounter(t, reg, "tcp_connect_errors_total", crawler, 400)
	series := 0
	for _, name := range []string{"tcp_connections_opened_total", "tcp_connect_errors_total"} {
		all := featuretest.Family(t, reg, name, crawler)
		crawler["server_address"], crawler["server_port"] = "_OTHER", ""
		rest := featuretest.Family(t, reg, name, crawler)
		require.Len(t, rest, 1, name)
		require.Greater(t, rest[0].GetCounter().GetValue(), 200.0, name)
		delete(crawler, "server_address")
		delete(crawler, "server_port")
		series += len(all)
	}
	require.LessOrEqual(t, series, 256+2)
}
