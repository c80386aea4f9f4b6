package component_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/exporter/exportertest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/vedette-io/vedette/collector/component/containerreceiver"
	"github.com/vedette-io/vedette/collector/component/ebpfreceiver"
	"github.com/vedette-io/vedette/collector/component/gpureceiver"
	"github.com/vedette-io/vedette/collector/component/hostreceiver"
	"github.com/vedette-io/vedette/collector/component/kafkaexporter"
	"github.com/vedette-io/vedette/collector/component/logreceiver"
	"github.com/vedette-io/vedette/collector/component/mesosreceiver"
	"github.com/vedette-io/vedette/collector/component/queueexporter"
	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/buffer/kafka"
	"github.com/vedette-io/vedette/ingest/buffer/kafkatest"
)

// set lays keys over a configuration.
func set(t *testing.T, c component.Config, keys map[string]any) component.Config {
	t.Helper()
	require.NoError(t, c.(confmap.Unmarshaler).Unmarshal(confmap.NewFromStringMap(keys)))
	require.NoError(t, c.(interface{ Validate() error }).Validate())
	return c
}

// Every receiver of metrics starts with its defaults and stops; the host's
// brings node_exporter's series.
func TestReceivers(t *testing.T) {
	for name, f := range map[string]receiver.Factory{
		"vedette_host": hostreceiver.NewFactory(), "vedette_container": containerreceiver.NewFactory(), "vedette_gpu": gpureceiver.NewFactory(),
		"vedette_mesos": mesosreceiver.NewFactory(), "vedette_ebpf": ebpfreceiver.NewFactory(),
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, name, f.Type().String())
			sink := new(consumertest.MetricsSink)
			c := set(t, f.CreateDefaultConfig(), map[string]any{"collection_interval": "1s", "instance": "here"})
			r, err := f.CreateMetrics(t.Context(), receivertest.NewNopSettings(f.Type()), c, sink)
			require.NoError(t, err)
			require.NoError(t, r.Start(t.Context(), componenttest.NewNopHost()))
			require.Eventually(t, func() bool { return len(sink.AllMetrics()) > 0 }, time.Minute, 5*time.Millisecond)
			require.NoError(t, r.Shutdown(t.Context()))
			if name != "vedette_host" {
				return
			}
			names := map[string]bool{}
			for _, m := range sink.AllMetrics()[0].ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().All() {
				names[m.Name()] = true
			}
			require.Contains(t, names, "node_cpu_seconds_total")
			require.Contains(t, names, "node_load1")
		})
	}
}

// The probe is one for the pipelines of metrics and of traces.
func TestEBPFReceiverOfBoth(t *testing.T) {
	f := ebpfreceiver.NewFactory()
	c := set(t, f.CreateDefaultConfig(), map[string]any{"collection_interval": "1s", "spans": map[string]any{"ratio": 1.0}})
	settings := receivertest.NewNopSettings(f.Type())
	sink := new(consumertest.MetricsSink)
	m, err := f.CreateMetrics(t.Context(), settings, c, sink)
	require.NoError(t, err)
	tr, err := f.CreateTraces(t.Context(), settings, c, new(consumertest.TracesSink))
	require.NoError(t, err)
	require.Same(t, m, tr)
	for _, r := range []component.Component{m, tr} {
		require.NoError(t, r.Start(t.Context(), componenttest.NewNopHost()))
	}
	require.Eventually(t, func() bool { return len(sink.AllMetrics()) > 0 }, time.Minute, 5*time.Millisecond)
	require.NoError(t, tr.Shutdown(t.Context()))
	sink.Reset()
	require.Never(t, func() bool { return len(sink.AllMetrics()) > 0 }, 1500*time.Millisecond, 50*time.Millisecond, "metrics behind the first shutdown")
	require.NoError(t, m.Shutdown(t.Context()))
}

