package remotewrite

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/signal"
)

// Requests made with Prometheus's own messages decode to what went in, whole
// and split over partitions, with a Request that is reused throughout.
func TestRandomRequests(t *testing.T) {
	var r Request
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		series := randomSeries(rnd, rnd.IntN(30))
		v1, v2 := marshalV1(t, series), marshalV2(t, series)

		decode(t, &r, buffer.FormatRemoteWriteV1, v1, wire.Limits{})
		require.False(t, r.Rejects.Any(), "seed %d: %v", seed, r.Rejects.First)
		require.Equal(t, dumpSeries(series, false), dump(&r.Metrics), "seed %d, 1.0", seed)
		checkReplay(t, &r, s2.EncodeSnappy(nil, v1), 1+int(seed%4))

		decode(t, &r, buffer.FormatRemoteWriteV2, v2, wire.Limits{})
		require.False(t, r.Rejects.Any(), "seed %d: %v", seed, r.Rejects.First)
		require.Equal(t, dumpSeries(series, true), withoutMetadata(dump(&r.Metrics)), "seed %d, 2.0", seed)
		checkReplay(t, &r, s2.EncodeSnappy(nil, v2), 1+int(seed%4))
	}
}

// With a limit that strikes at random samples, a replay still yields exactly
// what was accepted.
func TestReplayAfterPartialReject(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		series := randomSeries(rnd, 1+rnd.IntN(20))
		for i := range series {
			switch rnd.IntN(8) {
			case 0:
				series[i].Labels = append(series[i].Labels, series[i].Labels[0])
			case 1:
				series[i].Labels[0].Value = strings.Repeat("v", 300)
			case 2:
				for j := range series[i].Histograms {
					if h := series[i].Histograms[j].Int; h != nil {
						h.Count++
					}
				}
			case 3:
				for j := range series[i].Exemplars {
					series[i].Exemplars[j].Labels[0].Value = strings.Repeat("x", 200)
				}
			}
		}
		limits := wire.Limits{MaxTime: now, MaxLabelValueBytes: 250, MaxLabels: 6}
		for format, body := range map[buffer.Format][]byte{
			buffer.FormatRemoteWriteV1: marshalV1(t, series), buffer.FormatRemoteWriteV2: marshalV2(t, series),
		} {
			var r Request
			decode(t, &r, format, body, limits)
			for _, at := range r.Metrics.Times {
				require.LessOrEqual(t, at, now)
			}
			checkReplay(t, &r, s2.EncodeSnappy(nil, body), 1+int(seed%3))
		}
	}
}

