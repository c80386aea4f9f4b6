package log

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"golang.org/x/text/encoding/simplifiedchinese"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/door"
)

// Lines come with who wrote them, and as they are appended.
func TestTail(t *testing.T) {
	logs, state := inDir(t)
	path := filepath.Join(logs, "app.log")
	write(t, path, "old\n")
	var s sink
	source := Source{Include: []string{logs + "/*.log"}, Exclude: []string{"secret*"}, Attributes: map[string]string{"service.name": "shop"}}
	tail := start(t, testConfig(source), state, &s)
	require.True(t, waitFor(func() bool {
		n, _ := testutil.GatherAndCount(tail.reg, "vedette_collector_log_file_events_total")
		return n > 0
	}))
	write(t, path, "one\r\n", "two", " still two\n", "\n", "bad \xff text\n")
	s.wait(t, "one", "two still two", "bad \uFFFD text")
	write(t, filepath.Join(logs, "new.log"), "three\n")
	write(t, filepath.Join(logs, "secret.log"), "not this\n")
	write(t, filepath.Join(logs, "new.log.gz"), "nor this\n")
	s.wait(t, "one", "two still two", "bad \uFFFD text", "three")
	write(t, path, "no end")
	s.wait(t, "one", "two still two", "bad \uFFFD text", "three", "no end")
	g := s.all()[0]
	require.Equal(t, map[string]any{
		"service.name": "shop", "service.instance.id": "box:" + path, "host.name": "box", "log.file.path": path,
	}, g.resource)
	require.Empty(t, g.attrs)
	require.WithinDuration(t, time.Now(), g.record.ObservedTimestamp().AsTime(), time.Minute)
	require.Zero(t, g.record.Timestamp())
	tail.stop()
	require.Equal(t, 5.0, testutil.ToFloat64(tail.metrics.records))
}

// Files that were renamed are read to their end, and those that came and went
// between two scans, too.
func TestRotation(t *testing.T) {
	logs, state := inDir(t)
	path := filepath.Join(logs, "app.log")
	var s sink
	start(t, testConfig(beginning(path)), state, &s)
	n := 0
	for round := range 10 {
		f, err := os.Create(path)
		require.NoError(t, err)
		for range 20 {
			_, err := fmt.Fprintf(f, "line %d\n", n)
			require.NoError(t, err)
			n++
		}
		if round%2 == 0 {
			require.True(t, waitFor(func() bool { return len(s.all()) == n }))
		}
		for k := 3; k > 0; k-- { // as logrotate does with three generations
			_ = os.Rename(fmt.Sprintf("%s.%d", path, k), fmt.Sprintf("%s.%d", path, k+1))
		}
		rename(t, path, path+".1")
		_ = os.Remove(path + ".4")
		_, err = fmt.Fprintf(f, "line %d\n", n) // by somebody who has not noticed
		require.NoError(t, err)
		n++
		require.NoError(t, f.Close())
	}
	write(t, path, numbered(n, n+1)...)
	wantNumbered(t, &s, n+1)
	require.Equal(t, path, s.all()[n].resource["log.file.path"])
	require.Equal(t, path, s.all()[0].resource["log.file.path"])
}

// A pattern that names the rotated files, too, does not read them again.
func TestRotatedMatches(t *testing.T) {
	logs, state := inDir(t)
	path := filepath.Join(logs, "app.log")
	var s sink
	tail := start(t, testConfig(beginning(path+"*")), state, &s)
	for n := range 5 {
		write(t, path, numbered(10*n, 10*n+10)...)
		require.True(t, waitFor(func() bool { return len(s.all()) == 10*n+10 }))
		for k := 5; k > 0; k-- {
			_ = os.Rename(fmt.Sprintf("%s.%d", path, k), fmt.Sprintf("%s.%d", path, k+1))
		}
		rename(t, path, path+".1")
	}
	write(t, path, numbered(50, 51)...)
	wantNumbered(t, &s, 51)
	require.True(t, waitFor(func() bool { return testutil.ToFloat64(tail.metrics.events.WithLabelValues("finished")) == 5 }))
	tail.stop()
	tail = start(t, testConfig(beginning(path+"*")), state, &s)
	write(t, path, numbered(51, 52)...)
	wantNumbered(t, &s, 52)
}