// Lines are read once, across a restart.
func TestLogReceiver(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "app.log")
	require.NoError(t, os.WriteFile(file, []byte("one\ntwo\n"), 0o644))
	f := logreceiver.NewFactory()
	run := func(want ...string) {
		sink := new(consumertest.LogsSink)
		c := set(t, f.CreateDefaultConfig(), map[string]any{
			"directory": filepath.Join(dir, "checkpoint"),
			"sources":   []any{map[string]any{"include": []any{file}, "start": "beginning"}},
		})
		r, err := f.CreateLogs(t.Context(), receivertest.NewNopSettings(f.Type()), c, sink)
		require.NoError(t, err)
		require.NoError(t, r.Start(t.Context(), componenttest.NewNopHost()))
		require.Eventually(t, func() bool { return sink.LogRecordCount() >= len(want) }, time.Minute, 5*time.Millisecond)
		require.NoError(t, r.Shutdown(t.Context()))
		var got []string
		for _, l := range sink.AllLogs() {
			got = append(got, bodies(l)...)
		}
		require.Equal(t, want, got)
	}
	run("one", "two")
	w, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = w.WriteString("three\n")
	require.NoError(t, err)
	require.NoError(t, w.Close())
	run("three")
}

func bodies(l plog.Logs) (out []string) {
	for _, resource := range l.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				out = append(out, record.Body().Str())
			}
		}
	}
	return out
}

func sampleLogs(text string) plog.Logs {
	l := plog.NewLogs()
	l.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty().Body().SetStr(text)
	return l
}

func sampleMetrics() pmetric.Metrics {
	m := pmetric.NewMetrics()
	one := m.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	one.SetName("level")
	p := one.SetEmptyGauge().DataPoints().AppendEmpty()
	p.SetDoubleValue(1)
	p.SetTimestamp(1e18)
	return m
}

func sampleTraces() ptrace.Traces {
	td := ptrace.NewTraces()
	s := td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty()
	s.SetTraceID([16]byte{1})
	s.SetSpanID([8]byte{1})
	s.SetStartTimestamp(1e18)
	s.SetEndTimestamp(1e18 + 1)
	return td
}

// While the server is away the queue takes everything, and delivers it in order
// when the server is back, the exporter having been restarted meanwhile.
func TestQueueExporter(t *testing.T) {
	var away atomic.Bool
	away.Store(true)
	got := make(chan string, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if away.Load() {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		if r.Header.Get("Content-Encoding") == "snappy" {
			body, _ = snappy.Decode(nil, body)
		}
		text := r.URL.Path
		if text == "/v1/logs" {
			request := plogotlp.NewExportRequest()
			_ = request.UnmarshalProto(body)
			for _, line := range bodies(request.Logs()) {
				got <- line
			}
			return
		}
		got <- text
	}))
	t.Cleanup(srv.Close)
	f := queueexporter.NewFactory()
	dir := t.TempDir()
	open := func() (all []component.Component, consume func(context.Context, plog.Logs) error) {
		c := set(t, f.CreateDefaultConfig(), map[string]any{"endpoint": srv.URL, "directory": dir, "max_backoff": "200ms"})
		settings := exportertest.NewNopSettings(f.Type())
		m, err := f.CreateMetrics(t.Context(), settings, c)
		require.NoError(t, err)
		tr, err := f.CreateTraces(t.Context(), settings, c)
		require.NoError(t, err)
		l, err := f.CreateLogs(t.Context(), settings, c)
		require.NoError(t, err)
		all = []component.Component{m, tr, l}
		for _, e := range all {
			require.NoError(t, e.Start(t.Context(), componenttest.NewNopHost()))
		}
		require.NoError(t, m.ConsumeMetrics(t.Context(), sampleMetrics()))
		require.NoError(t, tr.ConsumeTraces(t.Context(), sampleTraces()))
		return all, l.ConsumeLogs
	}
	stop := func(all []component.Component) {
		for _, e := range all {
			require.NoError(t, e.Shutdown(t.Context()))
		}
	}
	const lines = 20
	all, consume := open()
	for i := range lines / 2 {
		require.NoError(t, consume(t.Context(), sampleLogs(fmt.Sprint(i))))
	}
	stop(all)
	all, consume = open()
	for i := range lines / 2 {
		require.NoError(t, consume(t.Context(), sampleLogs(fmt.Sprint(lines/2+i))))
	}
	away.Store(false)
	seen := map[string]int{}
	next := 0
	for next < lines || seen["/v1/metrics"] == 0 || seen["/v1/traces"] == 0 {
		select {
		case text := <-got:
			if text == fmt.Sprint(next) {
				next++
			} else {
				require.Contains(t, []string{"/v1/metrics", "/v1/traces"}, text, "logs in order")
			}
			seen[text]++
		case <-time.After(time.Minute):
			t.Fatalf("got %v", seen)
		}
	}
	stop(all)
}