func TestRejects(t *testing.T) {
	ok := testSeries{Labels: lbls("__name__", "ok", "a", "b"), Samples: []testSample{{Value: 1, Time: now}}}
	one := []testSample{{Value: 1, Time: now}}
	limits := wire.Limits{MaxLabels: 4, MaxLabelNameBytes: 10, MaxLabelValueBytes: 20, MaxTime: now + 600_000}
	badHistogram := &histogram.Histogram{Count: 5, PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []int64{1}}
	for _, tc := range []struct {
		name   string
		series testSeries
		reason wire.Reason
		text   string
		rest   wire.Rejects
	}{
		{"no name", testSeries{Labels: lbls("a", "b"), Samples: one}, wire.ReasonMissingMetricName,
			`series {a="b"}: label "__name__" is missing or empty`, wire.Rejects{Samples: 1}},
		{"empty metric name", testSeries{Labels: lbls("__name__", "", "a", "b"), Samples: one}, wire.ReasonMissingMetricName,
			`series {a="b"}: label "__name__" is missing or empty`, wire.Rejects{Samples: 1}},
		{"no labels", testSeries{Samples: one}, wire.ReasonMissingMetricName,
			`series {}: label "__name__" is missing or empty`, wire.Rejects{Samples: 1}},
		{"duplicate", testSeries{Labels: lbls("__name__", "m", "a", "1", "a", "2"), Samples: one}, wire.ReasonDuplicateLabel,
			`series {__name__="m", a="1", a="2"}: label "a" occurs twice`, wire.Rejects{Samples: 1}},
		{"empty label name", testSeries{Labels: lbls("__name__", "m", "", "2"), Samples: one}, wire.ReasonEmptyLabelName,
			`series {__name__="m", ="2"}: a label has an empty name`, wire.Rejects{Samples: 1}},
		{"long name", testSeries{Labels: lbls("__name__", "m", "abcdefghijk", "2"), Samples: one}, wire.ReasonLabelNameTooLong,
			`name of label "abcdefghijk": 11 bytes, want <= 10`, wire.Rejects{Samples: 1}},
		{"long value", testSeries{Labels: lbls("__name__", "m", "a", "123456789012345678901"), Samples: one}, wire.ReasonLabelValueTooLong,
			`value of label "a": 21 bytes, want <= 20`, wire.Rejects{Samples: 1}},
		{"many labels", testSeries{Labels: lbls("__name__", "m", "a", "1", "b", "1", "c", "1", "d", "1"), Samples: one}, wire.ReasonTooManyLabels,
			`5 labels, want <= 4`, wire.Rejects{Samples: 1}},
		{"utf8 name", testSeries{Labels: lbls("__name__", "m", "a\xff", "1"), Samples: one}, wire.ReasonInvalidUTF8,
			`series {__name__="m", "a\xff"="1"}: label name "a\xff" is not valid UTF-8`, wire.Rejects{Samples: 1}},
		{"utf8 value", testSeries{Labels: lbls("__name__", "m", "a", "\xff"), Samples: one}, wire.ReasonInvalidUTF8,
			`value of label "a" is not valid UTF-8`, wire.Rejects{Samples: 1}},
		{"future sample", testSeries{Labels: lbls("__name__", "m"), Samples: []testSample{{Time: now + 600_001}, {Time: now}}}, wire.ReasonTooFarInFuture,
			fmt.Sprintf(`series {__name__="m"}: timestamp %d is too far in the future, want <= %d`, now+600_001, now+600_000), wire.Rejects{Samples: 1}},
		{"future histogram", testSeries{Labels: lbls("__name__", "m"), Histograms: []testHistogram{{Time: math.MaxInt64, Int: &histogram.Histogram{}}}}, wire.ReasonTooFarInFuture,
			"too far in the future", wire.Rejects{Histograms: 1}},
		{"future exemplar", testSeries{Labels: lbls("__name__", "m"), Samples: one, Exemplars: []testExemplar{{Time: math.MaxInt64}}}, wire.ReasonTooFarInFuture,
			"too far in the future", wire.Rejects{Exemplars: 1}},
		{"bad histogram", testSeries{Labels: lbls("__name__", "m"), Histograms: []testHistogram{{Time: now, Int: badHistogram}}}, wire.ReasonInvalidHistogram,
			`histogram: 1 observations found in buckets, but the Count field is 5`, wire.Rejects{Histograms: 1}},
		{"long exemplar", testSeries{Labels: lbls("__name__", "m"), Samples: one, Exemplars: []testExemplar{{Labels: lbls("a", strings.Repeat("x", 128)), Time: now}}}, wire.ReasonInvalidExemplar,
			`exemplar: labels have 129 characters, want <= 128`, wire.Rejects{Exemplars: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			series := []testSeries{ok, tc.series, ok}
			for format, body := range map[buffer.Format][]byte{
				buffer.FormatRemoteWriteV1: marshalV1(t, series), buffer.FormatRemoteWriteV2: marshalV2(t, series),
			} {
				var r Request
				decode(t, &r, format, body, limits)
				require.True(t, r.Rejects.Any())
				require.Equal(t, tc.reason, r.Rejects.First.Reason)
				require.ErrorContains(t, r.Rejects.First, tc.text)
				require.Equal(t, 1, r.Rejects.ByReason[tc.reason])
				got := wire.Rejects{Samples: r.Rejects.Samples, Histograms: r.Rejects.Histograms, Exemplars: r.Rejects.Exemplars}
				require.Equal(t, tc.rest, got)
				require.GreaterOrEqual(t, len(r.Metrics.Times), 2)
				checkReplay(t, &r, s2.EncodeSnappy(nil, body), 2)
			}
		})
	}
}

