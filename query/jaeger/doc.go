// Package jaeger serves Jaeger's query APIs over a traceql.Querier: version 3,
// whose traces are OTLP, and the older one with the JSON of Jaeger's own page,
// which jaeger-ui and Grafana's Jaeger data source call beside each other.
//
//	request ─► traceapi.Base ─► parameters ─► TraceQL ─► traceql.Querier
//	                                                        │
//	       UI JSON ◄─ adjust: marks, shared ids, clock skew ◄─ signal.Spans
//	     OTLP JSON ◄─────────────────────────────────────────┘
//
// Searches become TraceQL; what a client sent is quoted there. Texts of errors
// and of warnings are Jaeger's. docs/trace-api.md lists every endpoint and what
// is different from Jaeger.
//
// The package starts no goroutine and keeps no state.
package jaeger
