package remotewrite

import (
	"fmt"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
)

// benchLabels are ten labels of about 200 bytes, as of a node exporter behind
// Kubernetes discovery.
func benchLabels(i int) [][2]string {
	return [][2]string{
		{"__name__", fmt.Sprintf("node_network_receive_bytes_total_%03d", i%200)},
		{"cluster", "eu-west-1-prod"},
		{"device", fmt.Sprintf("eth%d", i%7)},
		{"environment", "production"},
		{"instance", fmt.Sprintf("10.1.%d.%d:9100", i/250%250, i%250)},
		{"job", "node-exporter"},
		{"namespace", "monitoring"},
		{"node", "worker-17"},
		{"pod", "node-exporter-x7k2p"},
		{"service", "node-exporter"},
	}
}

func benchV1(n int) []byte {
	var req prompb.WriteRequest
	for i := range n {
		ts := prompb.TimeSeries{Samples: []prompb.Sample{{Value: float64(i) * 1.5, Timestamp: 1700000000000 + int64(i%3)}}}
		for _, l := range benchLabels(i) {
			ts.Labels = append(ts.Labels, prompb.Label{Name: l[0], Value: l[1]})
		}
		req.Timeseries = append(req.Timeseries, ts)
	}
	b, err := req.Marshal()
	if err != nil {
		panic(err)
	}
	return b
}

func benchV2(n int) []byte {
	syms := writev2.NewSymbolTable()
	var req writev2.Request
	for i := range n {
		ts := writev2.TimeSeries{Samples: []writev2.Sample{{Value: float64(i) * 1.5, Timestamp: 1700000000000 + int64(i%3)}}}
		for _, l := range benchLabels(i) {
			ts.LabelsRefs = append(ts.LabelsRefs, syms.Symbolize(l[0]), syms.Symbolize(l[1]))
		}
		ts.Metadata = writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_COUNTER, HelpRef: syms.Symbolize("Network device statistic.")}
		req.Timeseries = append(req.Timeseries, ts)
	}
	req.Symbols = syms.Symbols()
	b, err := req.Marshal()
	if err != nil {
		panic(err)
	}
	return b
}

func BenchmarkDecode(b *testing.B) {
	const series = 5000
	limits := wire.Limits{
		MaxDecodedBytes: 32 << 20, MaxLabels: 64, MaxLabelNameBytes: 1024, MaxLabelValueBytes: 4096,
		MaxTime: 1800000000000, Reserve: func(int) error { return nil },
	}
	for _, c := range []struct {
		name   string
		format buffer.Format
		body   []byte
	}{
		{"v1", buffer.FormatRemoteWriteV1, benchV1(series)},
		{"v2", buffer.FormatRemoteWriteV2, benchV2(series)},
	} {
		compressed := s2.EncodeSnappy(nil, c.body)
		b.Run(c.name+"/snappy", func(b *testing.B) {
			dst := make([]byte, len(c.body))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s2.Decode(dst, compressed); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/series, "ns/sample")
		})
		b.Run(c.name+"/whole", func(b *testing.B) {
			var r Request
			b.ReportAllocs()
			b.SetBytes(int64(len(c.body)))
			for b.Loop() {
				if err := r.Decode(c.format, compressed, limits); err != nil {
					b.Fatal(err)
				}
			}
			if len(r.Metrics.Times) != series || r.Rejects.Any() {
				b.Fatalf("got %d samples, rejects %+v", len(r.Metrics.Times), r.Rejects)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/series, "ns/sample")
		})
	}
	body := benchV1(series)
	var r Request
	if err := r.Decode(buffer.FormatRemoteWriteV1, s2.EncodeSnappy(nil, body), limits); err != nil {
		b.Fatal(err)
	}
	b.Run("v1/canonicalPrefix", func(b *testing.B) {
		for b.Loop() {
			for _, s := range r.spans {
				canonicalPrefix(r.body[:s.Off+s.Len], int(s.Off))
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/series, "ns/series")
	})
	b.Run("v1/prompb", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var req prompb.WriteRequest
			if err := req.Unmarshal(body); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/series, "ns/sample")
	})
}
