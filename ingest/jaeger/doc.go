// Package jaeger takes spans as Jaeger's clients and agents send them: batches in
// Thrift over HTTP, and in protobuf over gRPC.
//
//	body ──thrift or protobuf──► span ──encode──► spanbuild.Builder ──► OTLP ──► door.Entry
//
// A decoder fills one span at a time, whose strings are parts of the body, and
// encode writes it as OTLP at once; docs/jaeger.md says what becomes of what. It
// is the mapping of OpenTelemetry's translator, which Jaeger itself uses, where
// that keeps what was sent.
//
// What makes bad input harmless: lengths are checked against the bytes that are
// there, a span may have maxTags tags and fields of logs together, maxLogs logs
// and maxReferences references, and the OTLP request is charged to the door while
// it grows.
package jaeger

// Attributes that stand for what OTLP has no field for.
const (
	attrService = "service.name" // of the resource

	attrHost  = "host.name" // of the resource, as the tag hostname
	tagHost   = "hostname"
	attrFlags = "jaeger.flags" // if there are others than sampled

	attrWarnings = "@jaeger@warnings" // as Jaeger calls it

	attrReference = "opentracing.ref_type" // of links
	childOf       = "child_of"
	followsFrom   = "follows_from"
)

// Tags with a meaning of their own.
const (
	tagKind              = "span.kind"
	tagError             = "error"
	tagStatusCode        = "otel.status_code"
	tagStatusDescription = "otel.status_description"
	tagHTTPStatus        = "http.status_code"
	tagHTTPStatusNew     = "http.response.status_code"
	tagHTTPMessage       = "http.status_message"
	tagTraceState        = "w3c.tracestate"
	tagScopeName         = "otel.scope.name"
	tagScopeVersion      = "otel.scope.version"
	tagEvent             = "event" // of logs
)

// Limits of a single span.
const (
	maxTags       = 10_000 // with the fields of logs
	maxLogs       = 10_000
	maxReferences = 1_000
)

// flagSampled is the first bit of Jaeger's flags, and of OTLP's.
const flagSampled = 1
