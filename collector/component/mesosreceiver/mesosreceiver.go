// Package mesosreceiver is the receiver vedette_mesos: masters, agents and tasks
// of Mesos, with the Mesos exporter's names.
package mesosreceiver

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/collector/receiver"

	"github.com/vedette-io/vedette/collector/component"
	"github.com/vedette-io/vedette/collector/mesos"
)

// NewFactory makes the Collector's factory.
func NewFactory() receiver.Factory {
	return component.Kind[mesos.Config]{
		Type: "vedette_mesos", Job: "mesos", Default: mesos.DefaultConfig,
		Open: func(c mesos.Config, logger *slog.Logger, own prometheus.Registerer) (*component.Source, error) {
			m, err := mesos.New(c, logger, own)
			if err != nil {
				return nil, err
			}
			return &component.Source{Collectors: []prometheus.Collector{m}}, nil
		},
	}.Factory()
}
