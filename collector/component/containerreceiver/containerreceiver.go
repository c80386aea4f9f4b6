// Package containerreceiver is the receiver vedette_container: containers, pods
// and systemd units, with cAdvisor's names and labels.
package containerreceiver

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/collector/receiver"

	"github.com/vedette-io/vedette/collector/component"
	"github.com/vedette-io/vedette/collector/container"
)

// NewFactory makes the Collector's factory.
func NewFactory() receiver.Factory {
	return component.Kind[container.Config]{
		Type: "vedette_container", Job: "cadvisor", Default: container.DefaultConfig,
		Open: func(c container.Config, logger *slog.Logger, own prometheus.Registerer) (*component.Source, error) {
			containers, err := container.New(c, logger, own)
			if err != nil {
				return nil, err
			}
			return &component.Source{Collectors: []prometheus.Collector{containers}, Run: containers.Run}, nil
		},
	}.Factory()
}
