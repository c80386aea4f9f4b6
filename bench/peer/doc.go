// Package peer builds, starts, stops and measures the servers that a benchmark
// puts side by side: Vedette, VictoriaMetrics and Prometheus, and Jaeger for
// traces.
//
// Each is one process on a loopback port with a data directory of its own, in its
// default settings but for what a benchmark needs: nothing scrapes, remote write
// is accepted. CPU time and memory are read from /proc, so a peer is charged for
// everything its process does and for nothing that the client does.
package peer
