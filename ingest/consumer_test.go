package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/vedette-io/vedette/ingest"
	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/ingesttest"
	"github.com/vedette-io/vedette/ingest/remotewrite"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openLog(t *testing.T, fsys vfs.FS, partitions int) *buffer.Log {
	t.Helper()
	cfg := buffer.DefaultConfig()
	cfg.Partitions = map[string]int{buffer.TopicMetrics: partitions}
	l, err := buffer.Open(cfg, fsys, "log", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	return l
}

func payload(t *testing.T, name string, value float64) []byte {
	t.Helper()
	b, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
		Labels:  []prompb.Label{{Name: "__name__", Value: name}},
		Samples: []prompb.Sample{{Value: value, Timestamp: 1000}},
	}}}).Marshal()
	require.NoError(t, err)
	return s2.EncodeSnappy(nil, b)
}

func appendPayload(t *testing.T, l *buffer.Log, partition int, b []byte, d *ingest.Delivery) {
	t.Helper()
	r := buffer.Record{Tenant: "team", Format: buffer.FormatRemoteWriteV1, Payload: b}
	if d != nil {
		r.Attachment = d
	}
	_, err := l.Append(t.Context(), buffer.TopicMetrics, partition, []buffer.Record{r})
	require.NoError(t, err)
}

