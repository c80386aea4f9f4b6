package otlpserver

import (
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
	collectorlogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"

	"github.com/vedette-io/vedette/ingest/doortest"
)

// What the Go SDK sends by each of its exporters arrives.
func TestGoSDKLogs(t *testing.T) {
	exporters := map[string]func(*server) (sdklog.Exporter, error){
		"grpc": func(s *server) (sdklog.Exporter, error) {
			return otlploggrpc.New(t.Context(), otlploggrpc.WithInsecure(), otlploggrpc.WithEndpoint(s.GRPCAddr().String()))
		},
		"grpc gzip": func(s *server) (sdklog.Exporter, error) {
			return otlploggrpc.New(t.Context(), otlploggrpc.WithInsecure(), otlploggrpc.WithEndpoint(s.GRPCAddr().String()), otlploggrpc.WithCompressor("gzip"))
		},
		"http": func(s *server) (sdklog.Exporter, error) {
			return otlploghttp.New(t.Context(), otlploghttp.WithInsecure(), otlploghttp.WithEndpoint(s.HTTPAddr().String()), otlploghttp.WithHTTPClient(webClient(t)))
		},
		"http gzip": func(s *server) (sdklog.Exporter, error) {
			return otlploghttp.New(t.Context(), otlploghttp.WithInsecure(), otlploghttp.WithEndpoint(s.HTTPAddr().String()), otlploghttp.WithHTTPClient(webClient(t)),
				otlploghttp.WithCompression(otlploghttp.GzipCompression))
		},
	}
	for name, open := range exporters {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, doortest.Options{Partitions: 2}, nil)
			exporter, err := open(s)
			require.NoError(t, err)
			provider := sdklog.NewLoggerProvider(sdklog.WithProcessor(sdklog.NewBatchProcessor(exporter)),
				sdklog.WithResource(resource.NewSchemaless(attribute.String("service.name", "shop"))))
			for i, severity := range []log.Severity{log.SeverityInfo, log.SeverityError2, log.SeverityInfo4} {
				var r log.Record
				r.SetTimestamp(time.Now())
				r.SetSeverity(severity)
				r.SetBody(attribute.StringValue("order taken"))
				r.AddAttributes(attribute.Int("n", i), attribute.StringSlice("kinds", []string{"book", "map"}))
				provider.Logger("shop/orders").Emit(t.Context(), r)
			}
			require.NoError(t, provider.Shutdown(t.Context()))
			require.Equal(t, []string{"default shop 3 [0 0 0 2 0 1 0]"}, s.LogSink.Logs())
		})
	}
}

// Answers to requests of logs have logs' messages, in the request's format.
func TestLogAnswers(t *testing.T) {
	s := newServer(t, doortest.Options{}, nil)
	_, conn := s.client(t)
	client := collectorlogs.NewLogsServiceClient(conn)
	text := func(s string) *commonpb.AnyValue {
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: s}}
	}
	request := func(records ...*logspb.LogRecord) *collectorlogs.ExportLogsServiceRequest {
		return &collectorlogs.ExportLogsServiceRequest{ResourceLogs: []*logspb.ResourceLogs{{
			Resource:  &resourcepb.Resource{Attributes: []*commonpb.KeyValue{{Key: "service.name", Value: text("cart")}}},
			ScopeLogs: []*logspb.ScopeLogs{{LogRecords: records}},
		}}}
	}
	good := &logspb.LogRecord{Body: text("good"), SeverityNumber: logspb.SeverityNumber_SEVERITY_NUMBER_WARN}
	answer, err := client.Export(t.Context(), request(good))
	require.NoError(t, err)
	require.Nil(t, answer.PartialSuccess)
	answer, err = client.Export(t.Context(), request(&logspb.LogRecord{TraceId: []byte("short")}, good, &logspb.LogRecord{SpanId: []byte("short")}))
	require.NoError(t, err)
	require.EqualValues(t, 2, answer.PartialSuccess.GetRejectedLogRecords())
	require.Contains(t, answer.PartialSuccess.GetErrorMessage(), "log record 1 of the request: trace id has 5 bytes")

	post := func(contentType, tenant, body string) (int, string) {
		code, _, text := s.post(t, LogsPath, http.Header{"Content-Type": {contentType}, "X-Scope-Orgid": {tenant}}, []byte(body))
		return code, string(text)
	}
	code, body := post(typeJSON, "team", `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1700000000000000000","severityNumber":17,
		"traceId":"5B8EFFF798038103D269B633813FC60C","body":{"stringValue":"by hand"}},{"body":{"kvlistValue":{"values":[{"key":"a"}]}}}]}]}]}`)
	require.Equal(t, 200, code, body)
	require.JSONEq(t, `{}`, body)
	code, body = post(typeJSON, "team", `{"resourceLogs":`)
	require.Equal(t, 400, code, body)
	code, body = post(typeProtobuf, "team", "\xff\xff garbage")
	require.Equal(t, 400, code, body)
	require.Equal(t, []string{"default cart 1 [0 0 0 0 1 0 0]", "default cart 1 [0 0 0 0 1 0 0]", "team  2 [1 0 0 0 0 1 0]"}, s.LogSink.Logs())

	n, err := testutil.GatherAndCount(s.Registerer, "vedette_ingest_door_log_records_total")
	require.NoError(t, err)
	require.Equal(t, 2, n)
}
