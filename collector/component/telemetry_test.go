package component

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// Two components export metrics of the same names; each ends with its component, which
// may be shut down more than once.
func TestTelemetryEnds(t *testing.T) {
	collector := componenttest.NewTelemetry()
	defer func() { _ = collector.Shutdown(t.Context()) }()
	open := func(who string, n float64) *Telemetry {
		registry := prometheus.NewRegistry()
		counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "vedette_test_total", Help: "Things."})
		registry.MustRegister(counter)
		counter.Add(n)
		own, err := NewTelemetry(collector.NewTelemetrySettings(), registry, attribute.String("receiver", who))
		if err != nil {
			t.Fatal(err)
		}
		return own
	}
	want := func(want map[string]float64) {
		t.Helper()
		got := map[string]float64{}
		if m, err := collector.GetMetric("vedette_test_total"); err == nil {
			for _, p := range m.Data.(metricdata.Sum[float64]).DataPoints {
				who, _ := p.Attributes.Value("receiver")
				got[who.AsString()] = p.Value
			}
		}
		if len(got) != len(want) {
			t.Errorf("got %v, want %v", got, want)
		}
		for who, n := range want {
			if got[who] != n {
				t.Errorf("%s: got %v, want %v", who, got[who], n)
			}
		}
	}
	a, b := open("a", 1), open("b", 2)
	want(map[string]float64{"a": 1, "b": 2})
	for range 2 {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
	want(map[string]float64{"b": 2})
	again := open("a", 3)
	want(map[string]float64{"a": 3, "b": 2})
	for _, own := range []*Telemetry{b, again} {
		if err := own.Close(); err != nil {
			t.Error(err)
		}
	}
	want(nil)
}
