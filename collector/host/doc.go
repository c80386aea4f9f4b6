// Package host measures the machine: processors, memory, disks, file systems,
// network, sensors, services and files of metrics, under the names, labels, types
// and help texts of node_exporter, so that dashboards and rules that were written
// for it work unchanged. docs/host.md lists what differs.
//
//	             ┌─ cpu ────────┐
//	Collect ─────┼─ filesystem ─┼──► samples, node_scrape_collector_* ──► registry
//	             └─ … (a file   │
//	                each) ──────┘
//
// A Host is a prometheus.Collector. Its parts (cpu, meminfo, …: what node_exporter
// calls collectors) run at the same time, each in a goroutine that ends with the
// collection. One that fails, panics or has no data is counted, logged when that
// changes, and touches no other part. One that does not return within the timeout
// is left behind: its samples are dropped, and it is not started again before it
// has returned, so what hangs costs one goroutine. The same holds for the statfs
// of each mount point.
//
// A part owns its families and series; what it yields is fresh in every
// collection, so a registry may read it while the next one runs. The labels of a
// series are built once and kept while the series is there. A part yields at most
// maxSamples samples. Whatever a file of the kernel or a directory of text files
// holds, what comes out is valid: names and values are mended, duplicates dropped.
package host
