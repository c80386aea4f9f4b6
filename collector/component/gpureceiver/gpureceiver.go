// Package gpureceiver is the receiver vedette_gpu: NVIDIA GPUs, with the DCGM
// exporter's names. It starts vedette-nvml, which must be in the path or beside the
// executable.
package gpureceiver

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/collector/receiver"

	"github.com/vedette-io/vedette/collector/component"
	"github.com/vedette-io/vedette/collector/gpu"
)

// NewFactory makes the Collector's factory.
func NewFactory() receiver.Factory {
	return component.Kind[gpu.Config]{
		Type: "vedette_gpu", Job: "dcgm", Default: gpu.DefaultConfig,
		Open: func(c gpu.Config, logger *slog.Logger, own prometheus.Registerer) (*component.Source, error) {
			g, err := gpu.New(c, gpu.NewHelper(c), logger, own)
			if err != nil {
				return nil, err
			}
			return &component.Source{Collectors: []prometheus.Collector{g}, Close: g.Close}, nil
		},
	}.Factory()
}
