package jaeger

import (
	"fmt"
	"testing"
	"time"

	"github.com/jaegertracing/jaeger-idl/model/v1"
	jthrift "github.com/jaegertracing/jaeger-idl/thrift-gen/jaeger"
)

const benchSpans = 1000

// benchBatches returns spans with the usual tags of HTTP, in both forms.
func benchBatches() (*jthrift.Batch, *model.Batch) {
	tb := &jthrift.Batch{Process: &jthrift.Process{ServiceName: "shop", Tags: []*jthrift.Tag{thriftTag("hostname", "h1"), thriftTag("ip", "10.0.0.1")}}}
	pb := &model.Batch{Process: &model.Process{ServiceName: "shop", Tags: []model.KeyValue{model.String("hostname", "h1")}}}
	for i := range benchSpans {
		ts := &jthrift.Span{TraceIdLow: int64(i/20) + 1, TraceIdHigh: 7, SpanId: int64(i) + 1, ParentSpanId: int64(i), OperationName: "GET /api/orders", Flags: 1, StartTime: 1_700_000_000_000_000, Duration: 1500}
		ps := &model.Span{TraceID: model.NewTraceID(7, uint64(i/20)+1), SpanID: model.NewSpanID(uint64(i) + 1), OperationName: "GET /api/orders", Flags: 1, StartTime: time.Unix(1_700_000_000, 0), Duration: time.Millisecond,
			References: []model.SpanRef{model.NewChildOfRef(model.NewTraceID(7, uint64(i/20)+1), model.NewSpanID(uint64(i)))}}
		for _, t := range []struct {
			key   string
			value any
		}{
			{"span.kind", "server"}, {"http.method", "GET"}, {"http.url", "http://shop/api/orders/17"}, {"http.status_code", 200}, {"component", "net/http"},
			{"user.id", fmt.Sprint("user-", i)}, {"internal.span.format", "jaeger"}, {"retry", false},
		} {
			ts.Tags, ps.Tags = append(ts.Tags, thriftTag(t.key, t.value)), append(ps.Tags, protoTag(t.key, t.value))
		}
		ts.Logs = []*jthrift.Log{{Timestamp: ts.StartTime + 5, Fields: []*jthrift.Tag{thriftTag("event", "read")}}}
		ps.Logs = []model.Log{{Timestamp: ps.StartTime, Fields: []model.KeyValue{model.String("event", "read")}}}
		tb.Spans, pb.Spans = append(tb.Spans, ts), append(pb.Spans, ps)
	}
	return tb, pb
}

func BenchmarkDecode(b *testing.B) {
	tb, pb := benchBatches()
	for _, v := range []struct {
		format Format
		body   []byte
	}{{Thrift, thriftBody(b, tb)}, {Proto, protoBody(b, pb)}} {
		b.Run(v.format.String(), func(b *testing.B) {
			d := &decoder{}
			b.ReportAllocs()
			b.SetBytes(int64(len(v.body)))
			for b.Loop() {
				if _, err := d.decode(v.format, v.body, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchSpans, "ns/span")
		})
	}
}
