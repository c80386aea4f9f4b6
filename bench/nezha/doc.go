// Package nezha loads the traces of the Nezha data set, recorded from two
// applications under injected faults, into a server that takes OTLP.
//
//	*.tar.zst ─► Read: CSV lines ─► Span ─► Pack: ExportTraceServiceRequests ─► Load: sent over several connections
//
// What a line of the data set lacks, a span lacks: there are no attributes, no
// status and no kind. A span's resource has service.name, which is the name of the
// pod without its last two parts, and k8s.pod.name. Archives are read as a stream;
// nothing is unpacked to disk. Lines that are in an archive twice, because the
// recorded minutes overlap, are read once.
package nezha
