// Package zipkin serves Zipkin's query API, version 2, over a traceql.Querier, for
// zipkin-lens, Grafana's Zipkin data source and other clients of Zipkin.
//
//	request ─► traceapi.Base ─► parameters ─► TraceQL ─► traceql.Querier
//	                                                        │
//	                       v2 JSON ◄─ appendSpan ◄─ signal.Spans
//
// Spans that came in as Zipkin's version 2 go out as they were: appendSpan undoes
// what ingest/zipkin does; docs/zipkin.md says which attribute stands for what.
// Other spans become Zipkin's by OpenTelemetry's rules: events are annotations,
// resource attributes are tags, the status is the tags error and
// otel.status_code. docs/trace-api.md lists every endpoint and what is different
// from Zipkin.
//
// The package starts no goroutine and keeps no state.
package zipkin
