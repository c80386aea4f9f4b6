package otlp

import (
	"context"
	"fmt"
	"io"
	"log"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/otlptranslator"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/histogram"
	promlabels "github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote/otlptranslator/prometheusremotewrite"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/remotewrite"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
)

const (
	now   = int64(1_700_000_000_000) // milliseconds
	nowNs = uint64(now) * 1_000_000
)

// Prometheus's converter writes to the standard logger.
func TestMain(m *testing.M) {
	log.SetOutput(io.Discard)
	os.Exit(m.Run())
}

func marshal(t testing.TB, md pmetric.Metrics) []byte {
	t.Helper()
	b, err := (&pmetric.ProtoMarshaler{}).MarshalMetrics(md)
	require.NoError(t, err)
	return b
}

// recorder is an appender that lists what Prometheus appends.
type recorder struct{ lines, metadata []string }

func (a *recorder) Append(_ storage.SeriesRef, ls promlabels.Labels, st, t int64, v float64, h *histogram.Histogram, _ *histogram.FloatHistogram, o storage.AOptions) (storage.SeriesRef, error) {
	name := promText(ls)
	if h != nil {
		a.lines = append(a.lines, name+" "+histogramText(t, st, h))
	} else {
		a.lines = append(a.lines, sampleText(name, t, v, st))
	}
	for _, e := range o.Exemplars {
		a.lines = append(a.lines, exemplarText(name, e.Ts, e.Value, promText(e.Labels)))
	}
	if !o.Metadata.IsEmpty() {
		a.metadata = append(a.metadata, fmt.Sprintf("%s %s %q %q", o.MetricFamilyName, o.Metadata.Type, o.Metadata.Unit, o.Metadata.Help))
	}
	return 0, nil
}
func (a *recorder) Commit() error   { return nil }
func (a *recorder) Rollback() error { return nil }

func promText(ls promlabels.Labels) string {
	var b []byte
	ls.Range(func(l promlabels.Label) {
		if l.Value != "" {
			b = labels.Append(b, l.Name, l.Value)
		}
	})
	return text(b)
}

func text(canonical []byte) string {
	var out []string
	for len(canonical) > 0 {
		name, value, rest, err := labels.Next(canonical)
		if err != nil {
			return "not canonical"
		}
		out = append(out, fmt.Sprintf("%q=%q", name, value))
		canonical = rest
	}
	return strings.Join(out, ",")
}

func sampleText(name string, t int64, v float64, st int64) string {
	return fmt.Sprintf("%s %d %x %g since %d", name, t, math.Float64bits(v), v, st)
}

func exemplarText(name string, t int64, v float64, lset string) string {
	return fmt.Sprintf("%s exemplar %d %x {%s}", name, t, math.Float64bits(v), lset)
}

func histogramText(t, st int64, h *histogram.Histogram) string {
	c := h.Copy().Compact(0)
	return fmt.Sprintf("histogram %d since %d hint %d schema %d zero %g %d count %d sum %x %v %v %v %v %v", t, st, c.CounterResetHint, c.Schema, c.ZeroThreshold,
		c.ZeroCount, c.Count, math.Float64bits(c.Sum), c.PositiveSpans, c.PositiveBuckets, c.NegativeSpans, c.NegativeBuckets, slices.Clip(c.CustomValues))
}

// dump lists a batch in the recorder's form.
func dump(m *signal.Metrics) []string {
	var out []string
	begin := uint32(0)
	for i, end := range m.SampleEnd {
		lset := m.Bytes(m.Labels[i])
		name := text(lset)
		if m.Hash[i] != labels.HashCanonical(lset) {
			out = append(out, "bad hash "+name)
		}
		for prev, rest := "", lset; len(rest) > 0; {
			n, v, r, err := labels.Next(rest)
			if err != nil || string(n) <= prev || len(v) == 0 {
				out = append(out, "not canonical: "+name)
				break
			}
			prev, rest = string(n), r
		}
		for ; begin < end; begin++ {
			st := int64(0)
			if len(m.Starts) > 0 {
				st = m.Starts[begin]
			}
			out = append(out, sampleText(name, m.Times[begin], m.Values[begin], st))
		}
	}
	for _, h := range m.Histograms {
		out = append(out, text(m.Bytes(m.Labels[h.Series]))+" "+histogramText(h.Time, h.Start, h.Int))
	}
	for _, e := range m.Exemplars {
		out = append(out, exemplarText(text(m.Bytes(m.Labels[e.Series])), e.Time, e.Value, text(m.Bytes(e.Labels))))
	}
	for _, i := range m.Deltas {
		out = append(out, "delta "+text(m.Bytes(m.Labels[i])))
	}
	return out
}

