package otlp

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/storage/remote/otlptranslator/prometheusremotewrite"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
)

// configs are settings that differ in what they do to the same payload.
func configs() []Config {
	var out []Config
	for _, strategy := range []string{"UnderscoreEscapingWithSuffixes", "UnderscoreEscapingWithoutSuffixes", "NoUTF8EscapingWithSuffixes", "NoTranslation"} {
		c := DefaultConfig()
		c.TranslationStrategy = strategy
		out = append(out, c)
		c.PromoteResourceAttributes = []string{"host.name", "process.pid", "service.name", "job"}
		c.PromoteScopeMetadata = true
		c.KeepIdentifyingResourceAttributes = true
		c.Delta = DeltaNative
		out = append(out, c)
		c.PromoteResourceAttributes, c.PromoteAllResourceAttributes = nil, true
		c.IgnoreResourceAttributes = []string{"k8s.pod.name"}
		c.ConvertHistogramsToNHCB = true
		c.LabelNamePreserveMultipleUnderscores, c.LabelNameUnderscoreSanitization = false, false
		out = append(out, c)
	}
	return out
}

// What Prometheus's own converter appends for a payload is what comes out of
// Decode, with every setting, from a Request that knows the labels and from one
// that does not, and after the way through the buffer.
func TestEqualToPrometheus(t *testing.T) {
	for ci, c := range configs() {
		require.NoError(t, c.Validate())
		r := New(c)
		for seed := range uint64(150) {
			rnd := &random{Rand: rand.New(rand.NewPCG(seed, 1)), deltas: c.Delta == DeltaNative, utf8: r.set.utf8, clock: nowNs}
			body := marshal(t, rnd.metrics())
			want, err := convert(t, c, body)
			where := fmt.Sprintf("config %d, seed %d", ci, seed)
			require.NoError(t, err, where)
			for range 2 {
				require.NoError(t, r.Decode(buffer.FormatOTLP, body, wire.Limits{MaxTime: 2 * now}), where)
				require.False(t, r.Rejects.Any(), "%s: %+v", where, r.Rejects.First)
				got := dump(&r.Metrics)
				slices.Sort(got)
				for i := range min(len(got), len(want.lines)) {
					require.Equal(t, want.lines[i], got[i], where)
				}
				require.Equal(t, len(want.lines), len(got), where)
				require.Equal(t, want.metadata, dumpMetadata(&r.Metrics), where)
			}
			checkReplay(t, r, body, wire.PartOptions{Partitions: 1 + int(seed%4), Plain: seed%2 == 0})
			require.NoError(t, r.Decode(buffer.FormatOTLPSnappy, s2.EncodeSnappy(nil, body), wire.Limits{}))
			checkReplay(t, r, s2.EncodeSnappy(nil, body), wire.PartOptions{Partitions: 1 + int(seed%3), Plain: seed%2 == 0, MaxBytes: 2000})
		}
	}
}

// A Request whose memory of labels overflows again and again goes on being right,
// within bounds, and one that knows a payload decodes it without allocating.
func TestMemoryIsBounded(t *testing.T) {
	r := New(DefaultConfig())
	for tag := range 20 {
		body := marshal(t, benchPayload("histogram", 400, tag))
		want, err := convert(t, DefaultConfig(), body)
		require.NoError(t, err)
		require.NoError(t, r.Decode(buffer.FormatOTLP, body, wire.Limits{}))
		got := dump(&r.Metrics)
		slices.Sort(got)
		require.Equal(t, want.lines, got, "payload %d", tag)
		r.Reset()
		require.LessOrEqual(t, len(r.Metrics.Buf)+r.cache.capBytes(), 2*cacheBytes)
		require.LessOrEqual(t, r.capBytes(), cacheBytes+keepBytes)
	}
	body := marshal(t, benchPayload("sum", 1000, 0))
	require.NoError(t, r.Decode(buffer.FormatOTLP, body, wire.Limits{}))
	allocs := testing.AllocsPerRun(5, func() {
		if err := r.Decode(buffer.FormatOTLP, body, wire.Limits{}); err != nil {
			t.Fatal(err)
		}
	})
	require.LessOrEqual(t, allocs, 5.0)
}

// The batch does not change with the payload.
func TestBatchOwnsItsBytes(t *testing.T) {
	r := New(DefaultConfig())
	rnd := &random{Rand: rand.New(rand.NewPCG(7, 7)), clock: nowNs}
	body := marshal(t, rnd.metrics())
	require.NoError(t, r.Decode(buffer.FormatOTLP, body, wire.Limits{}))
	want := dump(&r.Metrics)
	clear(body)
	require.Equal(t, want, dump(&r.Metrics))
	// What is remembered does not, either.
	again := marshal(t, (&random{Rand: rand.New(rand.NewPCG(7, 7)), clock: nowNs}).metrics())
	require.NoError(t, r.Decode(buffer.FormatOTLP, again, wire.Limits{}))
	require.Equal(t, want, dump(&r.Metrics))
}

