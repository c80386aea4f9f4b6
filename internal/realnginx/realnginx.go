// Package realnginx starts a real nginx for tests and benchmarks, and reads what
// its workers cost.
//
// It listens on loopback at a port that the system chose, runs as the user that
// starts it, writes nowhere but to its folder, and ends with the process that
// started it.
package realnginx

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/internal/freeport"
)

// Workers is how many workers answer unless Config says another number.
const Workers = 2

// patience is how long a start may take.
const patience = 20 * time.Second

const config = `user root;
daemon off;
worker_processes %[1]d;
pid %[2]s/pid;
error_log %[2]s/error.log;
events { worker_connections 512; }
http {
	access_log off;
	sendfile on;
	keepalive_requests 1000000000;
	client_body_temp_path %[2]s/body;
	proxy_temp_path %[2]s/proxy;
	fastcgi_temp_path %[2]s/fastcgi;
	uwsgi_temp_path %[2]s/uwsgi;
	scgi_temp_path %[2]s/scgi;
	%[3]s
	server {
		%[4]s
		root %[2]s;
		%[5]s
	}
}
`

// Config of Start.
type Config struct {
	// Executable is nginx's path.
	Executable string
	// Dir is where its files are, and those it serves. It is made.
	Dir string
	// Listen is what follows the address where it listens, such as ssl.
	Listen string
	// IPv6: it listens on ::1, too.
	IPv6 bool
	// Workers is how many workers answer; 0: as many as the constant says.
	Workers int
	// HTTP and Server are what there is besides in the blocks of those names.
	HTTP, Server string
}

// Server is an nginx that answers.
type Server struct {
	// Port is where it listens.
	Port string

	want    int // workers
	cmd     *exec.Cmd
	said    bytes.Buffer  // read when ended is closed
	ended   chan struct{} // closed when it has ended
	workers []int
}

// Start starts nginx and waits for it to answer, or for ctx.
func Start(ctx context.Context, c Config) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s, err := start(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("start nginx: %w", err)
	}
	return s, nil
}

func start(ctx context.Context, c Config) (_ *Server, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err // nginx can answer before a wait would look at ctx
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, err
	}
	port, err := freeport.Reserve()
	if err != nil {
		return nil, err
	}
	defer port.Release() // it listens by then
	s := &Server{Port: port.Text(), ended: make(chan struct{}), want: cmp.Or(c.Workers, Workers)}
	listen := "listen 127.0.0.1:" + s.Port + " " + c.Listen + ";"
	if c.IPv6 {
		listen += " listen [::1]:" + s.Port + " " + c.Listen + ";"
	}
	file, pid := filepath.Join(c.Dir, "nginx.conf"), filepath.Join(c.Dir, "pid")
	if err := os.Remove(pid); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := os.WriteFile(file, fmt.Appendf(nil, config, s.want, c.Dir, c.HTTP, listen, c.Server), 0o644); err != nil {
		return nil, err
	}
	s.cmd = exec.Command(c.Executable, "-c", file, "-p", c.Dir)
	s.cmd.Stderr = &s.said
	if err := s.begin(); err != nil {
		return nil, err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !s.answers(pid) {
		select {
		case <-tick.C:
		case <-s.ended:
			return nil, fmt.Errorf("it has ended: %s", &s.said)
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), s.Stop())
		}
	}
	return s, nil
}

// begin starts the process. It ends with this one, which Linux counts by the thread
// that started it: a goroutine keeps that one.
func (s *Server) begin() error {
	began := make(chan error, 1)
	go func() {
		defer close(s.ended)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		err := s.cmd.Start()
		began <- err
		if err == nil {
			_ = s.cmd.Wait() // an interrupted one says so
		}
	}()
	return <-began
}

// answers says whether it has its port, which is when it writes its number down, and
// its workers.
func (s *Server) answers(pid string) bool {
	if b, err := os.ReadFile(pid); err != nil || len(bytes.TrimSpace(b)) == 0 {
		return false
	}
	workers, err := children(s.cmd.Process.Pid)
	if err != nil || len(workers) != s.want {
		return false
	}
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		return false
	}
	s.workers = workers
	return c.Close() == nil
}

// Addr is where it listens.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", s.Port) }

// Stop ends it, and waits for the end.
func (s *Server) Stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop nginx: %w", err)
	}
	<-s.ended
	return nil
}

// Pin keeps the workers on one processor.
func (s *Server) Pin(processor int) error {
	var set unix.CPUSet
	set.Set(processor)
	for _, pid := range s.workers {
		if err := unix.SchedSetaffinity(pid, &set); err != nil {
			return fmt.Errorf("keep nginx on processor %d: %w", processor, err)
		}
	}
	return nil
}

// Processor gives the time that the workers have run so far.
func (s *Server) Processor() (time.Duration, error) {
	var sum time.Duration
	for _, pid := range s.workers {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
		if err != nil {
			return 0, fmt.Errorf("read nginx's processor time: %w", err)
		}
		first, _, _ := strings.Cut(string(b), " ")
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read nginx's processor time: %w", err)
		}
		sum += time.Duration(n)
	}
	return sum, nil
}

// children lists the processes that parent has started.
func children(parent int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // gone
		}
		// The name may hold anything: fields are counted from its end.
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(fields) < 2 || fields[1] != strconv.Itoa(parent) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}
