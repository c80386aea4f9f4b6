//go:build !linux || !(amd64 || arm64)

package statsd

import "github.com/prometheus/client_golang/prometheus"

// registerDrops does nothing: only Linux tells what was dropped.
func registerDrops(prometheus.Registerer, packetSocket) {}
