package otlptraces

import (
	"fmt"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
)

// benchTraces is what a Collector sends for some services: traces of eight spans
// with the usual attributes, now and then an event, about 400 bytes a span.
func benchTraces(spans int) ptrace.Traces {
	td := ptrace.NewTraces()
	r := newRandom(1)
	const perResource = 100
	var ss ptrace.SpanSlice
	for i := range spans {
		if i%perResource == 0 {
			rs := td.ResourceSpans().AppendEmpty()
			a := rs.Resource().Attributes()
			a.PutStr("service.name", "checkout")
			a.PutStr("service.namespace", "shop")
			a.PutStr("service.instance.id", fmt.Sprintf("checkout-7d9f8b6c4-%d", i/perResource))
			for _, k := range []string{"host.name", "host.arch", "os.type", "k8s.namespace.name", "k8s.pod.name", "k8s.node.name", "telemetry.sdk.name", "telemetry.sdk.language"} {
				a.PutStr(k, "value of "+k)
			}
			s := rs.ScopeSpans().AppendEmpty()
			s.Scope().SetName("go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp")
			s.Scope().SetVersion("0.60.0")
			ss = s.Spans()
		}
		sp := ss.AppendEmpty()
		h := uint64(i/8+1) * 0x9e3779b97f4a7c15
		var id [16]byte
		for k := range id {
			id[k] = byte(h >> (k % 8 * 8))
		}
		sp.SetTraceID(id)
		sp.SetSpanID([8]byte{1, 2, 3, 4, 5, 6, byte(i >> 8), byte(i)})
		sp.SetParentSpanID([8]byte{1, 2, 3, 4, 5, 6, byte(i >> 8), byte(i - 1)})
		sp.SetName("GET /api/v1/orders/{id}/items")
		sp.SetKind(ptrace.SpanKind(1 + i%4))
		sp.SetFlags(0x101)
		sp.SetStartTimestamp(pcommon.Timestamp(nowNs - 1e9 - uint64(i)))
		sp.SetEndTimestamp(pcommon.Timestamp(nowNs - 1e9 + r.Uint64N(1e8)))
		a := sp.Attributes()
		a.PutStr("http.request.method", "GET")
		a.PutInt("http.response.status_code", 200)
		a.PutStr("http.route", "/api/v1/orders/{id}/items")
		a.PutStr("url.path", fmt.Sprintf("/api/v1/orders/%d/items", r.IntN(1e6)))
		a.PutStr("network.protocol.version", "1.1")
		a.PutStr("server.address", "checkout.shop.svc")
		a.PutInt("server.port", 8080)
		a.PutStr("user.id", fmt.Sprintf("u-%08d", r.IntN(1e8)))
		if i%10 == 0 {
			e := sp.Events().AppendEmpty()
			e.SetName("cache.miss")
			e.SetTimestamp(pcommon.Timestamp(nowNs))
			e.Attributes().PutStr("cache.key", "orders:recent")
		}
		if i%100 == 0 {
			sp.Status().SetCode(ptrace.StatusCodeError)
			sp.Status().SetMessage("upstream timed out")
		}
	}
	return td
}

// asSDK writes a request with its fields in the order in which SDKs do, while the
// Collector writes the last one first.
func asSDK(t testing.TB, body []byte) []byte {
	t.Helper()
	var td tracepb.TracesData
	require.NoError(t, proto.Unmarshal(body, &td))
	out, err := proto.Marshal(&td)
	require.NoError(t, err)
	return out
}

// BenchmarkDecode compares Decode with the Collector's reading of the same request.
func BenchmarkDecode(b *testing.B) {
	for _, from := range []string{"collector", "sdk"} {
		const spans = 1000
		body := marshal(b, benchTraces(spans))
		if from == "sdk" {
			body = asSDK(b, body)
		}
		perSpan := func(b *testing.B) {
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(spans), "ns/span")
			b.ReportMetric(float64(len(body))/float64(spans), "bytes/span")
			b.ReportAllocs()
		}
		limits := wire.Limits{MaxTime: now, MaxAttrs: 128, MaxEvents: 128, MaxLinks: 128, MaxAttrBytes: 4096, MaxSpanBytes: 1 << 20}
		b.Run(from+"/ours", func(b *testing.B) {
			r := New()
			for b.Loop() {
				if err := r.Decode(buffer.FormatOTLPTraces, body, limits); err != nil || r.changed || r.Spans.Len() != spans {
					b.Fatal(err, r.changed)
				}
			}
			perSpan(b)
		})
		b.Run(from+"/pdata", func(b *testing.B) {
			for b.Loop() {
				if _, err := unmarshal(body); err != nil {
					b.Fatal(err)
				}
			}
			perSpan(b)
		})
	}
}

// BenchmarkParts decodes and divides.
func BenchmarkParts(b *testing.B) {
	const spans = 1000
	body := marshal(b, benchTraces(spans))
	compressed := s2.EncodeSnappy(nil, body)
	for _, bc := range []struct {
		name    string
		format  buffer.Format
		payload []byte
		o       wire.PartOptions
	}{
		{"whole", buffer.FormatOTLPTraces, body, wire.PartOptions{Partitions: 1, Plain: true}},
		{"wholeSnappy", buffer.FormatOTLPTraces, body, wire.PartOptions{Partitions: 1}},
		{"fromSnappy", buffer.FormatOTLPTracesSnappy, compressed, wire.PartOptions{Partitions: 1}},
		{"partitions=16", buffer.FormatOTLPTraces, body, wire.PartOptions{Partitions: 16, Plain: true}},
		{"partitions=16snappy", buffer.FormatOTLPTraces, body, wire.PartOptions{Partitions: 16}},
	} {
		b.Run(bc.name, func(b *testing.B) {
			r := New()
			for b.Loop() {
				if err := r.Decode(bc.format, bc.payload, wire.Limits{}); err != nil {
					b.Fatal(err)
				}
				if _, err := r.Parts(bc.payload, bc.o); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(spans), "ns/span")
			b.ReportAllocs()
		})
	}
}