// What is copied and truncated is read to its end in the copy, whether its name is
// one of the pattern's or not, and then from the beginning.
func TestCopyTruncate(t *testing.T) {
	for _, pattern := range []string{"", "*"} {
		t.Run("app.log"+pattern, func(t *testing.T) {
			logs, state := inDir(t)
			path := filepath.Join(logs, "app.log")
			var s sink
			tail := start(t, testConfig(beginning(path+pattern)), state, &s)
			write(t, path, numbered(0, 100)...)
			wantNumbered(t, &s, 100)
			for k := range 3 {
				s.setRefuse(errAway) // so that some is left when it is truncated
				n := 100 + 200*k
				write(t, path, numbered(n, n+100)...)
				data, err := os.ReadFile(path)
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(fmt.Sprintf("%s.%d", path, 3-k), data, 0o644))
				require.NoError(t, os.Truncate(path, 0))
				write(t, path, numbered(n+100, n+200)...)
				s.setRefuse(nil)
				waitFor(func() bool { return len(s.all()) >= n+200 })
			}
			wantNumbered(t, &s, 700)
			require.Zero(t, testutil.ToFloat64(tail.metrics.events.WithLabelValues("lost")))
		})
	}
}

// A file whose inode has become another's is begun anew, whatever its size.
func TestReplacedContent(t *testing.T) {
	logs, state := inDir(t)
	path := filepath.Join(logs, "app.log")
	var s sink
	start(t, testConfig(beginning(path)), state, &s)
	write(t, path, "a 1\n", "a 2\n")
	s.wait(t, "a 1", "a 2")
	require.NoError(t, os.WriteFile(path, []byte("b 1\nb 2\nb 3\n"), 0o644))
	s.wait(t, "a 1", "a 2", "b 1", "b 2", "b 3")
	// A writer without O_APPEND goes on where it was: the file begins with a hole.
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(0))
	_, err = f.WriteAt([]byte("after a hole\n"), 3<<20)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	s.wait(t, "a 1", "a 2", "b 1", "b 2", "b 3", "after a hole")
}

// After a graceful stop everything that was written meanwhile comes once, also
// what was rotated.
func TestRestart(t *testing.T) {
	logs, state := inDir(t)
	path := filepath.Join(logs, "app.log")
	var s sink
	n := 0
	for round := range 6 {
		tail := start(t, testConfig(Source{Include: []string{path}}), state, &s)
		require.True(t, waitFor(func() bool {
			_, err := os.Stat(filepath.Join(state, checkpointName))
			return err == nil
		}))
		write(t, path, numbered(n, n+50)...)
		n += 50
		if round%2 == 1 {
			require.True(t, waitFor(func() bool { return len(s.all()) > n-50 }))
		} else {
			wantNumbered(t, &s, n)
		}
		tail.stop()
		write(t, path, numbered(n, n+30)...)
		n += 30
		for g := range round {
			if g < 3 { // generations come and go while nobody reads
				for k := 8; k > 0; k-- {
					_ = os.Rename(fmt.Sprintf("%s.%d", path, k), fmt.Sprintf("%s.%d", path, k+1))
				}
				rename(t, path, path+".1")
				write(t, path, numbered(n, n+30)...)
				n += 30
			}
		}
	}
	start(t, testConfig(Source{Include: []string{path}}), state, &s)
	wantNumbered(t, &s, n)
}

// While the door refuses nothing is lost and memory is bounded; what is refused
// for good does not stand in the way.
func TestBackPressure(t *testing.T) {
	logs, state := inDir(t)
	path := filepath.Join(logs, "app.log")
	var s sink
	s.setRefuse(errAway)
	c := testConfig(beginning(path))
	c.BatchBytes = 4 << 10
	tail := start(t, c, state, &s)
	n := 0
	for k := range 3 {
		write(t, path, numbered(n, n+2000)...)
		n += 2000
		require.True(t, waitFor(func() bool { // it holds each, and may go then
			return testutil.ToFloat64(tail.metrics.events.WithLabelValues("found")) == float64(k+1)
		}))
		require.NoError(t, os.Remove(path))
	}
	require.True(t, waitFor(func() bool { return testutil.ToFloat64(tail.metrics.failures.WithLabelValues("write")) > 1 }))
	require.LessOrEqual(t, cap(tail.batch), 64<<10)
	s.setRefuse(nil)
	wantNumbered(t, &s, n)
	require.LessOrEqual(t, s.largest, 6<<10)

	write(t, path, "half\n")
	wantBody(t, &s, "half")
	s.setRefuse(&door.MediaError{Header: "Content-Type"})
	write(t, path, "refused for good\n")
	require.True(t, waitFor(func() bool { return testutil.ToFloat64(tail.metrics.refused) == 1 }))
	s.setRefuse(nil)
	write(t, path, "the next\n")
	wantBody(t, &s, "the next")
}

func wantBody(t *testing.T, s *sink, want string) {
	t.Helper()
	require.True(t, waitFor(func() bool { return slices.Contains(s.bodies(), want) }))
}

