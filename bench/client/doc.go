// Package client is what benchmarks and checks send with and ask with: remote
// write 1.0 over a few connections, and the Prometheus query API.
package client
