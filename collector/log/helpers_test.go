package log

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/goleak"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/otlplogs"
	"github.com/vedette-io/vedette/ingest/wire"
)

func TestMain(m *testing.M) {
	if os.Getenv(helperDir) != "" {
		helper()
		return
	}
	goleak.VerifyTestMain(m)
}

// got is a record as the door got it.
type got struct {
	resource map[string]any
	attrs    map[string]any
	body     string
	record   plog.LogRecord
}

// sink is a Writer that checks and keeps what it gets.
type sink struct {
	mu       sync.Mutex
	records  []got
	requests int
	largest  int
	refuse   error // what it answers if it is set
}

func (s *sink) write(_ context.Context, tenant string, format buffer.Format, payload []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return s.refuse
	}
	if format != buffer.FormatOTLPLogs || tenant != "team" {
		panic(fmt.Sprint("got ", tenant, " ", format))
	}
	r := otlplogs.New() // what the door does
	if err := r.Decode(format, payload, wire.Limits{}); err != nil || r.Rejects.Any() {
		panic(fmt.Sprint(err, r.Rejects.First))
	}
	var u plog.ProtoUnmarshaler
	ld, err := u.UnmarshalLogs(payload)
	if err != nil {
		panic(err)
	}
	s.requests++
	s.largest = max(s.largest, len(payload))
	for _, rl := range ld.ResourceLogs().All() {
		for _, sl := range rl.ScopeLogs().All() {
			for _, lr := range sl.LogRecords().All() {
				s.records = append(s.records, got{rl.Resource().Attributes().AsRaw(), lr.Attributes().AsRaw(), lr.Body().AsString(), lr})
			}
		}
	}
	return nil
}

func (s *sink) setRefuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = err
}

func (s *sink) all() []got {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]got(nil), s.records...)
}

func (s *sink) bodies() []string {
	out := []string{}
	for _, g := range s.all() {
		out = append(out, g.body)
	}
	return out
}

var errAway = &door.OverloadError{What: "the server is away", RetryAfter: time.Second}

// tailing is a Tailer that runs.
type tailing struct {
	*Tailer
	reg  *prometheus.Registry
	stop func()
}

func testConfig(sources ...Source) Config {
	c := DefaultConfig()
	c.PollInterval = 10 * time.Millisecond
	c.UnfinishedTimeout = time.Second // a writer may be held up by a busy disk between two parts
	c.CheckpointInterval = 20 * time.Millisecond
	c.Sources = sources
	return c
}

func openTest(t testing.TB, c Config, dir string, w Writer) (*Tailer, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
	tail, err := Open(Options{Config: c, Dir: dir, Host: "box", Tenant: "team", Write: w, Logger: slog.New(slog.DiscardHandler), Registerer: reg})
	require.NoError(t, err)
	tail.scanEvery = 10 * time.Millisecond
	return tail, reg
}

// start runs a Tailer until stop is called, or the test ends.
func start(t testing.TB, c Config, dir string, s *sink) *tailing {
	t.Helper()
	tail, reg := openTest(t, c, dir, s.write)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tail.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return &tailing{tail, reg, stop}
}

// beginning is a source that reads files from their beginning.
func beginning(include ...string) Source { return Source{Include: include, Start: StartBeginning} }

func write(t testing.TB, path string, lines ...string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	require.NoError(t, err)
	_, err = f.WriteString(strings.Join(lines, ""))
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

const patience, tick = time.Minute, 5 * time.Millisecond

func (s *sink) wait(t testing.TB, want ...string) {
	t.Helper()
	ok := func() bool { return strings.Join(s.bodies(), "\x00") == strings.Join(want, "\x00") }
	if !waitFor(ok) {
		require.Equal(t, want, s.bodies())
	}
}

func waitFor(ok func() bool) bool {
	deadline := time.After(patience)
	poll := time.NewTicker(tick)
	defer poll.Stop()
	for !ok() {
		select {
		case <-poll.C:
		case <-deadline:
			return false
		}
	}
	return true
}

// numbered returns lines from, from+1, … as a file has them.
func numbered(from, to int) (lines []string) {
	for i := from; i < to; i++ {
		lines = append(lines, fmt.Sprintf("line %d\n", i))
	}
	return lines
}

// wantNumbered checks that each of n lines is there exactly once, and in order.
func wantNumbered(t testing.TB, s *sink, n int) {
	t.Helper()
	waitFor(func() bool { return len(s.all()) >= n })
	bodies := s.bodies()
	for i := range min(n, len(bodies)) {
		if bodies[i] != fmt.Sprintf("line %d", i) {
			t.Fatalf("record %d of %d is %q", i, len(bodies), bodies[i])
		}
	}
	require.Len(t, bodies, n)
}

func rename(t testing.TB, from, to string) {
	t.Helper()
	require.NoError(t, os.Rename(from, to))
}

func inDir(t testing.TB) (logs, state string) {
	t.Helper()
	dir := t.TempDir()
	logs, state = filepath.Join(dir, "logs"), filepath.Join(dir, "state")
	require.NoError(t, errors.Join(os.Mkdir(logs, 0o755), os.Mkdir(state, 0o755)))
	return logs, state
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func newRegistry() *prometheus.Registry { return prometheus.NewRegistry() }
