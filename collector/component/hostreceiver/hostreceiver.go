// Package hostreceiver is the receiver vedette_host: the machine, with
// node_exporter's names and labels.
package hostreceiver

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/collector/receiver"

	"github.com/vedette-io/vedette/collector/component"
	"github.com/vedette-io/vedette/collector/host"
)

// NewFactory makes the Collector's factory.
func NewFactory() receiver.Factory {
	return component.Kind[host.Config]{
		Type: "vedette_host", Job: "node", Default: host.DefaultConfig,
		Open: func(c host.Config, logger *slog.Logger, own prometheus.Registerer) (*component.Source, error) {
			h, err := host.New(host.Options{Config: c, Logger: logger, Registerer: own})
			if err != nil {
				return nil, err
			}
			return &component.Source{Collectors: []prometheus.Collector{h}}, nil
		},
	}.Factory()
}
