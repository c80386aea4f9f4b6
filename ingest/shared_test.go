package ingest_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"github.com/vedette-io/vedette/ingest"
	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/ingesttest"
	"github.com/vedette-io/vedette/ingest/otlp"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/vfs"
)

// startOTLP runs a consumer that knows OTLP. joined is nil for a log of its own.
func startOTLP(t *testing.T, l *buffer.Log, sink ingest.Sink, joined func(context.Context) (int, error)) (c *ingest.Consumer, reg *prometheus.Registry, stop func()) {
	t.Helper()
	formats := &wire.Formats{}
	formats.Register(func() wire.Decoder { return otlp.New(otlp.DefaultConfig()) }, buffer.FormatOTLP)
	reg = prometheus.NewRegistry()
	cfg := ingest.DefaultConsumerConfig()
	cfg.CommitInterval = time.Hour
	c, err := ingest.NewConsumer(ingest.ConsumerOptions{
		Buffer: l, Sink: sink, Config: cfg, Formats: formats, Joined: joined, Logger: slog.New(slog.DiscardHandler), Registerer: reg,
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

// delta is an OTLP request of one sum that has grown by value since the second
// before at.
func delta(t *testing.T, at int64, value float64) []byte {
	t.Helper()
	m := pmetric.NewMetrics()
	metric := m.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	metric.SetName("orders")
	sum := metric.SetEmptySum()
	sum.SetIsMonotonic(true)
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
	p := sum.DataPoints().AppendEmpty()
	p.SetStartTimestamp(pcommon.Timestamp((at - 1) * int64(time.Second)))
	p.SetTimestamp(pcommon.Timestamp(at * int64(time.Second)))
	p.SetDoubleValue(value)
	b, err := pmetricotlp.NewExportRequestFromMetrics(m).MarshalProto()
	require.NoError(t, err)
	return b
}

func appendDelta(t *testing.T, l *buffer.Log, at int64, value float64) {
	t.Helper()
	_, err := l.Append(t.Context(), buffer.TopicMetrics, 0, []buffer.Record{{Tenant: "team", Format: buffer.FormatOTLP, Payload: delta(t, at, value)}})
	require.NoError(t, err)
}

// Deltas are added up in the order of the log; one that comes twice counts once.
func TestDeltas(t *testing.T) {
	l := openLog(t, vfs.NewMem(), 1)
	var sink ingesttest.Sink
	appendDelta(t, l, 11, 5)
	appendDelta(t, l, 12, 3)
	appendDelta(t, l, 12, 3)
	appendDelta(t, l, 13, 2)
	c, reg, stop := startOTLP(t, l, &sink, nil)
	<-c.CaughtUp()
	stop()
	require.NoError(t, l.Close())
	require.Equal(t, []string{
		`team {__name__="orders_total"} 11000 5 start=10000`,
		`team {__name__="orders_total"} 12000 8 start=10000`,
		`team {__name__="orders_total"} 13000 10 start=10000`,
	}, sink.Lines())
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP vedette_ingest_delta_samples_total Samples with delta temporality, by what became of them: added to their series' sum, or dropped and why.
# TYPE vedette_ingest_delta_samples_total counter
vedette_ingest_delta_samples_total{result="added",topic="vedette.metrics"} 3
vedette_ingest_delta_samples_total{result="out_of_order",topic="vedette.metrics"} 1
`), "vedette_ingest_delta_samples_total"))
}

// On a shared buffer a consumer flushes and commits what it has before it lets a
// partition go, trusts what was committed beyond its own blocks, and is caught up
// once it has read the partitions that it was given.
func TestSharedBuffer(t *testing.T) {
	l := openLog(t, vfs.NewMem(), 1)
	appendDelta(t, l, 11, 5)
	joined := make(chan int, 1)
	join := func(ctx context.Context) (int, error) {
		select {
		case n := <-joined:
			return n, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	var first ingesttest.Sink
	c, _, stop := startOTLP(t, l, &first, join)
	select {
	case <-c.CaughtUp():
		t.Fatal("caught up before it knew its partitions")
	default:
	}
	joined <- 1
	<-c.CaughtUp()
	stop()
	require.Equal(t, int64(1), first.Durable("", "", 0), "flushed when the partition was given up")

	// The next owner has none of it, and begins where the first has ended.
	appendDelta(t, l, 12, 3)
	var second ingesttest.Sink
	c, _, stop = startOTLP(t, l, &second, join)
	joined <- 1
	<-c.CaughtUp()
	stop()
	require.Equal(t, []int64{1}, second.Offsets(0))

	// A member without partitions is caught up at once.
	require.NoError(t, l.Close())
	l = openLog(t, vfs.NewMem(), 1)
	idle, _, stop := startOTLP(t, l, &ingesttest.Sink{}, join)
	joined <- 0
	<-idle.CaughtUp()
	stop()
	require.NoError(t, l.Close())
}
