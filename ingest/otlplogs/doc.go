// Package otlplogs checks OTLP log records (ExportLogsServiceRequest, protobuf) and
// divides them for the partitions of the buffer, without making records of them:
// nothing behind the buffer reads them yet, and it holds them as they came.
//
//	payload ─uncompress─► Decode: every byte is checked ─► signal.Logs (counts) + Rejects
//	                         │ where each record lies
//	                         └─Parts─► payloads of the partitions
//
// A request is read in one pass, which notes where every record's message lies.
// Parts copies these messages, with those of their resource and scope, and never
// encodes one anew; what the decoder does not know travels along.
//
// Records of one stream, which is a resource and a scope, byte by byte, go to one
// partition and stay in order (PartitionOf).
//
// Requests are read as the OpenTelemetry Collector reads them, with these
// differences. Ids that are there and are not of 16 and 8 bytes, text that is not
// UTF-8, and values that are nested deeper than 64 levels refuse the record (or the
// records of the resource or scope), not the request. A record that is larger than
// the limit is refused, too: it is not cut, since nobody could tell what of it was
// worth keeping. scope_logs of the deprecated field are not looked into where
// the new one is used.
//
// Counter is what consumes the topic of logs for as long as there is no store.
package otlplogs
