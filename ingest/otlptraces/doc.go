// Package otlptraces decodes OTLP spans (ExportTraceServiceRequest, protobuf)
// straight from their bytes into the columns of signal.Spans: no struct and no
// allocation per span.
//
//	payload ─copy or uncompress─► Spans.Buf ─Decode─► Spans + Rejects ─Parts─► payloads of the partitions
//
// The batch's Buf begins with the whole message, and names and values are ranges
// of it. Every span remembers where its message lies, so that Parts only copies
// messages into new envelopes of resource and scope; what the decoder does not
// know travels along.
//
// A span beyond the limits is cut, and one whose clock is wrong is marked: its
// message is written anew behind the others in Buf, with an attribute that says
// what happened, and decoded from there. A row is therefore always what its
// message says, and a part decodes without limits to exactly the spans that it
// was handed over with.
//
// Requests are read as the OpenTelemetry Collector reads them, with these
// differences. Ids that are not of 16 and 8 bytes or are zero, text that is not
// UTF-8 and values that are nested deeper than 64 levels refuse the span (or
// the spans of the resource or scope), not the request. Groups, which no sender of
// OTLP writes, are passed over as in all unknown fields. scope_spans of the
// deprecated field are not looked into where the new one is used. Kinds and status
// codes above 255 count as unset. Entity references of a resource are passed
// on but are in no column.
package otlptraces