func dumpMetadata(m *signal.Metrics) []string {
	var out []string
	for _, md := range m.Metadata {
		out = append(out, fmt.Sprintf("%s %s %q %q", md.Family, md.Type, md.Unit, md.Help))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// promSettings are the settings that Prometheus's handler makes of its
// configuration.
func promSettings(c Config) prometheusremotewrite.Settings {
	s := otlptranslator.TranslationStrategyOption(c.TranslationStrategy)
	return prometheusremotewrite.Settings{
		AddMetricSuffixes: s.ShouldAddSuffixes(),
		AllowUTF8:         !s.ShouldEscape(),
		PromoteResourceAttributes: prometheusremotewrite.NewPromoteResourceAttributes(config.OTLPConfig{
			PromoteAllResourceAttributes: c.PromoteAllResourceAttributes,
			PromoteResourceAttributes:    c.PromoteResourceAttributes,
			IgnoreResourceAttributes:     c.IgnoreResourceAttributes,
		}),
		KeepIdentifyingResourceAttributes:    c.KeepIdentifyingResourceAttributes,
		ConvertHistogramsToNHCB:              c.ConvertHistogramsToNHCB,
		AllowDeltaTemporality:                c.Delta == DeltaNative,
		LookbackDelta:                        5 * time.Minute,
		PromoteScopeMetadata:                 c.PromoteScopeMetadata,
		LabelNameUnderscoreSanitization:      c.LabelNameUnderscoreSanitization,
		LabelNamePreserveMultipleUnderscores: c.LabelNamePreserveMultipleUnderscores,
	}
}

// convert runs Prometheus's own converter on the protobuf form of md.
func convert(t testing.TB, c Config, body []byte) (*recorder, error) {
	t.Helper()
	req := pmetricotlp.NewExportRequest()
	require.NoError(t, req.UnmarshalProto(body))
	rec := &recorder{}
	_, err := prometheusremotewrite.NewPrometheusConverter(rec).FromMetrics(context.Background(), req.Metrics(), promSettings(c))
	slices.Sort(rec.lines)
	slices.Sort(rec.metadata)
	rec.metadata = slices.Compact(rec.metadata)
	return rec, err
}

// checkReplay verifies that the parts of a decoded request decode, without
// limits, to exactly what they hold, and that others can read them.
func checkReplay(t testing.TB, r *Request, payload []byte, o wire.PartOptions) {
	t.Helper()
	want := dump(&r.Metrics)
	wantMeta := dumpMetadata(&r.Metrics)
	parts, err := r.Parts(payload, o)
	require.NoError(t, err)
	var all, gotMeta []string
	for _, p := range parts {
		again := New(r.set.cfg)
		require.NoError(t, again.Decode(p.Format, p.Payload, wire.Limits{}))
		require.False(t, again.Rejects.Any(), "replay refused: %+v", again.Rejects.First)
		require.Equal(t, dump(p.Metrics), dump(&again.Metrics))
		require.Equal(t, o.Plain, p.Format == buffer.FormatOTLP)
		all = append(all, dump(p.Metrics)...)
		gotMeta = append(gotMeta, dumpMetadata(&again.Metrics)...)
		oldest, newest := wire.TimeRange(&again.Metrics)
		require.Equal(t, []int64{oldest, newest}, []int64{p.MinTime, p.MaxTime})
		if o.MaxBytes > 0 {
			require.LessOrEqual(t, len(p.Payload), o.MaxBytes)
		}
		_, err := (&pmetric.ProtoUnmarshaler{}).UnmarshalMetrics(again.body)
		require.NoError(t, err)
		for i, h := range p.Metrics.Hash {
			name := text(p.Metrics.Bytes(p.Metrics.Labels[i]))
			if !strings.Contains(name, "_sum\"") && !strings.Contains(name, "_count\"") && !strings.Contains(name, `"le"`) && !strings.Contains(name, `"quantile"`) {
				require.Equal(t, p.Partition, remotewrite.PartitionOf(h, o.Partitions), name)
			}
		}
	}
	slices.Sort(want)
	slices.Sort(all)
	slices.Sort(gotMeta)
	require.Equal(t, len(want), len(all))
	for i := range want {
		require.Equal(t, want[i], all[i])
	}
	require.Equal(t, wantMeta, slices.Compact(gotMeta))
}
