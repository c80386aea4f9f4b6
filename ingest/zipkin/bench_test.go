package zipkin

import (
	"fmt"
	"testing"
	"time"

	"github.com/jaegertracing/jaeger-idl/thrift-gen/zipkincore"
	"github.com/openzipkin/zipkin-go/model"
	"github.com/openzipkin/zipkin-go/reporter"
	"github.com/stretchr/testify/require"
)

const benchSpans = 1000

// benchModel are spans of twenty services with the usual tags of HTTP.
func benchModel() []model.SpanModel {
	spans := make([]model.SpanModel, benchSpans)
	for i := range spans {
		parent := model.ID(i)
		spans[i] = model.SpanModel{
			SpanContext: model.SpanContext{TraceID: model.TraceID{High: uint64(i / 20), Low: 0x1234567890abcdef}, ID: model.ID(i + 1), ParentID: &parent},
			Name:        "get /api/orders", Kind: model.Client, Timestamp: time.UnixMicro(1_700_000_000_000_000 + int64(i)), Duration: time.Millisecond,
			LocalEndpoint:  &model.Endpoint{ServiceName: fmt.Sprintf("service-%d", i%20), IPv4: []byte{10, 0, 0, byte(i % 20)}, Port: 8080},
			RemoteEndpoint: &model.Endpoint{ServiceName: "orders", IPv4: []byte{10, 0, 1, 7}, Port: 9000},
			Annotations:    []model.Annotation{{Timestamp: time.UnixMicro(1_700_000_000_000_010 + int64(i)), Value: "ws"}},
			Tags: map[string]string{"http.method": "GET", "http.path": "/api/orders/17", "http.status_code": "200", "k8s.pod.name": "orders-7d9f8-abcde",
				"user.id": fmt.Sprint("user-", i), "thread.name": "worker-3"},
		}
	}
	return spans
}

// benchThrift are calls of which both sides are in one span.
func benchThrift() []*zipkincore.Span {
	front, back := &zipkincore.Endpoint{ServiceName: "front", Ipv4: 0x0a000001}, &zipkincore.Endpoint{ServiceName: "back", Ipv4: 0x0a000002, Port: 80}
	spans := make([]*zipkincore.Span, benchSpans)
	for i := range spans {
		at := 1_700_000_000_000_000 + int64(i)
		s := &zipkincore.Span{TraceID: int64(i/20) + 1, ID: int64(i) + 1, Name: "get /api/orders"}
		for j, mark := range []string{"cs", "sr", "ss", "cr"} {
			host := front
			if j == 1 || j == 2 {
				host = back
			}
			s.Annotations = append(s.Annotations, &zipkincore.Annotation{Timestamp: at + int64(j), Value: mark, Host: host})
		}
		for _, k := range []string{"http.method", "http.path", "http.status_code"} {
			s.BinaryAnnotations = append(s.BinaryAnnotations, &zipkincore.BinaryAnnotation{Key: k, Value: []byte("some value"), AnnotationType: zipkincore.AnnotationType_STRING, Host: front})
		}
		spans[i] = s
	}
	return spans
}

func BenchmarkDecode(b *testing.B) {
	json, err := reporter.JSONSerializer{}.Serialize(pointers(benchModel()))
	require.NoError(b, err)
	for _, v := range []struct {
		format Format
		body   []byte
	}{
		{JSONV2, json}, {Proto3, encodeProto(b, benchModel()...)}, {Thrift, encodeThrift(b, benchThrift()...)},
	} {
		b.Run(v.format.String(), func(b *testing.B) {
			d := &decoder{}
			b.ReportAllocs()
			b.SetBytes(int64(len(v.body)))
			for b.Loop() {
				if _, err := d.decode(v.format, v.body, testNow, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchSpans, "ns/span")
		})
	}
}