func TestV2References(t *testing.T) {
	sample := []writev2.Sample{{Value: 1, Timestamp: now}}
	syms := []string{"", "__name__", "m", "a"}
	for _, tc := range []struct {
		name string
		ts   writev2.TimeSeries
		text string
	}{
		{"odd", writev2.TimeSeries{LabelsRefs: []uint32{1, 2, 3}, Samples: sample}, "3 label references, want an even number"},
		{"beyond", writev2.TimeSeries{LabelsRefs: []uint32{1, 2, 3, 9}, Samples: sample}, "a label refers to symbol 9, but there are 4"},
		{"metadata", writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, Samples: sample, Metadata: writev2.Metadata{HelpRef: 7}}, "metadata refers to symbol 7, but there are 4"},
		{"empty", writev2.TimeSeries{LabelsRefs: []uint32{1, 2}}, "a series needs at least one sample or histogram"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := writev2.Request{Symbols: syms, Timeseries: []writev2.TimeSeries{tc.ts, {LabelsRefs: []uint32{1, 2}, Samples: sample}}}
			body, err := req.Marshal()
			require.NoError(t, err)
			var r Request
			decode(t, &r, buffer.FormatRemoteWriteV2, body, wire.Limits{})
			require.ErrorContains(t, r.Rejects.First, tc.text)
			require.Len(t, r.Metrics.Times, 1)
			checkReplay(t, &r, s2.EncodeSnappy(nil, body), 1)
		})
	}
}

func TestMetadata(t *testing.T) {
	t.Run("1.0", func(t *testing.T) {
		body := marshalV1(t, []testSeries{{Labels: lbls("__name__", "m"), Samples: []testSample{{Time: now}}}},
			prompb.MetricMetadata{Type: prompb.MetricMetadata_COUNTER, MetricFamilyName: "m", Help: "h", Unit: "u"},
			prompb.MetricMetadata{Type: prompb.MetricMetadata_UNKNOWN, MetricFamilyName: "", Help: "h"})
		var r Request
		decode(t, &r, buffer.FormatRemoteWriteV1, body, wire.Limits{})
		require.Equal(t, []signal.Metadata{{Family: "m", Type: "counter", Help: "h", Unit: "u"}}, r.Metrics.Metadata)
		require.Equal(t, wire.ReasonInvalidMetadata, r.Rejects.First.Reason)
		checkReplay(t, &r, s2.EncodeSnappy(nil, body), 3)
	})
	t.Run("2.0 families", func(t *testing.T) {
		var series []testSeries
		for _, name := range []string{"h_bucket", "h_sum", "h_count", "c_total", "g_count"} {
			typ := map[byte]int32{'h': 3, 'c': 1, 'g': 2}[name[0]]
			series = append(series, testSeries{Labels: lbls("__name__", name), Samples: []testSample{{Time: now}}, Type: typ, Help: "help " + name[:1]})
		}
		var r Request
		decode(t, &r, buffer.FormatRemoteWriteV2, marshalV2(t, series), wire.Limits{})
		require.Equal(t, []signal.Metadata{
			{Family: "h", Type: "histogram", Help: "help h"},
			{Family: "c_total", Type: "counter", Help: "help c"},
			{Family: "g_count", Type: "gauge", Help: "help g"},
		}, r.Metrics.Metadata)
	})
}

// Histograms of a resolution finer than Prometheus stores come out reduced.
func TestHistogramResolution(t *testing.T) {
	h := &histogram.Histogram{Schema: 10, Count: 3, PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []int64{1, 1}}
	var r Request
	decode(t, &r, buffer.FormatRemoteWriteV2, marshalV2(t, []testSeries{{Labels: lbls("__name__", "m"), Histograms: []testHistogram{{Time: now, Int: h}}}}), wire.Limits{})
	require.False(t, r.Rejects.Any(), "%v", r.Rejects.First)
	require.Equal(t, int32(8), r.Metrics.Histograms[0].Int.Schema)
}

