package zipkin

import (
	"context"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/apache/thrift/lib/go/thrift"
	"github.com/jaegertracing/jaeger-idl/thrift-gen/zipkincore"
	"github.com/stretchr/testify/require"
)

// TestJSONV1 has spans of version 1 and what Zipkin's server makes of them.
func TestJSONV1(t *testing.T) {
	f := func(fields string, want ...string) {
		t.Helper()
		fields = strings.NewReplacer(
			"FRONTEND", `"endpoint":{"serviceName":"frontend","ipv4":"1.1.1.1"}`,
			"BACKEND", `"endpoint":{"serviceName":"backend","ipv4":"2.2.2.2","port":9000}`,
			"BROKER", `"endpoint":{"serviceName":"kafka"}`,
		).Replace(fields)
		got := decodeLines(t, JSONV1, `[{"traceId":"a","id":"2","parentId":"1","name":"get",`+fields+`}]`)
		for i := range got {
			got[i] = strings.ReplaceAll(got[i], "0000000000000000000000000000000a/0000000000000002<0000000000000001 \"get\"", "SPAN")
		}
		require.Equal(t, want, got)
	}
	const (
		frontend = `{service.name="frontend" network.local.address="1.1.1.1"}`
		backend  = `{service.name="backend" network.local.address="2.2.2.2"}`
	)
	// A client.
	f(`"timestamp":100,"duration":50,"annotations":[{"timestamp":100,"value":"cs",FRONTEND},{"timestamp":120,"value":"foo",FRONTEND},{"timestamp":150,"value":"cr",FRONTEND}],
		"binaryAnnotations":[{"key":"http.path","value":"/api",FRONTEND},{"key":"sa","value":true,BACKEND}]`,
		frontend, `SPAN Client 100+50 {http.path="/api" peer.service="backend" network.peer.address="2.2.2.2" network.peer.port=9000} @120 "foo"`)
	// A client whose times are in its annotations alone.
	f(`"annotations":[{"timestamp":150,"value":"cr",FRONTEND},{"timestamp":100,"value":"cs",FRONTEND}]`,
		frontend, `SPAN Client 100+50 {}`)
	// A client whose begin is in its times alone.
	f(`"timestamp":100,"duration":50,"annotations":[{"timestamp":150,"value":"cr",FRONTEND}]`,
		frontend, `SPAN Client 100+50 {}`)
	// A server: without times of its own the span is shared.
	f(`"timestamp":100,"duration":50,"annotations":[{"timestamp":100,"value":"sr",BACKEND},{"timestamp":150,"value":"ss",BACKEND}],
		"binaryAnnotations":[{"key":"ca","value":true,FRONTEND}]`,
		backend, `SPAN Server 100+50 {network.local.port=9000 peer.service="frontend" network.peer.address="1.1.1.1"}`)
	f(`"annotations":[{"timestamp":100,"value":"sr",BACKEND},{"timestamp":150,"value":"ss",BACKEND}]`,
		backend, `SPAN Server 100+50 {network.local.port=9000 zipkin.shared=true}`)
	// The client's port, under the server's own name.
	f(`"timestamp":100,"duration":50,"annotations":[{"timestamp":100,"value":"sr",BACKEND},{"timestamp":150,"value":"ss",BACKEND}],
		"binaryAnnotations":[{"key":"ca","value":"1","endpoint":{"serviceName":"backend","ipv4":"2.2.2.2","port":63840}}]`,
		backend, `SPAN Server 100+50 {network.local.port=9000 network.peer.address="2.2.2.2" network.peer.port=63840}`)
	// Both sides in one span, with tags of each.
	f(`"timestamp":100,"duration":100,"debug":true,"annotations":[{"timestamp":100,"value":"cs",FRONTEND},{"timestamp":110,"value":"sr",BACKEND},
		{"timestamp":180,"value":"ss",BACKEND},{"timestamp":200,"value":"cr",FRONTEND},{"timestamp":120,"value":"b",BACKEND}],
		"binaryAnnotations":[{"key":"k","value":"front",FRONTEND},{"key":"k","value":"back",BACKEND},{"key":"ca","value":true,FRONTEND},{"key":"sa","value":true,BACKEND}]`,
		frontend, `SPAN Client 100+100 {k="front" peer.service="backend" network.peer.address="2.2.2.2" network.peer.port=9000 zipkin.debug=true zipkin.network_time_us=30}`,
		backend, `SPAN Server 110+70 {k="back" network.local.port=9000 peer.service="frontend" network.peer.address="1.1.1.1" zipkin.debug=true zipkin.shared=true} @120 "b"`)
	// A service that calls itself.
	f(`"annotations":[{"timestamp":100,"value":"cs",FRONTEND},{"timestamp":110,"value":"sr",FRONTEND},{"timestamp":180,"value":"ss",FRONTEND},{"timestamp":200,"value":"cr",FRONTEND}]`,
		frontend, `SPAN Client 100+100 {zipkin.network_time_us=30}`, `SPAN Server 110+70 {zipkin.shared=true}`)
	// One way: nobody waits.
	f(`"annotations":[{"timestamp":100,"value":"cs",FRONTEND},{"timestamp":110,"value":"sr",BACKEND}]`,
		frontend, `SPAN Client 100+0 {}`, backend, `SPAN Server 110+0 {network.local.port=9000 zipkin.shared=true}`)
	// Calls that have not ended, or begun.
	f(`"annotations":[{"timestamp":100,"value":"cs",FRONTEND}]`, frontend, `SPAN Client 100+0 {}`)
	f(`"annotations":[{"timestamp":200,"value":"ss",BACKEND}]`, backend, `SPAN Server 200+0 {network.local.port=9000 otel.zipkin.absentField.startTime=true} @200 "ss"`)
	f(`"timestamp":90,"annotations":[{"timestamp":200,"value":"cr",FRONTEND}]`, frontend, `SPAN Client 90+0 {} @200 "cr"`)
	// Messages.
	f(`"annotations":[{"timestamp":100,"value":"ms",FRONTEND},{"timestamp":105,"value":"ws",FRONTEND}],"binaryAnnotations":[{"key":"ma","value":true,BROKER}]`,
		frontend, `SPAN Producer 100+5 {peer.service="kafka"}`)
	f(`"annotations":[{"timestamp":100,"value":"wr",BACKEND},{"timestamp":105,"value":"mr",BACKEND}],"binaryAnnotations":[{"key":"ma","value":true,BROKER}]`,
		backend, `SPAN Consumer 100+5 {network.local.port=9000 peer.service="kafka"}`)
	f(`"annotations":[{"timestamp":100,"value":"ms",FRONTEND},{"timestamp":101,"value":"ws",FRONTEND},{"timestamp":105,"value":"mr",BACKEND}]`,
		frontend, `SPAN Producer 100+1 {}`, backend, `SPAN Consumer 105+0 {network.local.port=9000 zipkin.shared=true}`)
	f(`"annotations":[{"timestamp":100,"value":"ws",FRONTEND}]`, frontend, `SPAN Unspecified 100+0 {otel.zipkin.absentField.startTime=true} @100 "ws"`)
	// Local spans.
	f(`"timestamp":100,"duration":5,"binaryAnnotations":[{"key":"lc","value":"spring",FRONTEND}]`, frontend, `SPAN Unspecified 100+5 {lc="spring"}`)
	f(`"timestamp":100,"duration":5,"binaryAnnotations":[{"key":"lc","value":"",FRONTEND}]`, frontend, `SPAN Unspecified 100+5 {}`)
	// Addresses without annotations.
	f(`"timestamp":100,"duration":5,"binaryAnnotations":[{"key":"ca","value":true,FRONTEND},{"key":"sa","value":true,BACKEND}]`,
		frontend, `SPAN Unspecified 100+5 {peer.service="backend" network.peer.address="2.2.2.2" network.peer.port=9000}`)
	f(`"timestamp":100,"duration":5,"binaryAnnotations":[{"key":"lc","value":"",BACKEND},{"key":"ca","value":true,FRONTEND}]`,
		backend, `SPAN Server 100+5 {network.local.port=9000 peer.service="frontend" network.peer.address="1.1.1.1"}`)
	f(`"timestamp":100,"duration":5,"binaryAnnotations":[{"key":"lc","value":"",FRONTEND},{"key":"sa","value":true,BACKEND}]`,
		frontend, `SPAN Unspecified 100+5 {peer.service="backend" network.peer.address="2.2.2.2" network.peer.port=9000}`)
	// Marks of nobody are events; values are text.
	f(`"timestamp":100,"annotations":[{"timestamp":100,"value":"cs"},{"timestamp":101,"value":"cr","endpoint":null}],
		"binaryAnnotations":[{"key":"b","value":true,"type":"BOOL"},{"key":"n","value":12,"type":"I64"},{"key":"o","value":{"x":1}},{"key":"sa","value":false,BACKEND}]`,
		`{}`, `SPAN Unspecified 100+0 {b="true" n="12"} @100 "cs" @101 "cr"`)
}