// What the Kafka exporter produces is in the topics that Vedette reads.
func TestKafkaExporter(t *testing.T) {
	broker := kafkatest.Start(t, kafkatest.Options{})
	f := kafkaexporter.NewFactory()
	c := set(t, f.CreateDefaultConfig(), map[string]any{
		"brokers": []any{broker.Addr()}, "topics": map[string]any{"replication_factor": 1},
		"sending_queue": map[string]any{"enabled": false}, "retry_on_failure": map[string]any{"enabled": false},
	})
	settings := exportertest.NewNopSettings(f.Type())
	m, err := f.CreateMetrics(t.Context(), settings, c)
	require.NoError(t, err)
	tr, err := f.CreateTraces(t.Context(), settings, c)
	require.NoError(t, err)
	l, err := f.CreateLogs(t.Context(), settings, c)
	require.NoError(t, err)
	for _, e := range []component.Component{m, tr, l} {
		require.NoError(t, e.Start(t.Context(), componenttest.NewNopHost()))
	}
	require.NoError(t, m.ConsumeMetrics(t.Context(), sampleMetrics()))
	require.NoError(t, tr.ConsumeTraces(t.Context(), sampleTraces()))
	require.NoError(t, l.ConsumeLogs(t.Context(), sampleLogs("one")))
	for _, e := range []component.Component{m, tr, l} {
		require.NoError(t, e.Shutdown(t.Context()))
	}
	cfg := kafka.DefaultConfig()
	cfg.Brokers, cfg.Consumer.InstanceID, cfg.Topics.ReplicationFactor = []string{broker.Addr()}, "test", 1
	topics := map[string]buffer.Format{
		buffer.TopicMetrics: buffer.FormatOTLP, buffer.TopicTraces: buffer.FormatOTLPTraces, buffer.TopicLogs: buffer.FormatOTLPLogs,
	}
	b, err := kafka.Open(t.Context(), cfg, slices.Collect(maps.Keys(topics)), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	for topic, format := range topics {
		ctx, cancel := context.WithCancel(t.Context())
		found := make(chan buffer.Format, 1)
		done := make(chan error, 1)
		go func() {
			done <- b.Consume(ctx, "test", topic, func(ctx context.Context, claim buffer.Claim) error {
				claim.StartAt(0)
				for ctx.Err() == nil {
					messages, err := claim.Next(ctx)
					if err != nil {
						return err
					}
					for _, m := range messages {
						found <- m.Format
					}
				}
				return nil
			})
		}()
		select {
		case got := <-found:
			require.Equal(t, format, got, topic)
		case <-time.After(time.Minute):
			t.Errorf("nothing in %s", topic)
		}
		cancel()
		<-done
	}
}

// One queue is open from the first start to the last shutdown of those that were
// started; the others, as after a start that failed elsewhere, change nothing.
func TestQueueExporterLifecycle(t *testing.T) {
	f := queueexporter.NewFactory()
	settings := exportertest.NewNopSettings(f.Type())
	dir := filepath.Join(t.TempDir(), "queue")
	require.NoError(t, os.WriteFile(dir, nil, 0o644)) // in the way
	c := set(t, f.CreateDefaultConfig(), map[string]any{"endpoint": "http://127.0.0.1:1", "directory": dir, "log": map[string]any{"max_record_bytes": 4096}})
	m, err := f.CreateMetrics(t.Context(), settings, c)
	require.NoError(t, err)
	l, err := f.CreateLogs(t.Context(), settings, c)
	require.NoError(t, err)
	require.Error(t, m.ConsumeMetrics(t.Context(), sampleMetrics()), "not started")
	host := componenttest.NewNopHost()
	require.Error(t, m.Start(t.Context(), host))
	require.Error(t, l.Start(t.Context(), host), "of a queue that is not open")
	require.NoError(t, m.Shutdown(t.Context()))
	require.NoError(t, os.Remove(dir))
	require.NoError(t, m.Start(t.Context(), host))
	require.NoError(t, l.Shutdown(t.Context()), "never started")
	require.NoError(t, m.ConsumeMetrics(t.Context(), sampleMetrics()))
	noise := make([]byte, 1<<16)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	large := sampleLogs(hex.EncodeToString(noise))
	err = l.ConsumeLogs(t.Context(), large)
	require.True(t, consumererror.IsPermanent(err), "a request that is too large: %v", err)
	for range 2 {
		require.NoError(t, m.Shutdown(t.Context()))
	}
	require.Error(t, m.ConsumeMetrics(t.Context(), sampleMetrics()), "stopped")
}
