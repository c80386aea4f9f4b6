// Package otlpspans writes signal.Spans as OTLP and reads the values that a batch
// keeps in OTLP's own bytes.
//
//	Spans ─AppendRequest, AppendRows─► protobuf: TracesData, which is ExportTraceServiceRequest too
//	      ─Traces────────────────────► the Collector's ptrace.Traces
//	      ─AppendJSON────────────────► OTLP/JSON, ids in hex
//	AttrArray, AttrMap ─Elements, Entries─► values
//
// Nothing that the batch holds is lost: attributes keep their order, their types
// and their duplicates. Spans come grouped by resource and scope.
package otlpspans