func pointer[T any](v T) *T { return &v }

// encodeThrift writes a list as the libraries of version 1 do.
func encodeThrift(t testing.TB, spans ...*zipkincore.Span) []byte {
	t.Helper()
	ctx := context.Background()
	buf := thrift.NewTMemoryBuffer()
	p := thrift.NewTBinaryProtocolConf(buf, nil)
	require.NoError(t, p.WriteListBegin(ctx, thrift.STRUCT, len(spans)))
	for _, s := range spans {
		require.NoError(t, s.Write(ctx, p))
	}
	require.NoError(t, p.WriteListEnd(ctx))
	return buf.Bytes()
}

func thriftSpans() []*zipkincore.Span {
	frontend := &zipkincore.Endpoint{Ipv4: 0x01010101, Port: -536, ServiceName: "frontend"}
	backend := &zipkincore.Endpoint{ServiceName: "backend", Ipv6: []byte("\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xc0\x01")}
	double := binary.BigEndian.AppendUint64(nil, 0x3ff8000000000000)
	return []*zipkincore.Span{{
		TraceID: 10, TraceIDHigh: pointer[int64](-1), ID: 2, ParentID: pointer[int64](1), Name: "get", Debug: true,
		Timestamp: pointer[int64](100), Duration: pointer[int64](50),
		Annotations: []*zipkincore.Annotation{
			{Timestamp: 100, Value: "cs", Host: frontend}, {Timestamp: 150, Value: "cr", Host: frontend}, {Timestamp: 0, Value: "none"},
			{Timestamp: 110, Value: "sr", Host: backend}, {Timestamp: 120, Value: "ss", Host: backend}, {Timestamp: 115, Value: "warm", Host: backend},
		},
		BinaryAnnotations: []*zipkincore.BinaryAnnotation{
			{Key: "sa", Value: []byte{1}, AnnotationType: zipkincore.AnnotationType_BOOL, Host: backend},
			{Key: "s", Value: []byte("text"), AnnotationType: zipkincore.AnnotationType_STRING, Host: frontend},
			{Key: "b", Value: []byte{1}, AnnotationType: zipkincore.AnnotationType_BOOL, Host: frontend},
			{Key: "i16", Value: []byte{0xff, 0xfe}, AnnotationType: zipkincore.AnnotationType_I16, Host: frontend},
			{Key: "i32", Value: []byte{0, 0, 1, 0}, AnnotationType: zipkincore.AnnotationType_I32, Host: frontend},
			{Key: "i64", Value: []byte{0, 0, 0, 0, 0, 0, 1, 0}, AnnotationType: zipkincore.AnnotationType_I64, Host: frontend},
			{Key: "d", Value: double, AnnotationType: zipkincore.AnnotationType_DOUBLE, Host: frontend},
			{Key: "bytes", Value: []byte{1, 2}, AnnotationType: zipkincore.AnnotationType_BYTES, Host: frontend},
		},
	}, {
		TraceID: 10, ID: 3, Name: "local", Timestamp: pointer[int64](7), Duration: pointer[int64](1),
	}}
}

