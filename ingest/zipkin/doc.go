// Package zipkin takes spans as Zipkin's clients send them: JSON and Thrift of
// version 1, JSON and protobuf of version 2.
//
//	body ──decoder of its format──► span ──encode──► spanbuild.Builder ──► OTLP ──► door.Entry
//	          v1Span ──split────────┘
//
// A decoder fills one span at a time, whose strings are parts of the body, and
// encode writes it as OTLP at once. A span of version 1 may hold both sides of a
// call and is split into its halves first, by the rules of Zipkin's own server.
// What Zipkin refuses is refused with the whole request, and the answer names
// the span and the field.
//
// What makes bad input harmless: lengths are checked against the bytes that are
// there, a span may have maxTags tags and maxAnnotations annotations, unknown
// values are nested maxDepth deep at most, and the OTLP request is charged to the
// door while it grows.
//
// docs/zipkin.md says which attribute stands for what; query/zipkin makes
// Zipkin's spans of them again.
package zipkin

// Attributes that stand for what OTLP has no field for. Those of Zipkin's own
// that are not strings cannot be mistaken for tags, which always are.
const (
	attrService = "service.name" // of the resource, as the next two

	attrLocalAddress = "network.local.address"
	attrLocalIPv6    = "zipkin.local.ipv6" // if the address is an IPv4
	attrLocalPort    = "network.local.port"

	attrPeerService = "peer.service"
	attrPeerAddress = "network.peer.address"
	attrPeerIPv6    = "zipkin.remote.ipv6" // if the address is an IPv4
	attrPeerPort    = "network.peer.port"

	// In place of the three before, if a tag has that name and another value.
	attrRemoteService = "zipkin.remote.service_name"
	attrRemoteAddress = "zipkin.remote.address"
	attrRemotePort    = "zipkin.remote.port"

	attrShared      = "zipkin.shared"
	attrDebug       = "zipkin.debug"
	attrNetworkTime = "zipkin.network_time_us"
	attrNoStart     = "otel.zipkin.absentField.startTime" // as OpenTelemetry calls it
)

// Tags with a meaning of their own.
const (
	tagError             = "error"
	tagStatusCode        = "otel.status_code"
	tagStatusDescription = "otel.status_description"
	tagScopeName         = "otel.scope.name"
	tagScopeVersion      = "otel.scope.version"
)

// Limits of a single span.
const (
	maxTags        = 10_000
	maxAnnotations = 10_000
	maxHalves      = 16 // services that a span of version 1 may name
	maxDepth       = 64 // of values that are skipped
)
