package http1

import (
	"bufio"
	"bytes"
	"io"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

// startProgram starts a program that says a line when it is ready and stays until its
// standard input ends, or skips the test.
func startProgram(t *testing.T, program string, args ...string) (line string) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skip(program, " is missing")
	}
	if program == "java" { // it compiles the source: begin soon rather than run fast
		args = append([]string{"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m"}, args...)
	}
	cmd := exec.Command(path, args...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	if line, err = bufio.NewReader(out).ReadString('\n'); err != nil {
		in.Close()
		_ = cmd.Wait()
		t.Fatalf("start %s: %v\n%s", program, err, &complaint)
	}
	return strings.TrimSpace(line)
}

// TestHTTPOtherServers wants the requests that servers of other languages were sent, each
// with its own way to read and write: Python's threads, Node's event loop, Java's
// channels.
func TestHTTPOtherServers(t *testing.T) {
	reg := start(t, nil)
	for _, tc := range []struct{ program, file string }{
		{"python3", "server.py"}, {"node", "server.js"}, {"java", "Server.java"},
	} {
		t.Run(tc.program, func(t *testing.T) {
			port := startProgram(t, tc.program, "testdata/"+tc.file)
			want := countsOn(t, reg, "server", port) // a server that is gone may have had this port
			at := "http://127.0.0.1:" + port
			c, once := featuretest.NewClient(t, true), featuretest.NewClient(t, false)
			for i := range 50 {
				featuretest.Get(t, c, "GET", at+"/status/200", nil)
				featuretest.Get(t, c, "GET", at+"/status/404", nil)
				featuretest.Get(t, c, "HEAD", at+"/status/200", nil)
				featuretest.Get(t, c, "DELETE", at+"/status/204", nil)
				featuretest.Get(t, c, "POST", at+"/echo", bytes.NewReader(make([]byte, i*1000)))
				featuretest.Get(t, c, "POST", at+"/echo", io.LimitReader(endless{}, int64(i*1000))) // in chunks
				featuretest.Get(t, once, "GET", at+"/status/503", nil)
			}
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					for range 20 {
						featuretest.Get(t, c, "GET", at+"/status/202", nil)
					}
				})
			}
			wg.Wait()
			for kind, n := range (counts{"GET 200": 50, "GET 404": 50, "HEAD 200": 50, "DELETE 204": 50, "POST 200": 100, "GET 503": 50, "GET 202": 200}) {
				want[kind] += n
			}
			requireCounts(t, reg, "server", port, want)
		})
	}
}

// TestHTTPOtherClients wants the requests that clients of other languages sent, on both
// sides.
func TestHTTPOtherClients(t *testing.T) {
	reg := start(t, nil)
	for _, tc := range []struct {
		program, file string
		want          counts
	}{
		{"python3", "client.py", counts{"POST 200": 20, "GET 200": 20, "GET 404": 40}},
		{"node", "client.js", counts{"POST 200": 20, "GET 200": 20, "GET 404": 40}},
		{"java", "Client.java", counts{"POST 200": 20, "GET 200": 40, "GET 404": 40}},
	} {
		t.Run(tc.program, func(t *testing.T) {
			addr, _ := featuretest.StartRole(t, "server", "4")
			port := featuretest.PortOf(t, addr)
			want := map[string]counts{"server": countsOn(t, reg, "server", port), "client": countsOn(t, reg, "client", port)}
			require.Equal(t, "done", startProgram(t, tc.program, "testdata/"+tc.file, addr))
			for side, sum := range want {
				for kind, n := range tc.want {
					sum[kind] += n
				}
				requireCounts(t, reg, side, port, sum)
			}
		})
	}
}