// Fields may come in any order, in pieces and unpacked.
func TestUnusualEncodings(t *testing.T) {
	msg := func(field byte, content ...byte) []byte {
		return append([]byte{field<<3 | 2, byte(len(content))}, content...)
	}
	attr := func(k, v string) []byte { return append(msg(1, []byte(k)...), msg(2, msg(1, []byte(v)...)...)...) }
	cat := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	at := []byte{3<<3 | 1, 0, 0, 0, 0, 0, 0, 0, 1}
	value := []byte{6<<3 | 1, 5, 0, 0, 0, 0, 0, 0, 0}
	point := cat(msg(7, attr("b", "1")...), value, msg(7, attr("a", "2")...), at)
	sum := cat(msg(1, point...), []byte{3 << 3, 1, 2 << 3, 2})
	metric := cat(msg(7, sum...), msg(3, []byte("By")...), msg(1, []byte("sent")...))
	scopeMetrics := cat(msg(2, metric...), msg(1, msg(1, []byte("lib")...)...))
	for name, child := range map[string][]byte{
		"last":       msg(2, scopeMetrics...),
		"deprecated": cat([]byte{0xc2, 0x3e, byte(len(scopeMetrics))}, scopeMetrics),
	} {
		t.Run(name, func(t *testing.T) {
			body := cat(child, msg(1, msg(1, attr("service.name", "shop")...)...), msg(1, msg(1, attr("host.name", "h")...)...))
			body = cat([]byte{1<<3 | 2, byte(len(body) & 0x7f), 0}, body)
			if n := len(body) - 3; n >= 0x80 {
				body[1], body[2] = byte(n)|0x80, byte(n>>7)
			} else {
				body = slices.Delete(body, 2, 3)
			}
			want, err := convert(t, DefaultConfig(), body)
			require.NoError(t, err)
			require.Len(t, want.lines, 2)
			r := New(DefaultConfig())
			require.NoError(t, r.Decode(buffer.FormatOTLP, body, wire.Limits{}))
			got := dump(&r.Metrics)
			slices.Sort(got)
			require.Equal(t, want.lines, got)
			checkReplay(t, r, body, wire.PartOptions{Partitions: 2, Plain: true})
		})
	}
}

// The points of a resource lie far apart: target_info has samples between, but
// not without end.
func TestTargetInfoSteps(t *testing.T) {
	md := payload(good, good)
	ms := md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics()
	ms.At(0).Gauge().DataPoints().At(0).SetTimestamp(pcommon.Timestamp(nowNs - 700_000_000_001))
	body := marshal(t, md)
	r := New(DefaultConfig())
	want, err := convert(t, DefaultConfig(), body)
	require.NoError(t, err)
	require.NoError(t, r.Decode(buffer.FormatOTLP, body, wire.Limits{}))
	got := dump(&r.Metrics)
	slices.Sort(got)
	require.Equal(t, want.lines, got)
	require.Len(t, got, 2+6)

	ms.At(0).Gauge().DataPoints().At(0).SetTimestamp(0)
	require.NoError(t, r.Decode(buffer.FormatOTLP, marshal(t, md), wire.Limits{}))
	require.LessOrEqual(t, len(r.Metrics.Times), 2+maxTargetSamples+1)
	require.Equal(t, now, r.Metrics.Times[len(r.Metrics.Times)-1])
}

// When 2^n buckets become one and a whole group is empty, Prometheus puts the
// next one's observations into the empty bucket. Here they stay where they are.
func TestEmptyGroupsKeepTheirPlace(t *testing.T) {
	md := payload(exponential(func(p pmetric.ExponentialHistogramDataPoint) {
		p.SetScale(9)
		p.SetCount(8)
		p.Positive().SetOffset(0)
		p.Positive().BucketCounts().FromRaw([]uint64{0, 0, 5, 3})
	}))
	body := marshal(t, md)
	r := New(DefaultConfig())
	require.NoError(t, r.Decode(buffer.FormatOTLP, body, wire.Limits{}))
	require.Equal(t, []histogram.Span{{Offset: 2, Length: 1}}, r.Metrics.Histograms[0].Int.PositiveSpans)
	require.Equal(t, []int64{8}, r.Metrics.Histograms[0].Int.PositiveBuckets)

	rec := &recorder{}
	_, err := prometheusremotewrite.NewPrometheusConverter(rec).FromMetrics(context.Background(), md, promSettings(DefaultConfig()))
	require.NoError(t, err)
	require.Contains(t, strings.Join(rec.lines, "\n"), "[{1 2}] [5 -2]", "Prometheus has changed")
}
