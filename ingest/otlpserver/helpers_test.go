package otlpserver

import (
	"context"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/doortest"
	"github.com/vedette-io/vedette/ingest/otlp"
	"github.com/vedette-io/vedette/ingest/otlplogs"
	"github.com/vedette-io/vedette/ingest/otlptraces"
	"github.com/vedette-io/vedette/ingest/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a running server over a pipeline.
type server struct {
	*Server
	*doortest.Pipeline
	stop func() // twice is once
}

// newServer starts a server that ends with the test. change may be nil.
func newServer(t testing.TB, pipeline doortest.Options, change func(*Options)) *server {
	t.Helper()
	pipeline.Formats = func(f *wire.Formats) {
		f.Register(func() wire.Decoder { return otlp.New(otlp.DefaultConfig()) }, buffer.FormatOTLP, buffer.FormatOTLPSnappy)
		otlptraces.Register(f)
		otlplogs.Register(f)
	}
	p := doortest.New(t, pipeline)
	o := Options{
		Config: Config{GRPC: GRPCConfig{Listen: "127.0.0.1:0"}, HTTP: HTTPConfig{Listen: "127.0.0.1:0"}},
		Entry:  p.Entry("otlp"), Logger: slog.New(slog.DiscardHandler), Registerer: p.Registerer,
	}
	if change != nil {
		change(&o)
	}
	s, err := Open(t.Context(), o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		patience, enough := context.WithTimeout(context.Background(), 30*time.Second)
		defer enough()
		require.NoError(t, s.Stop(patience))
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return &server{s, p, stop}
}

// client is gRPC's own client.
func (s *server) client(t testing.TB) (collectorpb.MetricsServiceClient, *grpc.ClientConn) {
	t.Helper()
	conn, err := grpc.NewClient(s.GRPCAddr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return collectorpb.NewMetricsServiceClient(conn), conn
}

// webClient returns a client whose connections end with the test.
func webClient(t testing.TB) *http.Client {
	c := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// gauge is a request of one metric with a point for every value.
func gauge(name string, at time.Time, values ...float64) *collectorpb.ExportMetricsServiceRequest {
	g := &metricspb.Gauge{}
	for i, v := range values {
		g.DataPoints = append(g.DataPoints, &metricspb.NumberDataPoint{
			TimeUnixNano: uint64(at.UnixNano()),
			Value:        &metricspb.NumberDataPoint_AsDouble{AsDouble: v},
			Attributes: []*commonpb.KeyValue{{
				Key: "i", Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: int64(i)}},
			}},
		})
	}
	return &collectorpb.ExportMetricsServiceRequest{ResourceMetrics: []*metricspb.ResourceMetrics{{
		ScopeMetrics: []*metricspb.ScopeMetrics{{Metrics: []*metricspb.Metric{{Name: name, Data: &metricspb.Metric_Gauge{Gauge: g}}}}},
	}}}
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	require.NoError(t, err)
	return b
}

var (
	exemplarTime = regexp.MustCompile(`^(.*} # \{.*} \S+) \d+$`)
	sampleTime   = regexp.MustCompile(`^(\S+ \{.*?}) \d+ (.*?)( start)?(=\d+)?$`)
)

// timeless returns what the sink got without timestamps. The SDK reads its clock
// for every instrument: if two readings fall on both sides of a millisecond,
// target_info has a sample at each, which is one line here.
func (s *server) timeless() []string {
	lines := s.Sink.Lines()
	for i, l := range lines {
		l = exemplarTime.ReplaceAllString(l, "$1")
		lines[i] = sampleTime.ReplaceAllString(l, "$1 $2$3")
	}
	slices.Sort(lines)
	return slices.CompactFunc(lines, func(a, b string) bool { return a == b && strings.Contains(a, `__name__="target_info"`) })
}
