package http1

import (
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

const undrained = "GET /undrained HTTP/1.1\r\nHost: a\r\n\r\n"

// TestNeverDrained wants requests on a connection that always holds one more to be
// timed from their own arrival. Two are open at any time, so that by Little's law
// the sum of durations is twice the time that it took, whatever the machine does.
func TestNeverDrained(t *testing.T) {
	for _, name := range []string{"tracepoints", "system calls"} {
		t.Run(name, func(t *testing.T) {
			f := newFeature(t)
			f.only = name
			reg := featuretest.Start(t, f, nil)
			addr, _ := featuretest.StartRole(t, "undrained")
			c, err := net.Dial("tcp", addr)
			require.NoError(t, err)
			defer c.Close()
			const n = 300
			began := time.Now()
			_, err = io.WriteString(c, undrained)
			require.NoError(t, err)
			answer := make([]byte, len(undrainedAnswer))
			for i := range n {
				if i < n-1 {
					_, err = io.WriteString(c, undrained)
					require.NoError(t, err)
				}
				_, err = io.ReadFull(c, answer)
				require.NoError(t, err)
			}
			took := time.Since(began)
			port := featuretest.PortOf(t, addr)
			requireCounts(t, reg, "server", port, counts{"GET 200": n})
			m := featuretest.Family(t, reg, "http_server_request_duration_seconds", map[string]string{"server_port": port})
			require.Len(t, m, 1)
			require.LessOrEqual(t, m[0].Histogram.GetSampleSum(), 2*took.Seconds())
		})
	}
}

const undrainedAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

// undrainedServer reads one request at a time of those that have come, and takes
// its time.
func undrainedServer() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(l.Addr())
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		request := make([]byte, len(undrained))
		for {
			if _, err := io.ReadFull(c, request); err != nil {
				return
			}
			<-time.After(2 * time.Millisecond)
			if _, err := io.WriteString(c, undrainedAnswer); err != nil {
				return
			}
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
}
