// Package traceql finds traces with TraceQL.
package traceql