// Canonical labels stay where they are; others move behind the body.
func TestLabelsInPlace(t *testing.T) {
	one := []testSample{{Time: now}}
	for _, tc := range []struct {
		labels  []prompb.Label
		inPlace bool
	}{
		{lbls("__name__", "m", "a", "b"), true},
		{lbls("A", "1", "__name__", "m"), true},
		{lbls("__name__", "m", "a", strings.Repeat("x", 130)), true},
		{lbls("__name__", "mé", "日", "本"), true},
		{lbls("a", "b", "__name__", "m"), false},
		{lbls("__name__", "m", "a", ""), true},
		{lbls("__name__", "m", "a", "", "b", "c"), false},
	} {
		body := marshalV1(t, []testSeries{{Labels: tc.labels, Samples: one}})
		var r Request
		decode(t, &r, buffer.FormatRemoteWriteV1, body, wire.Limits{})
		require.Len(t, r.Metrics.Labels, 1)
		at := r.Metrics.Labels[0]
		require.Equal(t, tc.inPlace, int(at.Off) < len(body), "%v", tc.labels)
		require.Equal(t, canonical(tc.labels), r.Metrics.Bytes(at))
	}
}

// Fields in an unusual order mean the same.
func TestFieldOrder(t *testing.T) {
	label := func(name, value string) []byte {
		return append(append([]byte{0x12, byte(len(value))}, value...), append([]byte{0x0a, byte(len(name))}, name...)...)
	}
	field := func(tag byte, b []byte) []byte { return append([]byte{tag, byte(len(b))}, b...) }
	sample := []byte{0x10, 0x05, 0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x18, 0x03}
	var ts []byte
	ts = append(ts, field(0x12, sample)...)
	ts = append(ts, field(0x0a, label("__name__", "m"))...)
	ts = append(ts, field(0x12, sample)...)
	ts = append(ts, field(0x0a, label("a", "b"))...)
	ts = append(ts, 0x7b, 0x08, 0x01, 0x7c) // an unknown group
	var r Request
	decode(t, &r, buffer.FormatRemoteWriteV1, field(0x0a, ts), wire.Limits{})
	require.Equal(t, canonical(lbls("__name__", "m", "a", "b")), r.Metrics.Bytes(r.Metrics.Labels[0]))
	require.Equal(t, []int64{5, 5}, r.Metrics.Times)
	require.Equal(t, []float64{1, 1}, r.Metrics.Values)
	require.Equal(t, []int64{3, 3}, r.Metrics.Starts)
}

func TestMalformed(t *testing.T) {
	for _, tc := range []struct {
		name   string
		format buffer.Format
		body   []byte
		text   string
	}{
		{"tag", buffer.FormatRemoteWriteV1, []byte{0x80}, "decode prometheus.WriteRequest: byte 0: no valid field tag"},
		{"length", buffer.FormatRemoteWriteV1, []byte{0x0a, 0x05, 0x0a}, "byte 0: field 1 is cut short"},
		{"wire type", buffer.FormatRemoteWriteV1, []byte{0x08, 0x05}, "byte 0: field 1 is cut short or not a message"},
		{"label", buffer.FormatRemoteWriteV1, []byte{0x0a, 0x04, 0x0a, 0x02, 0x0a, 0x09}, "byte 4: label: field 1 is longer than the 1 bytes left"},
		{"sample", buffer.FormatRemoteWriteV1, []byte{0x0a, 0x04, 0x12, 0x02, 0x09, 0x01}, "byte 4: sample: field 1 is cut short"},
		{"histogram", buffer.FormatRemoteWriteV1, []byte{0x0a, 0x04, 0x22, 0x02, 0x0d, 0x01}, "byte 4: histogram: field 1 has wire type 5, want 0"},
		{"symbols", buffer.FormatRemoteWriteV2, []byte{0x20, 0x05}, "decode io.prometheus.write.v2.Request: byte 0"},
		{"references", buffer.FormatRemoteWriteV2, []byte{0x2a, 0x03, 0x0a, 0x01, 0x80}, "byte 4: a reference is cut short"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var r Request
			err := r.Decode(tc.format, s2.EncodeSnappy(nil, tc.body), wire.Limits{})
			var syntax *wire.SyntaxError
			require.ErrorAs(t, err, &syntax)
			require.ErrorContains(t, err, tc.text)
		})
	}
}

