// Package etcdtest runs a real etcd server for tests.
//
// The server is a process of its own on loopback with its data in the test's
// directory; it can be killed and started again at the same address. A test
// that asks for one is skipped where there is no etcd; make test-tools fetches
// it where there is apt-get.
package etcdtest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/vedette-io/vedette/internal/freeport"
)

// noPeers lets etcd listen on any port for peers, for there are none.
const noPeers = "http://127.0.0.1:0"

// Server is an etcd of one member.
type Server struct {
	Client *clientv3.Client // without a login

	t       testing.TB
	program string
	address string
	dir     string
	certs   *Certs // nil without TLS
	out     *bytes.Buffer
	cmd     *exec.Cmd
	exited  chan struct{}
}

// Start starts a server that ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	return start(t, nil)
}

// StartTLS starts a server that wants a certificate of its clients.
func StartTLS(t testing.TB) (*Server, *Certs) {
	t.Helper()
	certs := newCerts(t)
	return start(t, certs), certs
}

func start(t testing.TB, certs *Certs) *Server {
	t.Helper()
	s := &Server{t: t, program: Find(t, "etcd"), dir: t.TempDir(), certs: certs}
	t.Cleanup(s.Kill)
	port, err := freeport.Reserve() // for starts to come, too
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(port.Release)
	s.address = port.Addr()
	if !s.tryRun() {
		t.Fatalf("start etcd: %s", s.out)
	}
	s.Client = s.connect()
	return s
}

// Find returns the path of one of etcd's programs, or skips the test.
func Find(t testing.TB, program string) string {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	unpacked := filepath.Join(filepath.Dir(file), "../../../.cache/tools/usr/bin", program)
	for _, name := range []string{program, unpacked} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skipf("%s is not here; make test-tools fetches it where there is apt-get", program)
	return ""
}

// Address returns host:port of the server.
func (s *Server) Address() string { return s.address }

// Kill ends the server as a crash does, and waits until it is gone.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.exited
	s.cmd = nil
}

// Restart starts the server again after Kill.
func (s *Server) Restart() {
	s.t.Helper()
	if !s.tryRun() {
		s.t.Fatalf("restart etcd: %s", s.out)
	}
}

// Wipe deletes the data of a server that was killed, so that a restart begins
// at revision 1.
func (s *Server) Wipe() {
	s.t.Helper()
	if err := os.RemoveAll(filepath.Join(s.dir, "data")); err != nil {
		s.t.Fatal(err)
	}
}

// tryRun starts the process and waits until it answers or ends.
func (s *Server) tryRun() bool {
	s.t.Helper()
	s.out = &bytes.Buffer{}
	url := "http://" + s.address
	var secure []string
	if s.certs != nil {
		url = "https://" + s.address
		secure = []string{"--client-cert-auth", "--trusted-ca-file=" + s.certs.CA, "--cert-file=" + s.certs.Cert, "--key-file=" + s.certs.Key}
	}
	args := append(secure, "--data-dir="+filepath.Join(s.dir, "data"),
		"--listen-client-urls="+url, "--advertise-client-urls="+url,
		"--listen-peer-urls="+noPeers, "--initial-advertise-peer-urls="+noPeers, "--initial-cluster=default="+noPeers)
	s.cmd = exec.Command(s.program, args...)
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	exited := make(chan struct{})
	s.exited = exited
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait() // it is killed
		close(exited)
	}(s.cmd)
	client := s.connect()
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		attempt, stop := context.WithTimeout(ctx, 500*time.Millisecond)
		_, err := client.Get(attempt, "ready")
		stop()
		if err == nil {
			return true
		}
		select {
		case <-exited:
			return false
		case <-attempt.Done():
		}
	}
	s.Kill()
	return false
}

func (s *Server) connect() *clientv3.Client {
	s.t.Helper()
	cfg := clientv3.Config{Endpoints: []string{s.address}, Logger: zap.NewNop()}
	if s.certs != nil {
		cfg.TLS = s.certs.config
	}
	c, err := clientv3.New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

// Put writes a key under a lease of its own and returns the lease.
func (s *Server) Put(key, value string, ttl time.Duration) clientv3.LeaseID {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	lease, err := s.Client.Grant(ctx, int64(ttl/time.Second))
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.Client.Put(ctx, key, value, clientv3.WithLease(lease.ID)); err != nil {
		s.t.Fatal(err)
	}
	return lease.ID
}
