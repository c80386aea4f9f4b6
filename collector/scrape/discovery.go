package scrape

// The discoveries of Prometheus that are linked in, one by one: the package that
// installs them all brings the client libraries of two dozen clouds along. Each
// registers itself with Prometheus's configuration when it is imported; static
// ones need no import.
//
// Together they make the binary some 40 MB larger. Most of that is kubernetes,
// for client-go comes with it; consul, moby, nomad and Vedette's own etcd bring a
// client library each, and the rest little that is not linked anyway.
import (
	_ "github.com/prometheus/prometheus/discovery/consul"
	_ "github.com/prometheus/prometheus/discovery/dns"
	_ "github.com/prometheus/prometheus/discovery/file"
	_ "github.com/prometheus/prometheus/discovery/http"
	_ "github.com/prometheus/prometheus/discovery/kubernetes"
	_ "github.com/prometheus/prometheus/discovery/marathon"
	_ "github.com/prometheus/prometheus/discovery/moby"
	_ "github.com/prometheus/prometheus/discovery/nomad"

	_ "github.com/vedette-io/vedette/collector/etcd"
)