// A stop waits for the request under way.
func TestStopWaits(t *testing.T) {
	logs, state := inDir(t)
	path := filepath.Join(logs, "app.log")
	write(t, path, numbered(0, 10)...)
	var s sink
	arrived, proceed := make(chan struct{}), make(chan struct{})
	tail, _ := openTest(t, testConfig(beginning(path)), state, func(ctx context.Context, tenant string, format buffer.Format, payload []byte) error {
		close(arrived)
		<-proceed
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return s.write(ctx, tenant, format, payload)
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- tail.Run(ctx) }()
	<-arrived
	cancel()
	close(proceed)
	require.NoError(t, <-done)
	wantNumbered(t, &s, 10)
	start(t, testConfig(beginning(path)), state, &s)
	write(t, path, numbered(10, 11)...)
	wantNumbered(t, &s, 11)
}

// Many files are read with few open.
func TestManyFiles(t *testing.T) {
	logs, state := inDir(t)
	const files = 3000
	for i := range files {
		dir := filepath.Join(logs, fmt.Sprint("d", i%7), "deep")
		require.NoError(t, os.MkdirAll(dir, 0o755))
		write(t, filepath.Join(dir, fmt.Sprintf("%d.log", i)), fmt.Sprintf("first of %d\n", i))
	}
	var s sink
	c := testConfig(beginning(logs + "/**/*.log"))
	c.MaxOpenFiles = 100
	tail := start(t, c, state, &s)
	require.True(t, waitFor(func() bool { return len(s.all()) == files }), "got %d", len(s.all()))
	for i := range files {
		write(t, filepath.Join(logs, fmt.Sprint("d", i%7), "deep", fmt.Sprintf("%d.log", i)), fmt.Sprintf("second of %d\n", i))
	}
	require.True(t, waitFor(func() bool { return len(s.all()) >= 2*files }), "got %d", len(s.all()))
	bodies := s.bodies()
	slices.Sort(bodies)
	require.Len(t, slices.Compact(bodies), 2*files)
	require.LessOrEqual(t, s.requests, files/10, "many files in one request")
	tail.stop()
}

// A huge line becomes several records, of which none is lost, and what comes
// behind it is whole.
func TestHugeLines(t *testing.T) {
	logs, state := inDir(t)
	path := filepath.Join(logs, "app.log")
	huge := strings.Repeat("größe ", 1<<20)
	write(t, path, "before\n", huge, "\n", "after\n", huge)
	var s sink
	tail := start(t, testConfig(beginning(path)), state, &s)
	joined := func() (out string) {
		for _, g := range s.all() {
			out += g.body
		}
		return out
	}
	require.True(t, waitFor(func() bool { return joined() == "before"+huge+"after"+huge }), "got %d records", len(s.all()))
	for _, g := range s.all() {
		require.LessOrEqual(t, len(g.body), 256<<10)
		require.Equal(t, g.body != "before" && g.body != "after", g.attrs["vedette.truncated"] != nil)
	}
	write(t, path, " end\nnext\n")
	wantBody(t, &s, "next")
	tail.stop()
	require.Zero(t, testutil.ToFloat64(tail.metrics.replaced), "no character was divided")
}

// The text of a file may be in GBK or GB18030.
func TestEncodings(t *testing.T) {
	for name, encoder := range map[string]interface{ String(string) (string, error) }{
		EncodingGBK: simplifiedchinese.GBK.NewEncoder(), EncodingGB18030: simplifiedchinese.GB18030.NewEncoder(),
	} {
		t.Run(name, func(t *testing.T) {
			logs, state := inDir(t)
			path := filepath.Join(logs, "app.log")
			text := "2026-11-21 错误：连接被拒绝"
			long := strings.Repeat("日志", 2000)
			for _, line := range []string{text, "plain", long} {
				b, err := encoder.String(line + "\n")
				require.NoError(t, err)
				write(t, path, b)
			}
			source := beginning(path)
			source.Encoding = name
			c := testConfig(source)
			c.MaxLineBytes = 1025
			var s sink
			tail := start(t, c, state, &s)
			require.True(t, waitFor(func() bool { return strings.Join(s.bodies(), "") == text+"plain"+long }))
			write(t, path, "bad \x81\n")
			wantBody(t, &s, "bad \uFFFD")
			tail.stop()
		})
	}
}

// A damaged checkpoint is put aside; one of a newer version is not touched.
func TestCheckpointDamage(t *testing.T) {
	logs, state := inDir(t)
	path := filepath.Join(logs, "app.log")
	write(t, path, numbered(0, 3)...)
	name := filepath.Join(state, checkpointName)
	require.NoError(t, os.WriteFile(name, []byte(`{"version":1,`), 0o644))
	var s sink
	tail := start(t, testConfig(beginning(path)), state, &s)
	wantNumbered(t, &s, 3)
	tail.stop()
	require.FileExists(t, name+".damaged")
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	var c checkpoint
	require.NoError(t, json.Unmarshal(data, &c))
	require.Len(t, c.Files, 1)
	require.EqualValues(t, 21, c.Files[0].Offset)
	require.NoError(t, os.WriteFile(name, []byte(`{"version":99}`), 0o644))
	_, err = Open(Options{Config: testConfig(), Dir: state, Registerer: newRegistry()})
	require.ErrorContains(t, err, "version 99, want <= 1")
}

const helperDir = "VEDETTE_LOG_HELPER_DIR"

// helper is a process that tails a file and writes what it gets to its output,
// which is the acknowledgement.
func helper() {
	dir := os.Getenv(helperDir)
	var s sink
	tail, err := Open(Options{
		Config: func() Config {
			c := testConfig(beginning(filepath.Join(dir, "logs", "*.log")))
			c.BatchBytes = 2 << 10
			return c
		}(),
		Dir: filepath.Join(dir, "state"), Host: "box", Tenant: "team", Logger: discard(), Registerer: newRegistry(),
		Write: func(ctx context.Context, tenant string, format buffer.Format, payload []byte) error {
			s.records = s.records[:0]
			if err := s.write(ctx, tenant, format, payload); err != nil {
				return err
			}
			var out strings.Builder
			for _, g := range s.records {
				fmt.Fprintf(&out, "%s\n", g.body)
			}
			_, err := io.WriteString(os.Stdout, out.String())
			return err
		},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	tail.scanEvery = 10 * time.Millisecond
	_ = tail.Run(context.Background())
}

// A process that is killed again and again, while files grow and rotate, loses no
// line; what it repeats was acknowledged shortly before.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	logs := filepath.Join(dir, "logs")
	require.NoError(t, os.Mkdir(logs, 0o755))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "state"), 0o755))
	path := filepath.Join(logs, "app.log")
	counts := map[int]int{}
	n := 0
	for round := range 8 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), helperDir+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		scanner := bufio.NewScanner(out)
		take := func() bool {
			if !scanner.Scan() {
				return false
			}
			i, err := strconv.Atoi(strings.TrimPrefix(scanner.Text(), "line "))
			require.NoError(t, err, scanner.Text())
			counts[i]++
			return true
		}
		for range 5 {
			write(t, path, numbered(n, n+400)...)
			n += 400
			for range 100 {
				if !take() {
					break
				}
			}
		}
		if round < 7 {
			require.NoError(t, cmd.Process.Kill())
			for take() { // what the pipe still has was acknowledged
			}
		} else {
			for len(counts) < n && take() {
			}
			require.NoError(t, cmd.Process.Kill())
		}
		_ = cmd.Wait() // it was killed
		cancel()
		if round%2 == 1 {
			for k := 4; k > 0; k-- {
				_ = os.Rename(fmt.Sprintf("%s.%d", path, k), fmt.Sprintf("%s.%d", path, k+1))
			}
			rename(t, path, path+".1")
		}
	}
	require.Len(t, counts, n, "every line has come")
	again := 0
	for _, k := range counts {
		again += k - 1
	}
	t.Logf("%d lines, %d of them again", n, again)
	require.Less(t, again, n)
}