// start runs a consumer until stop is called.
func start(t *testing.T, l *buffer.Log, sink ingest.Sink, cfg ingest.ConsumerConfig) (c *ingest.Consumer, reg *prometheus.Registry, stop func()) {
	t.Helper()
	reg = prometheus.NewRegistry()
	formats := &wire.Formats{}
	remotewrite.Register(formats)
	c, err := ingest.NewConsumer(ingest.ConsumerOptions{
		Buffer: l, Sink: sink, Config: cfg, Formats: formats, Logger: slog.New(slog.DiscardHandler), Registerer: reg,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return c, reg, func() {
		cancel()
		require.NoError(t, <-done)
	}
}

func line(name string, value float64) string {
	return fmt.Sprintf("team {__name__=%q} 1000 %v", name, value)
}

// Messages reach the sink in order, from memory and from the log; offsets are
// committed when they are durable, and only then; a restart continues there.
func TestConsumer(t *testing.T) {
	fsys := vfs.NewMem()
	l := openLog(t, fsys, 2)
	appendPayload(t, l, 0, payload(t, "before", 1), nil)

	var sink ingesttest.Sink
	c, _, stop := start(t, l, &sink, ingest.DefaultConsumerConfig())
	<-c.CaughtUp()
	require.Equal(t, []string{line("before", 1)}, sink.Lines())

	// A delivery's batch is used and its outcome reported.
	var req remotewrite.Request
	b := payload(t, "attached", 2)
	require.NoError(t, req.Decode(buffer.FormatRemoteWriteV1, b, wire.Limits{}))
	outcomes := make(chan ingest.Outcome, 1)
	released := make(chan struct{})
	appendPayload(t, l, 1, b, ingest.NewDelivery(&wire.Part{Metrics: &req.Metrics}, outcomes, func() { close(released) }))
	o := <-outcomes
	require.True(t, o.Known)
	require.Equal(t, 1, o.Result.Appended)
	<-released

	appendPayload(t, l, 0, payload(t, "after", 3), nil)
	require.NoError(t, c.Drain(t.Context()))
	require.Equal(t, []string{line("after", 3), line("attached", 2), line("before", 1)}, sink.Lines())
	require.Equal(t, []int64{0, 1}, sink.Offsets(0))

	// Nothing is durable yet, so a commit moves nothing.
	require.NoError(t, c.Commit(t.Context()))
	stop()
	require.NoError(t, c.Drain(t.Context())) // no worker is left: nothing to wait for

	// A new process gets everything again; after a flush it commits.
	var again ingesttest.Sink
	c, _, stop = start(t, l, &again, ingest.DefaultConsumerConfig())
	<-c.CaughtUp()
	require.Equal(t, sink.Lines(), again.Lines())
	require.NoError(t, again.Flush(t.Context()))
	require.NoError(t, c.Commit(t.Context()))
	stop()
	require.NoError(t, l.Close())

	l = openLog(t, fsys, 2)
	c, _, stop = start(t, l, &again, ingest.DefaultConsumerConfig())
	<-c.CaughtUp()
	require.Equal(t, []int64{0, 1}, again.Offsets(0))
	require.Equal(t, []int64{0}, again.Offsets(1))
	stop()
	require.NoError(t, l.Close())
}

// Commits follow the sink by themselves.
// A store that covers less than was committed, an older copy, gets what the log
// still has, and does not wait for what it has not.
func TestOlderCopyOfStore(t *testing.T) {
	l := openLog(t, vfs.NewMem(), 1)
	for i := range 3 {
		appendPayload(t, l, 0, payload(t, "m", float64(i)), nil)
	}
	sink := &ingesttest.Sink{}
	c, _, stop := start(t, l, sink, ingest.DefaultConsumerConfig())
	<-c.CaughtUp()
	require.NoError(t, sink.Flush(t.Context()))
	require.NoError(t, c.Commit(t.Context())) // all segments are behind it: they go
	stop()

	older := &ingesttest.Sink{}
	c, _, stop = start(t, l, older, ingest.DefaultConsumerConfig())
	<-c.CaughtUp()
	appendPayload(t, l, 0, payload(t, "m", 3), nil)
	require.NoError(t, c.Drain(t.Context()))
	lines := older.Lines()
	require.Equal(t, line("m", 3), lines[len(lines)-1])
	stop()
	require.NoError(t, l.Close())
}

func TestCommitInterval(t *testing.T) {
	l := openLog(t, vfs.NewMem(), 1)
	var sink ingesttest.Sink
	cfg := ingest.DefaultConsumerConfig()
	cfg.CommitInterval = time.Millisecond
	_, reg, stop := start(t, l, &sink, cfg)
	appendPayload(t, l, 0, payload(t, "m", 1), nil)
	require.Eventually(t, func() bool {
		require.NoError(t, sink.Flush(t.Context()))
		return counter(t, reg, "vedette_ingest_commits_total") > 0
	}, 10*time.Second, time.Millisecond)
	stop()
	require.NoError(t, l.Close())
}

func counter(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return 0
}

// A store that cannot take a batch now is asked again, and order holds.
func TestSinkErrors(t *testing.T) {
	l := openLog(t, vfs.NewMem(), 1)
	failures := 3
	sink := ingesttest.Sink{Append: func(b *signal.Metrics, _ int32, _ int64) (signal.AppendResult, error) {
		if failures--; failures >= 0 {
			return signal.AppendResult{}, errors.New("disk is full")
		}
		return signal.AppendResult{Appended: b.Samples()}, nil
	}}
	for i := range 3 {
		appendPayload(t, l, 0, payload(t, "m", float64(i)), nil)
	}
	c, reg, stop := start(t, l, &sink, ingest.DefaultConsumerConfig())
	<-c.CaughtUp()
	require.Equal(t, []int64{0, 1, 2}, sink.Offsets(0))
	require.Equal(t, 3.0, counter(t, reg, "vedette_ingest_store_errors_total"))
	stop()
	require.NoError(t, l.Close())
}

// Deliveries that a stopping consumer holds are discarded: their memory comes
// back and nobody waits for ever.
func TestStopDiscards(t *testing.T) {
	l := openLog(t, vfs.NewMem(), 1)
	entered := make(chan struct{}, 100)
	sink := ingesttest.Sink{Append: func(*signal.Metrics, int32, int64) (signal.AppendResult, error) {
		entered <- struct{}{}
		return signal.AppendResult{}, errors.New("not now")
	}}
	_, _, stop := start(t, l, &sink, ingest.DefaultConsumerConfig())
	var req remotewrite.Request
	b := payload(t, "m", 1)
	require.NoError(t, req.Decode(buffer.FormatRemoteWriteV1, b, wire.Limits{}))
	outcomes := make(chan ingest.Outcome, 2)
	released := make(chan struct{}, 2)
	release := func() { released <- struct{}{} }
	appendPayload(t, l, 0, b, ingest.NewDelivery(&wire.Part{Metrics: &req.Metrics}, outcomes, release))
	<-entered
	appendPayload(t, l, 0, b, ingest.NewDelivery(&wire.Part{Metrics: &req.Metrics}, outcomes, release))
	stop()
	for range 2 {
		require.False(t, (<-outcomes).Known)
		<-released
	}
	require.NoError(t, l.Close())
}

func TestSetAside(t *testing.T) {
	l := openLog(t, vfs.NewMem(), 1)
	appendPayload(t, l, 0, []byte("garbage"), nil)
	appendPayload(t, l, 0, payload(t, "m", 1), nil)
	_, err := l.Append(t.Context(), buffer.TopicMetrics, 0, []buffer.Record{{Tenant: "team", Format: 77, Payload: payload(t, "x", 1)}})
	require.NoError(t, err)
	var sink ingesttest.Sink
	cfg := ingest.DefaultConsumerConfig()
	cfg.SetAsideDir = filepath.Join(t.TempDir(), "aside")
	c, reg, stop := start(t, l, &sink, cfg)
	<-c.CaughtUp()
	stop()
	require.Equal(t, []string{line("m", 1)}, sink.Lines())
	got, err := os.ReadFile(filepath.Join(cfg.SetAsideDir, buffer.TopicMetrics+"-0-0.format1"))
	require.NoError(t, err)
	require.Equal(t, "garbage", string(got))
	require.Equal(t, 2.0, counter(t, reg, "vedette_ingest_messages_set_aside_total"))
	aside := c.SetAside()
	require.Len(t, aside, 2)
	require.Equal(t, []int64{0, 2}, []int64{aside[0].Offset, aside[1].Offset})
	require.Contains(t, aside[1].Error, "unknown format")
	w := httptest.NewRecorder()
	ingest.ServeSetAside(c).ServeHTTP(w, nil)
	require.Contains(t, w.Body.String(), `"offset":2,"tenant":"team","format":77`)
	require.NoError(t, l.Close())
	n, err := testutil.GatherAndCount(reg, "vedette_ingest_lag_messages")
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

func TestConsumerConfig(t *testing.T) {
	require.NoError(t, ingest.DefaultConsumerConfig().Validate())
	err := ingest.ConsumerConfig{}.Validate()
	require.EqualError(t, err, "group: is empty\ncommit_interval: got 0s, want > 0\nmax_delta_streams: got 0, want > 0")
}
