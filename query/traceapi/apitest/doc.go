// Package apitest helps to test HTTP APIs for traces: a traceql.Querier over
// traces in memory that evaluates TraceQL by the reference evaluator, and a few
// traces to ask it for.
package apitest