// A line that an engine has divided is one record, too, where the engine has
// rotated between its parts; a part that nothing follows is a record by itself.
func TestRotationWithinLine(t *testing.T) {
	logs, state := inDir(t)
	path := filepath.Join(logs, "0.log")
	part := func(stream, tag, text string) string {
		return "2026-11-21T12:00:00.5Z " + stream + " " + tag + " " + text + "\n"
	}
	source := beginning(path)
	source.Format = FormatCRI
	c := testConfig(source)
	c.UnfinishedTimeout *= 2
	var s sink
	tail := start(t, c, state, &s)
	write(t, path, part("stdout", "F", "one"), part("stdout", "P", "tw"), part("stderr", "F", "err"), part("stderr", "P", "er"))
	s.wait(t, "one")
	tail.stop()
	rename(t, path, path+".1")
	write(t, path, part("stderr", "F", "ror"), part("stdout", "P", "o tw"))
	tail = start(t, c, state, &s)
	rename(t, path, path+".2")
	write(t, path, part("stdout", "F", "o"), part("stdout", "F", "three"))
	// Nobody knows how the streams went with each other, but for their times.
	require.True(t, waitFor(func() bool { return len(s.all()) >= 5 }))
	require.ElementsMatch(t, []string{"one", "err", "error", "two two", "three"}, s.bodies())
	write(t, path, part("stdout", "P", "half"))
	rename(t, path, path+".3")
	require.True(t, waitFor(func() bool { return len(s.all()) >= 6 }))
	require.Equal(t, "half", s.bodies()[5])
	write(t, path, part("stdout", "F", "whole"))
	require.True(t, waitFor(func() bool { return len(s.all()) >= 7 }))
	require.Equal(t, "whole", s.bodies()[6])
	tail.stop()
	require.Len(t, s.all(), 7)
}
