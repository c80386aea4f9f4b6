// Package http1 is the feature http: it counts HTTP/1.x requests where TCP
// sockets are read and written.
//
//	tracepoints ─► a parser per direction, in the kernel ─► map of counts by process, port, method, status
//	Collect     ─► read the map, fold processes into services ─► http_server_*, http_client_*
//
// Nothing is copied per request. What is not counted is itself counted, by reason.
package http1
