package statsd

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ddstatsd "github.com/DataDog/datadog-go/v5/statsd"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ingest/doortest"
)

// running is a server that runs.
type running struct {
	*Server
	*doortest.Pipeline
	t    *testing.T
	stop func()
}

func start(t *testing.T, change func(*Config)) *running {
	p := doortest.New(t, doortest.Options{})
	cfg := DefaultConfig()
	cfg.FlushInterval = 100 * time.Millisecond
	change(&cfg)
	s, err := Open(Options{Entry: p.Entry("statsd"), Config: cfg, Logger: slog.New(slog.DiscardHandler), Registerer: p.Registerer})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	r := &running{Server: s, Pipeline: p, t: t, stop: func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(t, <-done)
		}
	}}
	t.Cleanup(r.stop)
	return r
}

// want waits until a series has a value.
func (r *running) want(series, value string) {
	r.t.Helper()
	last := ""
	require.Eventually(r.t, func() bool {
		for _, line := range r.Sink.Lines() {
			if strings.HasPrefix(line, "default "+series+" ") {
				last = strings.Fields(strings.TrimPrefix(line, "default "+series))[1]
			}
		}
		return last == value
	}, 20*time.Second, 10*time.Millisecond, "%s: got %s, want %s", series, last, value)
}

func (r *running) send(network, address, text string) {
	r.t.Helper()
	c, err := net.Dial(network, address)
	require.NoError(r.t, err)
	_, err = c.Write([]byte(text))
	require.NoError(r.t, err)
	require.NoError(r.t, c.Close())
}

// DataDog's client sends over each kind of socket that it knows.
func TestDogStatsDClient(t *testing.T) {
	f := func(change func(c *Config, dir string), address func(*running) string) {
		t.Helper()
		dir := t.TempDir()
		r := start(t, func(c *Config) { c.Observers = ObserversHistogram; change(c, dir) })
		client, err := ddstatsd.New(address(r), ddstatsd.WithTags([]string{"env:test"}), ddstatsd.WithoutTelemetry(),
			ddstatsd.WithoutOriginDetection(), ddstatsd.WithBufferFlushInterval(10*time.Millisecond))
		require.NoError(t, err)
		require.NoError(t, client.Count("requests.total", 3, []string{"code:200"}, 1))
		require.NoError(t, client.Incr("requests.total", []string{"code:200"}, 1))
		require.NoError(t, client.Gauge("queue.length", 7.5, nil, 1))
		require.NoError(t, client.Set("users", "a", nil, 1))
		require.NoError(t, client.Timing("latency", 250*time.Millisecond, []string{"url:/a:b"}, 1))
		require.NoError(t, client.Histogram("size", 20, nil, 1))
		require.NoError(t, client.Distribution("dist", 1, nil, 1))
		require.NoError(t, client.SimpleEvent("deploy", "done"))
		require.NoError(t, client.SimpleServiceCheck("db", ddstatsd.Ok))
		require.NoError(t, client.GaugeWithTimestamp("queue.max", 8.5, nil, 1, time.Now()))
		require.NoError(t, client.Close())
		r.want(`{__name__="requests_total", code="200", env="test"}`, "4")
		r.want(`{__name__="queue_length", env="test"}`, "7.5")
		r.want(`{__name__="queue_max", env="test"}`, "8.5")
		r.want(`{__name__="latency_sum", env="test", url="/a:b"}`, "0.25")
		r.want(`{__name__="latency_bucket", env="test", le="0.25", url="/a:b"}`, "1")
		r.want(`{__name__="size_sum", env="test"}`, "20")
		r.want(`{__name__="dist_count", env="test"}`, "1")
		r.want(`{__name__="users", env="test"}`, "0")
		require.Eventually(t, func() bool {
			return testutil.ToFloat64(r.Server.metrics.ignored.WithLabelValues("event")) == 1 &&
				testutil.ToFloat64(r.Server.metrics.ignored.WithLabelValues("service_check")) == 1
		}, 20*time.Second, 10*time.Millisecond)
		r.stop()
		// The client adds counts up itself.
		require.Equal(t, 7.0, testutil.ToFloat64(r.Server.metrics.accepted))
		require.Equal(t, 7.0, testutil.ToFloat64(r.Server.metrics.received))
	}
	f(func(c *Config, _ string) { c.ListenUDP = "127.0.0.1:0" }, func(r *running) string { return r.Addr("udp").String() })
	f(func(c *Config, dir string) { c.ListenUnixgram = filepath.Join(dir, "s") }, func(r *running) string { return "unixgram://" + r.Addr("unixgram").String() })
	f(func(c *Config, dir string) { c.ListenUnix = filepath.Join(dir, "s") }, func(r *running) string { return "unixstream://" + r.Addr("unix").String() })
}

