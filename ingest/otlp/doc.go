// Package otlp decodes OTLP metrics (ExportMetricsServiceRequest, protobuf)
// straight from their bytes into the columns of signal.Metrics, with the series
// that Prometheus's own OTLP receiver makes of the same request: no struct and
// no allocation per data point.
//
//	payload ─Decode─► Metrics + Rejects ─Parts─► payloads of the partitions
//	                       │
//	                       └─ rows in Metrics.Deltas ─Accumulator, in partition order─► cumulative
//
// A data point becomes one row, or several with the same timestamps if it is a
// classic histogram or a summary; a point is kept or refused as a whole. Every
// resource with points has a row of target_info behind them.
//
// The labels of a series are written once: Metrics.Buf begins with the label
// bytes of points seen before, which a table finds by the 128-bit hash of
// (resource, scope, metric, attribute bytes). A point that is known costs a walk
// over its bytes and that hash. Table and bytes live as long as the Request and
// are bounded; when they are full they start anew.
//
// Parts copies messages as they are and writes new envelopes (resource, scope,
// metric) around them, so that everybody can read the result as OTLP. Since
// target_info is not in a request but derived from all points of a resource, an
// envelope made by Parts says in a field of its own which samples of it the part
// holds, and then nothing is derived. Other readers skip that field.
//
// A payload is translated with the settings of the Request that reads it. After
// a change of the settings, what the buffer still holds comes out with the new
// names.
package otlp
