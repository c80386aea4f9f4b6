package http1

import (
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

// TestReadAfterTheEnd wants sockets that were read once TCP had done with them to
// leave nothing to those which the kernel puts at their addresses afterwards, where
// a way keeps what it knows of a socket by its address.
func TestReadAfterTheEnd(t *testing.T) {
	for _, name := range []string{"tracepoints", "system calls"} {
		t.Run(name, func(t *testing.T) {
			f := newFeature(t)
			f.only = name
			reg := featuretest.Start(t, f, nil)
			done, _ := featuretest.StartRole(t, "late reader")
			if done != "done" {
				t.Fatalf("read after the end: got %q", done)
			}
			addr, _ := featuretest.StartRole(t, "server", "4")
			c := featuretest.NewClient(t, false)
			const n = 400
			for range n {
				featuretest.Get(t, c, "GET", "http://"+addr+"/status/200", nil)
			}
			requireCounts(t, reg, "server", featuretest.PortOf(t, addr), counts{"GET 200": n})
		})
	}
}

// lateReader reads from sockets whose state is CLOSE already, all of them open at
// once so that they have as many addresses.
func lateReader() {
	err := func() error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		var ends []*net.TCPConn
		for range 300 {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				return err
			}
			s, err := l.Accept()
			if err != nil {
				return err
			}
			client, server := c.(*net.TCPConn), s.(*net.TCPConn)
			if err := client.CloseWrite(); err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, server); err != nil {
				return err
			}
			// Begins like TLS, so that what is kept of it says to ignore it.
			if _, err := server.Write([]byte("\x16\x03\x01 and more")); err != nil {
				return err
			}
			if err := server.Close(); err != nil {
				return err
			}
			if err := waitForEnd(client); err != nil {
				return err
			}
			ends = append(ends, client)
		}
		for _, c := range ends {
			if _, err := io.Copy(io.Discard, c); err != nil {
				return err
			}
		}
		for _, c := range ends {
			c.Close()
		}
		return nil
	}()
	if err != nil {
		fmt.Println(err)
	} else {
		fmt.Println("done")
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// waitForEnd waits until TCP has done with a connection.
func waitForEnd(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	const closed = 7 // TCP_CLOSE
	for range 1000 {
		var info *unix.TCPInfo
		if cerr := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO) }); cerr != nil || err != nil {
			return fmt.Errorf("ask for a connection's state: %w, %w", cerr, err)
		}
		if info.State == closed {
			return nil
		}
		<-time.After(time.Millisecond)
	}
	return fmt.Errorf("wait for the end of a connection: it did not come")
}