// Plain packets, as echo "foo:1|c" | nc sends them, by all sockets at once.
func TestPlain(t *testing.T) {
	dir := t.TempDir()
	gram := filepath.Join(dir, "gram")
	old, err := net.ListenPacket("unixgram", gram) // a killed server's
	require.NoError(t, err)
	defer old.Close()
	r := start(t, func(c *Config) {
		c.ListenUDP, c.ListenTCP, c.ListenUnixgram, c.ListenUnix = "127.0.0.1:0", "127.0.0.1:0", gram, filepath.Join(dir, "stream")
	})
	r.send("udp", r.Addr("udp").String(), "foo:1|c\n")
	r.send("unixgram", gram, "foo:2|c\nbar:1|g")
	r.send("tcp", r.Addr("tcp").String(), "foo:4|c\n"+strings.Repeat("bar:2|g\n", 2000)+"foo:8|c") // without a line end
	r.send("unix", r.Addr("unix").String(), frame("foo:16|c\nbar:3|g\n")+frame("")+frame("foo:32|c"))
	r.want(`{__name__="foo"}`, "63")

	r.send("unix", r.Addr("unix").String(), "\xff\xff\xff\xff")
	r.send("tcp", r.Addr("tcp").String(), strings.Repeat("x", packetBytes+1))
	require.Eventually(t, func() bool { return testutil.ToFloat64(r.Server.metrics.rejected[dropTooLarge]) == 2 }, 20*time.Second, 10*time.Millisecond)
	r.send("unixgram", gram, "foo:64|c\n"+strings.Repeat("y", packetBytes))
	r.want(`{__name__="foo"}`, "127")
	require.Equal(t, 1.0, testutil.ToFloat64(r.Server.metrics.rejected[dropTruncated]))
	require.Zero(t, testutil.ToFloat64(r.Server.metrics.rejected[dropMalformed]))

	info, err := os.Stat(gram)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(socketMode), info.Mode().Perm())
	r.stop()
	require.NoFileExists(t, gram)
	require.NoFileExists(t, filepath.Join(dir, "stream"))
}

func frame(s string) string {
	return string(binary.LittleEndian.AppendUint32(nil, uint32(len(s)))) + s
}

// What has come before the end is written, though no interval has passed.
func TestFinalFlush(t *testing.T) {
	r := start(t, func(c *Config) { c.ListenUDP, c.ListenTCP, c.FlushInterval = "127.0.0.1:0", "127.0.0.1:0", time.Hour })
	open, err := net.Dial("tcp", r.Addr("tcp").String()) // one that stays
	require.NoError(t, err)
	defer open.Close()
	_, err = open.Write([]byte("tcp:1|c"))
	require.NoError(t, err)
	for range 50 {
		r.send("udp", r.Addr("udp").String(), "udp:1|c")
	}
	require.Eventually(t, func() bool { return testutil.ToFloat64(r.Server.metrics.connections) == 1 }, 20*time.Second, time.Millisecond)
	r.stop()
	text := strings.Join(r.Sink.Lines(), "\n")
	require.Contains(t, text, `{__name__="udp"} `)
	require.Contains(t, text, ` 50 start=`)
	require.Contains(t, text, `{__name__="tcp"} `)
}

func TestOpenErrors(t *testing.T) {
	p := doortest.New(t, doortest.Options{})
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte("precious"), 0o600))
	f := func(want string, change func(*Config)) {
		t.Helper()
		cfg := DefaultConfig()
		cfg.ListenUDP = "127.0.0.1:0" // closed again
		change(&cfg)
		_, err := Open(Options{Entry: p.Entry("statsd"), Config: cfg, Logger: slog.New(slog.DiscardHandler), Registerer: p.Registerer})
		require.ErrorContains(t, err, want)
	}
	f("listen_udp: ", func(c *Config) { c.ListenUDP = "nonsense" })
	f("listen_tcp: ", func(c *Config) { c.ListenTCP = "nonsense" })
	f("is there and not a socket", func(c *Config) { c.ListenUnixgram = file })
	f("is there and not a socket", func(c *Config) { c.ListenUnix = file })
	f("flush_interval", func(c *Config) { c.FlushInterval = 0 })
	require.FileExists(t, file)

	s, err := Open(Options{Entry: p.Entry("statsd"), Config: DefaultConfig(), Logger: slog.New(slog.DiscardHandler), Registerer: p.Registerer})
	require.NoError(t, err)
	require.Nil(t, s.Addr("udp"))
	require.NoError(t, s.Close())
}
