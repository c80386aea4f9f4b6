package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/vedette-io/vedette/internal/freeport"
)

// Names of the servers that Lookup knows.
const (
	Vedette         = "vedette"
	VictoriaMetrics = "victoriametrics"
	Prometheus      = "prometheus"
	Jaeger          = "jaeger"
)

// Spec says how to run one kind of server.
type Spec struct {
	Name    string
	Title   string // as written in reports
	Version string
	Binary  string
	// Prepare writes what the server needs to find before it starts.
	Prepare func(runDir string) error
	// Args are the arguments for a listener address and a run directory, below
	// which the data directory is Data.
	Args  func(addr, runDir string) []string
	Env   []string // beside this process's
	Ready string   // path that answers 200 once the server is ready
	OTLP  string   // path that takes OTLP metrics over HTTP
	// Traces is the path that takes OTLP traces over HTTP, at TracesHost if the
	// server listens at an address of its own for them.
	Traces, TracesHost string
	TracesOnly         bool // takes no metrics
	// Flush makes buffered data reach the disk where the server documents a way.
	Flush func(ctx context.Context, p *Process) error
	// Log lists the paths below the data directory which hold a write-ahead log
	// or buffer; everything else there is the store.
	Log []string
	// StoreSize measures the store where it is not simply the rest of the data
	// directory; it may change the directory and is called last.
	StoreSize func(ctx context.Context, p *Process) (Disk, error)

	config string // of Vedette
}

// Data is the name of the data directory below a run directory.
const Data = "data"

// Process is a running server.
type Process struct {
	Spec
	URL     string // without a trailing slash
	RunDir  string
	Started time.Time
	cmd     *exec.Cmd
	port    *freeport.Port // nobody else gets it before the server listens
	done    chan struct{}
	exit    error // valid once done is closed
	log     *os.File
}

