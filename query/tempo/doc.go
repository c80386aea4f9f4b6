// Package tempo serves Tempo's HTTP API over a traceql.Querier, so that Grafana's
// Tempo data source, its Traces Drilldown and other clients of Tempo can ask
// Vedette.
//
//	request ─► traceapi.Base ─► handler ─► traceql.Querier
//	                              └─► answer: JSON as protobuf's, or protobuf
//
// Answers have the form of Tempo's protobuf messages: in JSON their fields are in
// camel case, 64-bit integers are strings, ids of a trace's spans are base64 and
// what is zero is left out. docs/trace-api.md lists every endpoint and what is
// different from Tempo.
//
// The package starts no goroutine and keeps no state.
package tempo