func TestSnappy(t *testing.T) {
	var r Request
	var syntax *wire.SyntaxError
	require.ErrorAs(t, r.Decode(buffer.FormatRemoteWriteV1, nil, wire.Limits{}), &syntax)
	require.ErrorAs(t, r.Decode(buffer.FormatRemoteWriteV1, []byte{0xff, 0xff, 0xff}, wire.Limits{}), &syntax)

	// A short block that claims a large body is refused before anything is taken.
	asked := 0
	limits := wire.Limits{MaxDecodedBytes: 1 << 20, Reserve: func(n int) error { asked += n; return nil }}
	require.ErrorAs(t, r.Decode(buffer.FormatRemoteWriteV1, []byte{0x80, 0x80, 0x10, 0, 0}, limits), &syntax)
	require.Zero(t, asked)

	var size *wire.SizeError
	zeros := s2.EncodeSnappy(nil, make([]byte, 2<<20))
	require.ErrorAs(t, r.Decode(buffer.FormatRemoteWriteV1, zeros, limits), &size)
	require.EqualError(t, size, "decode request: uncompressed body: got 2097152 bytes, want <= 1048576")
	require.Zero(t, asked)
}

// Messages that are tiny on the wire and large in memory stop at the memory
// that was granted.
func TestHostileExpansion(t *testing.T) {
	refused := errors.New("no more")
	const granted = 4 << 20
	bodies := map[string]struct {
		format buffer.Format
		body   []byte
	}{}
	var ts []byte
	name := canonical(lbls("__name__", "m"))
	ts = append(ts, name...)
	for range 500_000 {
		ts = append(ts, 0x22, 0x00) // an empty histogram
	}
	bodies["histograms"] = struct {
		format buffer.Format
		body   []byte
	}{buffer.FormatRemoteWriteV1, wrap(0x0a, ts)}
	ts = append([]byte(nil), name...)
	for range 500_000 {
		ts = append(ts, 0x12, 0x00) // an empty sample
	}
	bodies["samples"] = struct {
		format buffer.Format
		body   []byte
	}{buffer.FormatRemoteWriteV1, wrap(0x0a, ts)}

	long := strings.Repeat("v", 64<<10)
	req := writev2.Request{Symbols: []string{"", "__name__", long}}
	for range 5000 {
		req.Timeseries = append(req.Timeseries, writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, Samples: []writev2.Sample{{Timestamp: 1}}})
	}
	body, err := req.Marshal()
	require.NoError(t, err)
	bodies["symbols"] = struct {
		format buffer.Format
		body   []byte
	}{buffer.FormatRemoteWriteV2, body}

	for name, c := range bodies {
		t.Run(name, func(t *testing.T) {
			left := granted
			var r Request
			err := r.Decode(c.format, s2.EncodeSnappy(nil, c.body), wire.Limits{Reserve: func(n int) error {
				if left -= n; left < 0 {
					return refused
				}
				return nil
			}})
			require.ErrorIs(t, err, refused)
			require.LessOrEqual(t, r.budget.Reserved(), granted)
			require.LessOrEqual(t, r.capBytes(), granted)
			r.Reset()
			decode(t, &r, buffer.FormatRemoteWriteV1, marshalV1(t, nil), wire.Limits{})
		})
	}
}

func wrap(tag byte, b []byte) []byte {
	out := []byte{tag}
	for n := uint64(len(b)); ; n >>= 7 {
		if n < 0x80 {
			return append(append(out, byte(n)), b...)
		}
		out = append(out, byte(n)|0x80)
	}
}

// A steady stream of requests is decoded without allocating.
func TestNoAllocations(t *testing.T) {
	for format, body := range map[buffer.Format][]byte{
		buffer.FormatRemoteWriteV1: benchV1(500), buffer.FormatRemoteWriteV2: benchV2(500),
	} {
		compressed := s2.EncodeSnappy(nil, body)
		var r Request
		limits := wire.Limits{MaxLabels: 64, MaxTime: 1800000000000}
		got := testing.AllocsPerRun(20, func() {
			if err := r.Decode(format, compressed, limits); err != nil {
				t.Fatal(err)
			}
			if _, err := r.Parts(compressed, wire.PartOptions{Partitions: 1}); err != nil {
				t.Fatal(err)
			}
		})
		require.Zero(t, got, "format %d", format)
	}
}
