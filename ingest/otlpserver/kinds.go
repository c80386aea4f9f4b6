package otlpserver

import (
	"strings"

	collectorlogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/door"
)

// Paths of OTLP over HTTP.
const (
	MetricsPath = "/v1/metrics"
	TracesPath  = "/v1/traces"
	LogsPath    = "/v1/logs"
)

// kind is one of the kinds of telemetry that OTLP carries.
type kind struct {
	name    string // in metrics and texts
	path    string // over HTTP
	service string // over gRPC
	request string // its message
	format  buffer.Format

	// fromJSON returns the request's message in protobuf.
	fromJSON func(text []byte) ([]byte, error)
	// response answers a success; partial is nil if nothing was refused.
	response func(partial *door.PartialError) proto.Message
}

// method is the path of the kind's call.
func (k *kind) method() string { return "/" + k.service + "/Export" }

// kinds are those that are taken in.
var kinds = []*kind{
	{
		name: "metrics", path: MetricsPath, service: "opentelemetry.proto.collector.metrics.v1.MetricsService",
		request: "ExportMetricsServiceRequest", format: buffer.FormatOTLP,
		fromJSON: func(text []byte) ([]byte, error) {
			r := pmetricotlp.NewExportRequest()
			if err := r.UnmarshalJSON(text); err != nil {
				return nil, err
			}
			return r.MarshalProto()
		},
		response: func(partial *door.PartialError) proto.Message {
			r := &collectormetrics.ExportMetricsServiceResponse{}
			if partial != nil {
				r.PartialSuccess = &collectormetrics.ExportMetricsPartialSuccess{RejectedDataPoints: int64(partial.Samples), ErrorMessage: validText(partial)}
			}
			return r
		},
	},
	{
		name: "traces", path: TracesPath, service: "opentelemetry.proto.collector.trace.v1.TraceService",
		request: "ExportTraceServiceRequest", format: buffer.FormatOTLPTraces,
		fromJSON: func(text []byte) ([]byte, error) {
			r := ptraceotlp.NewExportRequest()
			if err := r.UnmarshalJSON(text); err != nil {
				return nil, err
			}
			return r.MarshalProto()
		},
		response: func(partial *door.PartialError) proto.Message {
			r := &collectortrace.ExportTraceServiceResponse{}
			if partial != nil {
				r.PartialSuccess = &collectortrace.ExportTracePartialSuccess{RejectedSpans: int64(partial.Samples), ErrorMessage: validText(partial)}
			}
			return r
		},
	},
	{
		name: "logs", path: LogsPath, service: "opentelemetry.proto.collector.logs.v1.LogsService",
		request: "ExportLogsServiceRequest", format: buffer.FormatOTLPLogs,
		fromJSON: func(text []byte) ([]byte, error) {
			r := plogotlp.NewExportRequest()
			if err := r.UnmarshalJSON(text); err != nil {
				return nil, err
			}
			return r.MarshalProto()
		},
		response: func(partial *door.PartialError) proto.Message {
			r := &collectorlogs.ExportLogsServiceResponse{}
			if partial != nil {
				r.PartialSuccess = &collectorlogs.ExportLogsPartialSuccess{RejectedLogRecords: int64(partial.Samples), ErrorMessage: validText(partial)}
			}
			return r
		},
	},
}

// listed joins what of tells of every kind: the last is behind the word.
func listed(word string, of func(k *kind) string) string {
	var b strings.Builder
	for i, k := range kinds {
		switch {
		case i == len(kinds)-1:
			b.WriteString(" " + word + " ")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(of(k))
	}
	return b.String()
}

// validText returns err's text as protobuf takes it.
func validText(err error) string { return strings.ToValidUTF8(err.Error(), "\uFFFD") }

// kindOf finds a kind by a path or method, as has tells; nil is none.
func kindOf(has func(k *kind) bool) *kind {
	for _, k := range kinds {
		if has(k) {
			return k
		}
	}
	return nil
}
