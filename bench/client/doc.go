// Package client is what benchmarks and checks send with and ask with: remote
// write 1.0 and OTLP over a few connections, the Prometheus query API, and
// Tempo's.
package client
