package http1

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

// Ways of which the programs see when a process lets go of a socket.
var holding = []string{"tracepoints", "fexit", "fexit bounded"}

// TestAnswerToTheGone wants a request to be counted once when its client has gone
// before the answer: on one host the reset comes back while the answer is written.
func TestAnswerToTheGone(t *testing.T) {
	for _, name := range holding {
		t.Run(name, func(t *testing.T) {
			f := newFeature(t)
			f.only = name
			reg := featuretest.Start(t, f, nil)
			addr, _ := featuretest.StartRole(t, "late answer")
			want := countsOn(t, reg, "server", featuretest.PortOf(t, addr)) // of a server that is gone
			const n = 20
			for range n {
				c, err := net.Dial("tcp", addr)
				require.NoError(t, err)
				_, err = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nsome")
				require.NoError(t, err)
				require.NoError(t, c.Close())
			}
			want["POST 400"] += n
			requireCounts(t, reg, "server", featuretest.PortOf(t, addr), want)
		})
	}
}

// lateAnswer is a server that reads until its client has gone, and answers then.
func lateAnswer() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(l.Addr())
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, c)
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbad")
			c.Close()
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// TestReadAfterReset wants the status of an answer to be told that a client reads
// after its connection was reset, as a server does that has refused the body; and no
// status where it never reads it.
func TestReadAfterReset(t *testing.T) {
	for _, name := range holding {
		t.Run(name, func(t *testing.T) {
			f := newFeature(t)
			f.only = name
			reg := featuretest.Start(t, f, nil)
			said, _ := featuretest.StartRole(t, "refused client")
			addr, failure, _ := strings.Cut(said, " ")
			require.Empty(t, failure)
			requireCounts(t, reg, "client", featuretest.PortOf(t, addr), counts{"POST 413": 20, "POST ": 10})
			requireCounts(t, reg, "server", featuretest.PortOf(t, addr), counts{"POST 413": 30})
		})
	}
}

// refusedClient sends bodies that its server does not read, and reads the answers once
// TCP has done with the connection.
func refusedClient() {
	said := ""
	err := func() error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		said = l.Addr().String()
		for i := range 30 {
			c, err := net.Dial("tcp", said)
			if err != nil {
				return err
			}
			s, err := l.Accept()
			if err != nil {
				return err
			}
			if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n"+strings.Repeat("x", 2000)); err != nil {
				return err
			}
			if _, err := s.Read(make([]byte, 100)); err != nil {
				return err
			}
			if _, err := io.WriteString(s, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"); err != nil {
				return err
			}
			if err := s.Close(); err != nil { // with data unread: it resets
				return err
			}
			if err := waitForEnd(c.(*net.TCPConn)); err != nil {
				return err
			}
			if i < 20 {
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					return err
				}
				if resp.StatusCode != 413 {
					return fmt.Errorf("read the answer: got %s", resp.Status)
				}
			}
			if err := c.Close(); err != nil {
				return err
			}
		}
		return nil
	}()
	if err != nil {
		said += " " + err.Error()
	}
	fmt.Println(said)
	_, _ = io.Copy(io.Discard, os.Stdin)
}
