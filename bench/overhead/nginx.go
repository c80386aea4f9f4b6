package overhead

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is an nginx with two workers that answers /hello.
type server struct {
	addr    string
	cmd     *exec.Cmd
	workers []int
}

const nginxConfig = `user root;
daemon off;
worker_processes 2;
pid %[1]s/pid;
error_log %[1]s/error.log;
events { worker_connections 512; }
http {
	access_log off;
	keepalive_requests 1000000000;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s;
		location /hello { return 200 "hello\n"; }
	}
}
`

// startNginx starts the executable with its files in dir.
func startNginx(ctx context.Context, executable, dir string) (_ *server, err error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("start nginx: %w", err)
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, nginxConfig, dir, addr), 0o644); err != nil {
		return nil, fmt.Errorf("start nginx: %w", err)
	}
	var said bytes.Buffer
	cmd := exec.Command(executable, "-c", file, "-p", dir)
	cmd.Stderr = &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start nginx: %w", err)
	}
	s := &server{addr: addr, cmd: cmd}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	err = until(ctx, 20*time.Second, func() (bool, error) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return false, nil
		}
		return true, c.Close()
	})
	if err != nil {
		return nil, fmt.Errorf("wait for nginx: %w: %s", err, &said)
	}
	s.workers, err = children(cmd.Process.Pid)
	if err == nil && len(s.workers) != 2 {
		err = fmt.Errorf("find nginx's workers: got %d, want 2", len(s.workers))
	}
	return s, err
}

func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop nginx: %w", err)
	}
	_ = s.cmd.Wait() // it says that it was interrupted
	return nil
}

// processor gives the time that the workers have run so far.
func (s *server) processor() (time.Duration, error) {
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
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err != nil {
				return nil, err
			}
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

// until asks every few milliseconds until it is so.
func until(ctx context.Context, patience time.Duration, so func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := so(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