// Start runs the server with data below runDir and returns without waiting for
// it to be ready.
func (s Spec) Start(runDir string) (*Process, error) {
	if err := os.MkdirAll(filepath.Join(runDir, Data), 0o755); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	if s.Prepare != nil {
		if err := s.Prepare(runDir); err != nil {
			return nil, fmt.Errorf("start %s: %w", s.Name, err)
		}
	}
	port, err := freeport.Reserve()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	log, err := os.OpenFile(filepath.Join(runDir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	cmd := exec.Command(s.Binary, s.Args(port.Addr(), runDir)...)
	cmd.Dir, cmd.Env = runDir, append(os.Environ(), s.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	// The server ends with the benchmark, however that ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p := &Process{Spec: s, URL: "http://" + port.Addr(), RunDir: runDir, Started: time.Now(), cmd: cmd, port: port, done: make(chan struct{}), log: log}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", s.Name, err), log.Close())
	}
	go func() {
		p.exit = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// TracesURL is where the server takes OTLP traces over HTTP.
func (p *Process) TracesURL() string {
	base := p.URL
	if p.TracesHost != "" {
		base = "http://" + onHost(p.TracesHost, strings.TrimPrefix(p.URL, "http://"))
	}
	return base + p.Traces
}

// onHost is the same port of another loopback address.
func onHost(host, addr string) string {
	_, port, _ := strings.Cut(addr, ":")
	return host + ":" + port
}

// DataDir returns the server's data directory.
func (p *Process) DataDir() string { return filepath.Join(p.RunDir, Data) }

// errNotReady says that a server took longer than readyPatience.
var errNotReady = fmt.Errorf("not ready after %s", readyPatience)

// readyPatience bounds the wait for a server to be ready.
const readyPatience = 3 * time.Minute

// WaitReady polls until the server says that it is ready and returns how long
// that took since its start.
func (p *Process) WaitReady(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, readyPatience, errNotReady)
	defer cancel()
	err := p.poll(ctx, func() (bool, error) {
		status, _, err := p.Get(ctx, p.Ready)
		return err == nil && status == http.StatusOK, nil
	})
	if err != nil {
		return 0, fmt.Errorf("wait for %s to be ready: %w", p.Name, err)
	}
	return time.Since(p.Started), nil
}

// poll calls done every few milliseconds until it is true, the process ends or
// the context does.
func (p *Process) poll(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.done:
			return fmt.Errorf("process ended (%v), its last words:\n%s", p.exit, p.LastWords())
		case <-tick.C:
		}
	}
}

// LastWords returns the end of the server's log.
func (p *Process) LastWords() string {
	f, err := os.Open(filepath.Join(p.RunDir, "log"))
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > 2000 {
		if _, err := f.Seek(-2000, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Kill ends the process as a power cut would, as far as a signal can.
func (p *Process) Kill() error { return p.end(syscall.SIGKILL, time.Minute) }

// Stop asks the process to end and waits until it has.
func (p *Process) Stop() error { return p.end(syscall.SIGTERM, 2*time.Minute) }

func (p *Process) end(sig syscall.Signal, patience time.Duration) error {
	defer p.log.Close()
	select {
	case <-p.done:
		return nil
	default:
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.Name, err)
	}
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case <-p.done:
		return nil
	case <-timeout.C:
	}
	err := p.cmd.Process.Kill()
	<-p.done
	return errors.Join(fmt.Errorf("stop %s: still running %s after %s", p.Name, patience, sig), err)
}

// Get fetches a path of the server.
func (p *Process) Get(ctx context.Context, path string) (int, []byte, error) {
	return p.do(ctx, http.MethodGet, path)
}

// Post posts nothing to a path of the server and wants a 2xx.
func (p *Process) Post(ctx context.Context, path string) ([]byte, error) {
	status, body, err := p.do(ctx, http.MethodPost, path)
	if err == nil && status/100 != 2 {
		err = fmt.Errorf("post %s: status %d: %.200s", path, status, body)
	}
	return body, err
}

func (p *Process) do(ctx context.Context, method, path string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, p.URL+path, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, err
}

// CPU returns the CPU time the process has used so far.
func (p *Process) CPU() (time.Duration, error) { return cpuTime(p.cmd.Process.Pid) }

// Memory returns the memory use of the process.
func (p *Process) Memory() (Memory, error) { return memory(p.cmd.Process.Pid) }

// ResetPeak makes the peak that Memory tells begin anew.
func (p *Process) ResetPeak() error { return resetPeak(p.cmd.Process.Pid) }

// MapMemory returns the kernel's memory for the BPF maps of the process, in bytes.
func (p *Process) MapMemory() (int64, error) { return mapMemory(p.cmd.Process.Pid) }

// Settle waits until the process has used less than 2% of a core over the time
// quiet, or until patience is over, and returns how long it waited.
func (p *Process) Settle(ctx context.Context, quiet, patience time.Duration) (time.Duration, error) {
	start := time.Now()
	const pace = 500 * time.Millisecond
	window := max(1, int(quiet/pace))
	used := make([]time.Duration, 0, window+1)
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		cpu, err := p.CPU()
		if err != nil {
			return 0, fmt.Errorf("wait for %s to settle: %w", p.Name, err)
		}
		used = append(used, cpu)
		if len(used) > window {
			if used[window]-used[0] <= quiet/50 {
				break
			}
			used = used[1:]
		}
		if time.Since(start) > patience {
			break
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-tick.C:
		}
	}
	return time.Since(start), nil
}

// LogSize measures the server's write-ahead log or buffer.
func (p *Process) LogSize() (Disk, error) {
	var sum Disk
	for _, name := range p.Log {
		d, err := DiskUse(filepath.Join(p.DataDir(), name))
		if err != nil {
			return sum, err
		}
		sum = sum.Add(d)
	}
	return sum, nil
}

// Store measures the store without the log. It is to be called last.
func (p *Process) Store(ctx context.Context) (Disk, error) {
	if p.StoreSize != nil {
		return p.StoreSize(ctx, p)
	}
	all, err := DiskUse(p.DataDir())
	if err != nil {
		return all, err
	}
	log, err := p.LogSize()
	return Disk{all.Bytes - log.Bytes, all.Allocated - log.Allocated, all.Files - log.Files}, err
}
