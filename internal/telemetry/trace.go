package telemetry

import (
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// TraceConfig says which of Vedette's own spans are kept.
type TraceConfig struct {
	// SampleRatio is the share of Vedette's own traces that are kept, from 0 to 1.
	SampleRatio float64 `yaml:"sample_ratio"`
	// KeepSpans is how many of the newest spans /debug/traces can show.
	KeepSpans int `yaml:"keep_spans"`
	// Store says whether they are stored as well, as spans of the service vedette.
	Store bool `yaml:"store"`
}

// ServiceName is the name of Vedette's own spans' service.
const ServiceName = "vedette"

// DefaultTraceConfig keeps one trace in a hundred.
func DefaultTraceConfig() TraceConfig {
	return TraceConfig{SampleRatio: 0.01, KeepSpans: 4096, Store: true}
}

const maxKeepSpans = 1 << 20

// Validate names the keys whose values are not possible.
func (c TraceConfig) Validate() error {
	if !(c.SampleRatio >= 0 && c.SampleRatio <= 1) {
		return fmt.Errorf("sample_ratio: got %v, want 0 to 1", c.SampleRatio)
	}
	if c.KeepSpans < 1 || c.KeepSpans > maxKeepSpans {
		return fmt.Errorf("keep_spans: got %d, want 1 to %d", c.KeepSpans, maxKeepSpans)
	}
	return nil
}

// NewTracerProvider returns a provider whose sampled spans end in ring. A trace
// that begins elsewhere is kept if its sender kept it.
func NewTracerProvider(c TraceConfig, b Build, ring *Ring) *sdktrace.TracerProvider {
	return sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(c.SampleRatio))),
		sdktrace.WithSpanProcessor(ring),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", ServiceName),
			attribute.String("service.version", b.Version),
		)),
	)
}
