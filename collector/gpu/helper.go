package gpu

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	helperName = "vedette-nvml"
	maxAnswer  = 16 << 20
	lastWords  = 4 << 10

	// ExitAbsent is the exit status of a helper that finds no GPU.
	ExitAbsent = 3
)

// Helper is the Library of a machine as the program vedette-nvml reads it. The
// program is started by the first Read and again after it has ended.
type Helper struct {
	path   string
	driver string // exists on machines with the driver

	mu      sync.Mutex // guards what follows; held while Read waits
	running *helperProcess
}

// NewHelper returns a Helper; it starts nothing yet.
func NewHelper(cfg Config) *Helper {
	return &Helper{path: cfg.Helper, driver: "/proc/driver/nvidia/version"}
}

type helperProcess struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	lines  chan []byte   // closed when the program's output ends
	ended  chan struct{} // closed after that and after its exit
	err    error         // how it ended
	stderr *tail
}

// Read implements Library.
func (h *Helper) Read(ctx context.Context) (Snapshot, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running == nil {
		if _, err := os.Stat(h.driver); err != nil {
			return Snapshot{}, fmt.Errorf("%w: %w", ErrAbsent, err)
		}
		p, err := h.start()
		if err != nil {
			return Snapshot{}, err
		}
		h.running = p
	}
	line, err := h.running.ask(ctx)
	if err != nil {
		h.running.kill()
		err = h.running.explain(err)
		h.running = nil
		return Snapshot{}, err
	}
	var a answer
	if err := json.Unmarshal(line, &a); err != nil {
		return Snapshot{}, fmt.Errorf("decode answer of %s: %w", helperName, err)
	}
	if a.Error != "" {
		return a.Snapshot, errors.New(a.Error)
	}
	return a.Snapshot, nil
}

// Close implements Library: it ends the program and waits for that.
func (h *Helper) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running != nil {
		h.running.kill()
		h.running = nil
	}
	return nil
}

func (h *Helper) start() (*helperProcess, error) {
	path, err := h.find()
	if err != nil {
		return nil, err
	}
	p := &helperProcess{cmd: exec.Command(path), lines: make(chan []byte), ended: make(chan struct{}), stderr: &tail{}}
	p.cmd.Stderr = p.stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	go p.read(out)
	return p, nil
}

// find returns the path of the program.
func (h *Helper) find() (string, error) {
	if h.path != "" {
		return h.path, nil
	}
	if own, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(own), helperName)
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	path, err := exec.LookPath(helperName)
	if err != nil {
		return "", fmt.Errorf("find %s, which reads the GPUs that are here: %w", helperName, err)
	}
	return path, nil
}

// read passes the program's lines on until it ends. kill ends it.
func (p *helperProcess) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, maxAnswer)
	for lines.Scan() {
		p.lines <- bytes.Clone(lines.Bytes())
	}
	close(p.lines)
	_ = p.cmd.Process.Kill() // if its output ended and it did not
	p.err = p.cmd.Wait()
	close(p.ended)
}

// ask sends a line and waits for one.
func (p *helperProcess) ask(ctx context.Context) ([]byte, error) {
	if _, err := io.WriteString(p.in, "\n"); err != nil {
		return nil, fmt.Errorf("ask %s: %w", helperName, err)
	}
	select {
	case line, ok := <-p.lines:
		if !ok {
			return nil, fmt.Errorf("ask %s: it ended", helperName)
		}
		return line, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("ask %s: no answer: %w", helperName, ctx.Err())
	}
}

// kill ends the program and waits for that, for a second if it is stuck in the
// driver: the kernel ends it when it may.
func (p *helperProcess) kill() {
	p.in.Close()
	select {
	case <-p.ended: // by itself, with its own exit status
		return
	case <-time.After(100 * time.Millisecond):
	}
	_ = p.cmd.Process.Kill()
	drained := p.lines
	late := time.After(time.Second)
	for {
		select {
		case _, ok := <-drained:
			if !ok {
				drained = nil
			}
		case <-p.ended:
			return
		case <-late:
			go func() { // read must not wait for a reader for ever
				for range p.lines {
				}
			}()
			return
		}
	}
}

// explain adds how the program ended to an error.
func (p *helperProcess) explain(err error) error {
	select {
	case <-p.ended:
	default:
		return err
	}
	words := strings.TrimSpace(p.stderr.String())
	var exit *exec.ExitError
	if errors.As(p.err, &exit) && exit.ExitCode() == ExitAbsent {
		return fmt.Errorf("%w: %s", ErrAbsent, words)
	}
	if p.err != nil {
		return fmt.Errorf("%w: %w: %s", err, p.err, words)
	}
	return err
}

// tail keeps the last words that are written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if more := len(t.text) - lastWords; more > 0 {
		t.text = append(t.text[:0], t.text[more:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
