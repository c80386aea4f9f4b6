package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/prompb"
)

// asVedette makes this test binary behave as the command itself, so that the
// end-to-end tests need no build of their own.
const asVedette = "VEDETTE_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asVedette) != "" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	if database := os.Getenv(asShop); database != "" {
		if err := shop(database); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// process is a running vedette.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	url   string
	token string // for get

	client *http.Client // nil is the default one
	log    *lineLog
	done   chan struct{} // closed once it has ended
	err    error         // of Wait, after done
}

// lineLog keeps what a process has printed and tells who waits for a line.
type lineLog struct {
	mu    sync.Mutex
	lines []string
	grown chan struct{} // closed and renewed with every line
}

func newLineLog() *lineLog { return &lineLog{grown: make(chan struct{})} }

func (l *lineLog) read(r io.Reader) {
	for s := bufio.NewScanner(r); s.Scan(); {
		l.mu.Lock()
		l.lines = append(l.lines, s.Text())
		close(l.grown)
		l.grown = make(chan struct{})
		l.mu.Unlock()
	}
}

func (l *lineLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

// wait returns the submatches of the first line that re matches, nil if stop is
// closed before there is one.
func (l *lineLog) wait(ctx context.Context, re *regexp.Regexp, stop <-chan struct{}) []string {
	for from := 0; ; {
		l.mu.Lock()
		for ; from < len(l.lines); from++ {
			if m := re.FindStringSubmatch(l.lines[from]); m != nil {
				l.mu.Unlock()
				return m
			}
		}
		grown := l.grown
		l.mu.Unlock()
		select {
		case <-grown:
		case <-stop:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

var (
	writeLine = regexp.MustCompile(`(http://[^ ]+)/api/v1/write`)
	readyLine = regexp.MustCompile(`msg=ready`)
	stopLine  = regexp.MustCompile(`msg="stopping`)
)

const patience = 2 * time.Minute

// start runs "vedette run" on a free port and waits until it is ready.
func start(t *testing.T, data string, args ...string) *process {
	t.Helper()
	return startAs(t, append([]string{os.Args[0], "run", "--data", data, "--listen", "127.0.0.1:0"}, args...)...)
}

// startAs runs a command line that ends up as vedette and waits until it is ready.
func startAs(t *testing.T, command ...string) *process {
	t.Helper()
	p := &process{t: t, log: newLineLog(), done: make(chan struct{})}
	p.cmd = exec.Command(command[0], command[1:]...)
	p.cmd.Env = append(os.Environ(), asVedette+"=1")
	var readers sync.WaitGroup
	for _, pipe := range []func() (io.ReadCloser, error){p.cmd.StdoutPipe, p.cmd.StderrPipe} {
		r, err := pipe()
		if err != nil {
			t.Fatal(err)
		}
		readers.Go(func() { p.log.read(r) })
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		readers.Wait()
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("output of the process:\n%s", p.log)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	m := p.log.wait(ctx, writeLine, p.done)
	if m == nil || p.log.wait(ctx, readyLine, p.done) == nil {
		t.Fatalf("vedette is not ready:\n%s", p.log)
	}
	p.url = m[1]
	return p
}

// kill ends the process as kill -9 does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// stop ends the process gracefully.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if code := p.exitCode(); code != exitOK {
		p.t.Fatalf("exit code after SIGTERM: got %d, want 0\n%s", code, p.log)
	}
}

func (p *process) exitCode() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("process does not end\n%s", p.log)
	}
	return p.cmd.ProcessState.ExitCode()
}

// encodeWrite makes the body of a remote write 1.0 request.
func encodeWrite(t *testing.T, series ...prompb.TimeSeries) []byte {
	t.Helper()
	raw, err := (&prompb.WriteRequest{Timeseries: series}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return snappy.Encode(nil, raw)
}

// testSeries is a series called name with one sample.
func testSeries(name string, at int64, v float64) prompb.TimeSeries {
	return prompb.TimeSeries{
		Labels:  []prompb.Label{{Name: "__name__", Value: name}, {Name: "job", Value: "e2e"}},
		Samples: []prompb.Sample{{Timestamp: at, Value: v}},
	}
}

// do sends a request.
func (p *process) do(r *http.Request) (*http.Response, error) {
	if p.client != nil {
		return p.client.Do(r)
	}
	return http.DefaultClient.Do(r)
}

// post sends a remote write body.
func (p *process) post(ctx context.Context, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/api/v1/write", body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	resp, err := p.do(req)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		return resp, fmt.Errorf("write: %s: %s", resp.Status, text)
	}
	return resp, nil
}

func (p *process) write(series ...prompb.TimeSeries) {
	p.t.Helper()
	if _, err := p.post(p.t.Context(), bytes.NewReader(encodeWrite(p.t, series...))); err != nil {
		p.t.Fatal(err)
	}
}

// get returns a body, whatever the status.
func (p *process) get(path string) (int, string) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.url+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	if p.token != "" {
		r.Header.Set("Authorization", "Bearer "+p.token)
	}
	resp, err := p.do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// queryMatrix asks for a range vector and returns the samples of its only
// series, or none.
func (p *process) queryMatrix(q string) []model.SamplePair {
	p.t.Helper()
	var m model.Matrix
	p.query(q, &m)
	switch len(m) {
	case 0:
		return nil
	case 1:
		return m[0].Values
	}
	p.t.Fatalf("%s: got %d series, want one", q, len(m))
	return nil
}

func (p *process) query(q string, result any) {
	p.t.Helper()
	code, body := p.get("/api/v1/query?query=" + url.QueryEscape(q))
	var answer struct {
		Status string
		Data   struct{ Result json.RawMessage }
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || code != http.StatusOK {
		p.t.Fatalf("%s: status %d: %s", q, code, body)
	}
	if err := json.Unmarshal(answer.Data.Result, result); err != nil {
		p.t.Fatalf("%s: %v: %s", q, err, body)
	}
}

// eventually asks until ok says yes.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not after %s", what, patience)
		}
	}
}
