package gen

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
)

func otlpSpoolOf(t testing.TB, f Flavour, o Options, plainFrom int) *Spool {
	t.Helper()
	rec, err := LoadRecording(writeRecording(t, 6))
	if err != nil {
		t.Fatal(err)
	}
	s, err := WriteOTLPSpool(rec, filepath.Join(t.TempDir(), "spool"), f, o, plainFrom)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// decode reads request r with the OpenTelemetry Collector's own decoder.
func decode(t testing.TB, s *Spool, r Request) pmetric.Metrics {
	t.Helper()
	body, err := s.Body(nil, r)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Plain {
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if body, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	}
	if len(body) != r.Raw {
		t.Fatalf("got %d bytes, the spool says %d", len(body), r.Raw)
	}
	request := pmetricotlp.NewExportRequest()
	if err := request.UnmarshalProto(body); err != nil {
		t.Fatal(err)
	}
	if got := request.Metrics().DataPointCount(); got != r.Samples {
		t.Fatalf("got %d data points, the spool says %d", got, r.Samples)
	}
	return request.Metrics()
}

// sampleKey names a series at a time as remote write would.
func sampleKey(millis int64, name string, attributes map[string]any, instance string) string {
	labels := map[string]any{"instance": instance}
	for k, v := range attributes {
		labels[k] = v
	}
	return fmt.Sprint(millis, name, labels)
}

// exposed turns the metrics of a resource back into what was scraped.
func exposed(rm pmetric.ResourceMetrics, sample func(key string, v float64)) {
	id, _ := rm.Resource().Attributes().Get("service.instance.id")
	instance := id.Str()
	metrics := rm.ScopeMetrics().At(0).Metrics()
	for i := range metrics.Len() {
		m := metrics.At(i)
		number := func(points pmetric.NumberDataPointSlice) {
			for j := range points.Len() {
				p := points.At(j)
				sample(sampleKey(p.Timestamp().AsTime().UnixMilli(), m.Name(), p.Attributes().AsRaw(), instance), p.DoubleValue())
			}
		}
		switch m.Type() {
		case pmetric.MetricTypeGauge:
			number(m.Gauge().DataPoints())
		case pmetric.MetricTypeSum:
			number(m.Sum().DataPoints())
		case pmetric.MetricTypeHistogram:
			p := m.Histogram().DataPoints().At(0)
			at, cumulative := p.Timestamp().AsTime().UnixMilli(), 0.0
			for b := range p.BucketCounts().Len() {
				cumulative += float64(p.BucketCounts().At(b))
				attributes := p.Attributes().AsRaw()
				attributes["le"] = histogramBounds[b]
				sample(sampleKey(at, m.Name()+"_bucket", attributes, instance), cumulative)
			}
			sample(sampleKey(at, m.Name()+"_sum", p.Attributes().AsRaw(), instance), p.Sum())
			sample(sampleKey(at, m.Name()+"_count", p.Attributes().AsRaw(), instance), float64(p.Count()))
		case pmetric.MetricTypeSummary:
			p := m.Summary().DataPoints().At(0)
			at := p.Timestamp().AsTime().UnixMilli()
			for q := range p.QuantileValues().Len() {
				v := p.QuantileValues().At(q)
				sample(sampleKey(at, m.Name(), map[string]any{"quantile": fmt.Sprint(v.Quantile())}, instance), v.Value())
			}
			sample(sampleKey(at, m.Name()+"_sum", nil, instance), p.Sum())
			sample(sampleKey(at, m.Name()+"_count", nil, instance), float64(p.Count()))
		}
	}
}

func TestCollectorSpoolHoldsWhatTargetsExpose(t *testing.T) {
	o := Options{Targets: 5, Scrapes: 8, SamplesPerRequest: 1200, EndMillis: 1_800_000_000_000, Seed: 7}
	const plainFrom = 5
	s := otlpSpoolOf(t, Collector, o, plainFrom)
	got := map[string]float64{}
	for _, r := range s.Requests {
		if r.Plain != (r.Scrape >= plainFrom) {
			t.Fatalf("request of scrape %d: plain is %v", r.Scrape, r.Plain)
		}
		if r.Samples > o.SamplesPerRequest {
			t.Fatalf("request has %d points, want %d at most", r.Samples, o.SamplesPerRequest)
		}
		m := decode(t, s, r)
		for i := range m.ResourceMetrics().Len() {
			exposed(m.ResourceMetrics().At(i), func(key string, v float64) {
				if _, twice := got[key]; twice {
					t.Fatalf("%s is there twice", key)
				}
				got[key] = v
			})
		}
	}
	if len(got) != o.Targets*o.Scrapes*SeriesPerTarget {
		t.Fatalf("got %d samples, want %d", len(got), o.Targets*o.Scrapes*SeriesPerTarget)
	}
	compareWithTargets(t, s, got)
}

// compareWithTargets runs the targets of the spool again and looks their values up.
func compareWithTargets(t *testing.T, s *Spool, got map[string]float64) {
	t.Helper()
	rec, err := LoadRecording(writeRecording(t, 6))
	if err != nil {
		t.Fatal(err)
	}
	own := ownSeries()
	for i := range s.Targets {
		target, err := NewTarget(rec, i, s.Seed, 0)
		if err != nil {
			t.Fatal(err)
		}
		for k := range s.Scrapes {
			target.step(func(j int, v float64) {
				of := own[max(0, j-len(target.series))]
				if j < len(target.series) {
					of = target.series[j].labels
				}
				attributes, name := map[string]any{}, ""
				for _, l := range of {
					if l.Name == "__name__" {
						name = l.Value
					} else {
						attributes[l.Name] = l.Value
					}
				}
				key := sampleKey(s.Times[k][i], name, attributes, Instance(i))
				if have, ok := got[key]; !ok || have != v {
					t.Fatalf("%s: got %v (there: %v), want %v", key, have, ok, v)
				}
			})
		}
	}
}

func TestSDKSpoolHoldsEveryKind(t *testing.T) {
	o := Options{Targets: 3, Scrapes: 6, SamplesPerRequest: 1000, EndMillis: 1_800_000_000_000, Seed: 7}
	s := otlpSpoolOf(t, SDK, o, 3)
	if len(s.Requests) != o.Targets*o.Scrapes {
		t.Fatalf("got %d requests, want one a target and scrape", len(s.Requests))
	}
	last := map[string]uint64{}
	for n, r := range s.Requests {
		if r.Samples != PointsPerApplication {
			t.Fatalf("request has %d points, want %d", r.Samples, PointsPerApplication)
		}
		m := decode(t, s, r)
		at := s.Times[r.Scrape][n%o.Targets]
		for _, text := range checkSDK(m.ResourceMetrics().At(0), at, last) {
			t.Errorf("request %d: %s", n, text)
		}
	}
}

// checkSDK returns what is wrong with the histograms of an application: their
// counts must add up and never go down.
func checkSDK(rm pmetric.ResourceMetrics, at int64, last map[string]uint64) []string {
	var faults []string
	id, _ := rm.Resource().Attributes().Get("service.instance.id")
	kinds := map[pmetric.MetricType]int{}
	total := func(name string, millis int64, counts []uint64, count uint64) {
		sum := uint64(0)
		for _, c := range counts {
			sum += c
		}
		if sum != count || count < last[name] || millis != at {
			faults = append(faults, fmt.Sprintf("%s at %d, want %d: buckets hold %d, count is %d, was %d", name, millis, at, sum, count, last[name]))
		}
		last[name] = count
	}
	for i := range rm.ScopeMetrics().Len() {
		metrics := rm.ScopeMetrics().At(i).Metrics()
		for j := range metrics.Len() {
			m := metrics.At(j)
			kinds[m.Type()]++
			switch m.Type() {
			case pmetric.MetricTypeHistogram:
				for k := range m.Histogram().DataPoints().Len() {
					p := m.Histogram().DataPoints().At(k)
					total(fmt.Sprint(id.Str(), m.Name(), k), p.Timestamp().AsTime().UnixMilli(), p.BucketCounts().AsRaw(), p.Count())
				}
			case pmetric.MetricTypeExponentialHistogram:
				for k := range m.ExponentialHistogram().DataPoints().Len() {
					p := m.ExponentialHistogram().DataPoints().At(k)
					total(fmt.Sprint(id.Str(), m.Name(), k), p.Timestamp().AsTime().UnixMilli(), p.Positive().BucketCounts().AsRaw(), p.Count())
				}
			}
		}
	}
	if len(kinds) != 4 {
		faults = append(faults, fmt.Sprintf("kinds of metrics: %v, want gauges, sums, histograms and exponential histograms", kinds))
	}
	return faults
}

func TestOTLPSpoolIsDeterministic(t *testing.T) {
	o := Options{Targets: 2, Scrapes: 3, SamplesPerRequest: 5000, EndMillis: 1_800_000_000_000, Seed: 3}
	for _, f := range []Flavour{Collector, SDK} {
		a, b := otlpSpoolOf(t, f, o, 1), otlpSpoolOf(t, f, o, 1)
		for i, r := range a.Requests {
			x, errX := a.Body(nil, r)
			y, errY := b.Body(nil, b.Requests[i])
			if errX != nil || errY != nil || !bytes.Equal(x, y) {
				t.Fatalf("flavour %d, request %d differs between two spools of one seed (%v, %v)", f, i, errX, errY)
			}
		}
	}
}

func TestOTLPSpoolRefusesNonsense(t *testing.T) {
	rec, err := LoadRecording(writeRecording(t, 6))
	if err != nil {
		t.Fatal(err)
	}
	_, err = WriteOTLPSpool(rec, filepath.Join(t.TempDir(), "spool"), Collector, Options{Targets: 1, Scrapes: 1, SamplesPerRequest: 1, ChurnEach: 2}, 0)
	if err == nil || !strings.Contains(err.Error(), "churn 2") {
		t.Fatalf("got %v, want an error that names the churn", err)
	}
}