func TestThrift(t *testing.T) {
	require.Equal(t, []string{
		`{service.name="frontend" network.local.address="1.1.1.1"}`,
		`ffffffffffffffff000000000000000a/0000000000000002<0000000000000001 "get" Client 100+50 {s="text" b="true" i16="-2" i32="256" i64="256" d="1.5" bytes="AQI=" ` +
			`network.local.port=65000 peer.service="backend" network.peer.address="2001:db8::c001" zipkin.debug=true zipkin.network_time_us=40}`,
		`{service.name="backend" network.local.address="2001:db8::c001"}`,
		`ffffffffffffffff000000000000000a/0000000000000002<0000000000000001 "get" Server 110+10 {zipkin.debug=true zipkin.shared=true} @115 "warm"`,
		`{}`,
		`0000000000000000000000000000000a/0000000000000003 "local" Unspecified 7+1 {}`,
	}, decodeLines(t, Thrift, string(encodeThrift(t, thriftSpans()...))))
	require.Empty(t, decodeLines(t, Thrift, string(encodeThrift(t))))
}

// TestThriftCutShort refuses every prefix.
func TestThriftCutShort(t *testing.T) {
	body := encodeThrift(t, thriftSpans()...)
	for n := 1; n < len(body); n++ {
		_, err := new(decoder).decode(Thrift, body[:n], testNow, nil)
		var bad *FormatError
		require.ErrorAs(t, err, &bad, n)
	}
}
