package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// link is two network namespaces, the agent's and the server's, and the wire
// between them.
type link struct {
	t             *testing.T
	agent, server string // names of the namespaces
}

// Addresses of the two ends.
const (
	agentIP  = "10.254.77.1"
	serverIP = "10.254.77.2"
)

// newLink makes the namespaces, which go with the test, or skips it.
func newLink(t *testing.T) *link {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces take root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("ip (iproute2) is missing")
	}
	l := &link{t, fmt.Sprintf("vdt-a-%d", os.Getpid()), fmt.Sprintf("vdt-s-%d", os.Getpid())}
	for _, ns := range []string{l.agent, l.server} {
		if out, err := exec.Command("ip", "netns", "add", ns).CombinedOutput(); err != nil {
			t.Skipf("no right to make network namespaces: %v: %s", err, out)
		}
		t.Cleanup(func() {
			if out, err := exec.Command("ip", "netns", "del", ns).CombinedOutput(); err != nil {
				t.Errorf("remove network namespace: %v: %s", err, out)
			}
		})
		l.ip("-n", ns, "link", "set", "lo", "up")
	}
	l.ip("link", "add", "v0", "netns", l.agent, "type", "veth", "peer", "name", "v0", "netns", l.server)
	for ns, ip := range map[string]string{l.agent: agentIP, l.server: serverIP} {
		l.ip("-n", ns, "addr", "add", ip+"/24", "dev", "v0")
		l.ip("-n", ns, "link", "set", "v0", "up")
	}
	return l
}

func (l *link) ip(args ...string) {
	l.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		l.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// cut takes the wire away at the agent's end.
func (l *link) cut() { l.t.Helper(); l.ip("-n", l.agent, "link", "set", "v0", "down") }

// mend puts it back.
func (l *link) mend() { l.t.Helper(); l.ip("-n", l.agent, "link", "set", "v0", "up") }

// loseAnswers lets everything get to the server and nothing back.
func (l *link) loseAnswers() {
	l.t.Helper()
	l.ip("-n", l.server, "route", "add", "blackhole", agentIP+"/32")
}

// loseRequests lets nothing get to the server, silently.
func (l *link) loseRequests() {
	l.t.Helper()
	l.ip("-n", l.agent, "route", "add", "blackhole", serverIP+"/32")
}

func (l *link) findAnswers() {
	l.t.Helper()
	l.ip("-n", l.server, "route", "del", "blackhole", agentIP+"/32")
}

func (l *link) findRequests() {
	l.t.Helper()
	l.ip("-n", l.agent, "route", "del", "blackhole", serverIP+"/32")
}

// in is the command line that runs another one in a namespace.
func (l *link) in(ns string, command ...string) []string {
	return append([]string{"ip", "netns", "exec", ns, os.Args[0]}, command...)
}

// client sends requests from within a namespace.
func (l *link) client(ns string) *http.Client {
	dial := func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			// The thread is not given back: it is in the wrong namespace.
			runtime.LockOSThread()
			var f *os.File
			if f, err = os.Open("/run/netns/" + ns); err != nil {
				return
			}
			defer f.Close()
			if err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err == nil {
				conn, err = new(net.Dialer).DialContext(ctx, network, address)
			}
		}()
		<-done
		return conn, err
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial}}
}
