package zipkin

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// testNow is when the spans of the tests come in.
var testNow = time.UnixMicro(1_700_000_000_000_000)

// lines prints an OTLP request: a line for each group and each span.
func lines(t testing.TB, payload []byte) []string {
	t.Helper()
	td, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(payload)
	require.NoError(t, err)
	var out []string
	for _, rs := range td.ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			group := "{" + attrs(rs.Resource().Attributes()) + "}"
			if s := ss.Scope(); s.Name()+s.Version() != "" {
				group += fmt.Sprintf(" scope %s@%s", s.Name(), s.Version())
			}
			out = append(out, group)
			for _, s := range ss.Spans().All() {
				out = append(out, spanLine(s))
			}
		}
	}
	return out
}

func attrs(m pcommon.Map) string {
	var out []string
	for k, v := range m.All() {
		text := v.AsString()
		if v.Type() == pcommon.ValueTypeStr {
			text = fmt.Sprintf("%q", text)
		}
		out = append(out, k+"="+text)
	}
	return strings.Join(out, " ")
}

func spanLine(s ptrace.Span) string {
	b := &strings.Builder{}
	fmt.Fprintf(b, "%s/%s", s.TraceID(), s.SpanID())
	if !s.ParentSpanID().IsEmpty() {
		fmt.Fprintf(b, "<%s", s.ParentSpanID())
	}
	micros := func(at pcommon.Timestamp) int64 { return int64(at) / 1000 }
	fmt.Fprintf(b, " %q %s %d+%d {%s}", s.Name(), s.Kind(), micros(s.StartTimestamp()), micros(s.EndTimestamp()-s.StartTimestamp()), attrs(s.Attributes()))
	for _, e := range s.Events().All() {
		fmt.Fprintf(b, " @%d %q", micros(e.Timestamp()), e.Name())
	}
	if s.Status().Code() != ptrace.StatusCodeUnset {
		fmt.Fprintf(b, " %s %q", s.Status().Code(), s.Status().Message())
	}
	return b.String()
}

func decodeLines(t testing.TB, f Format, body string) []string {
	t.Helper()
	payload, err := new(decoder).decode(f, []byte(body), testNow, nil)
	require.NoError(t, err)
	return lines(t, payload)
}

func TestJSONV2(t *testing.T) {
	f := func(body string, want ...string) {
		t.Helper()
		require.Equal(t, want, decodeLines(t, JSONV2, body))
	}
	// The example of Zipkin's documentation.
	f(`[{
		"id": "352bff9a74ca9ad2", "traceId": "5af7183fb1d4cf5f", "parentId": "6b221d5bc9e6496c",
		"name": "get /api", "timestamp": 1556604172355737, "duration": 1431, "kind": "SERVER",
		"localEndpoint": {"serviceName": "backend", "ipv4": "192.168.99.1", "port": 3306},
		"remoteEndpoint": {"ipv4": "172.19.0.2", "port": 58648},
		"tags": {"http.method": "GET", "http.path": "/api"}
	}]`,
		`{service.name="backend" network.local.address="192.168.99.1"}`,
		`00000000000000005af7183fb1d4cf5f/352bff9a74ca9ad2<6b221d5bc9e6496c "get /api" Server 1556604172355737+1431 `+
			`{http.method="GET" http.path="/api" network.local.port=3306 network.peer.address="172.19.0.2" network.peer.port=58648}`)
	// The least, and short ids.
	f(`[{"traceId":"1f","id":"2"}]`, `{}`,
		`0000000000000000000000000000001f/0000000000000002 "" Unspecified 1700000000000000+0 {otel.zipkin.absentField.startTime=true}`)
	f(`[{"traceId":"0000000000000001000000000000000a","id":"b","annotations":[{"timestamp":8,"value":"b"},{"timestamp":7,"value":"a"}]}]`, `{}`,
		`0000000000000001000000000000000a/000000000000000b "" Unspecified 7+0 {otel.zipkin.absentField.startTime=true} @8 "b" @7 "a"`)
	// Groups, flags, errors.
	f(`[{"traceId":"1","id":"1","timestamp":1,"localEndpoint":{"serviceName":"a"},"shared":true,"debug":true,"kind":"SERVER"},
		{"traceId":"1","id":"2","parentId":"2","timestamp":2,"localEndpoint":{"serviceName":"b"},"tags":{"error":"no \"luck\""}},
		{"traceId":"1","id":"3","parentId":"0","timestamp":3,"localEndpoint":{"serviceName":"a"},"shared":true,"kind":"CLIENT","tags":{"error":"true"}}]`,
		`{service.name="a"}`,
		`00000000000000000000000000000001/0000000000000001 "" Server 1+0 {zipkin.debug=true zipkin.shared=true}`,
		`00000000000000000000000000000001/0000000000000003 "" Client 3+0 {error="true"} Error ""`,
		`{service.name="b"}`,
		`00000000000000000000000000000001/0000000000000002 "" Unspecified 2+0 {error="no \"luck\""} Error "no \"luck\""`)
	// What OpenTelemetry's exporters write.
	f(`[{"traceId":"1","id":"1","timestamp":1,"tags":{"otel.status_code":"OK","otel.scope.name":"lib","otel.scope.version":"1.2","k":"v"}},
		{"traceId":"1","id":"2","timestamp":1,"tags":{"otel.status_code":"ERROR","error":"bad","otel.scope.name":"lib","otel.scope.version":"1.2"}}]`,
		`{} scope lib@1.2`,
		`00000000000000000000000000000001/0000000000000001 "" Unspecified 1+0 {otel.status_code="OK" k="v"} Ok ""`,
		`00000000000000000000000000000001/0000000000000002 "" Unspecified 1+0 {otel.status_code="ERROR" error="bad"} Error "bad"`)
	// Endpoints.
	f(`[{"traceId":"1","id":"1","timestamp":1,"localEndpoint":{"ipv4":"127.0.0.1","ipv6":"2001:db8::c001","port":-1},
		"remoteEndpoint":{"serviceName":"Db","ipv4":"nonsense","ipv6":"::ffff:1.2.3.4"}}]`,
		`{network.local.address="127.0.0.1" zipkin.local.ipv6="2001:db8::c001"}`,
		`00000000000000000000000000000001/0000000000000001 "" Unspecified 1+0 {peer.service="Db" network.peer.address="1.2.3.4"}`)
	f(`[{"traceId":"1","id":"1","timestamp":1,"remoteEndpoint":{"serviceName":"db","ipv4":"1.2.3.4","ipv6":"2001:db8::5","port":1},
		"tags":{"peer.service":"other","network.peer.address":"1.2.3.4","network.peer.port":"9"}}]`, `{}`,
		`00000000000000000000000000000001/0000000000000001 "" Unspecified 1+0 {peer.service="other" network.peer.address="1.2.3.4" network.peer.port="9" `+
			`zipkin.remote.service_name="db" zipkin.remote.ipv6="2001:db8::5" zipkin.remote.port=1}`)
	// Strings, numbers, nulls, fields that nobody knows.
	f(`[{"x":[1,-2.5e3,{"y":null,"z":[true,false,""]}],"traceId":"1","id":"1","name":null,"parentId":null,"timestamp":"12","duration":1.5e1,
		"shared":null,"tags":{"a":"\u00e9\ud83d\ude00\n\t\/","a":"last","n":200,"s\u00e4":"\ud800","raw":"`+"\xff"+`"},"annotations":[]}]`, `{}`,
		`00000000000000000000000000000001/0000000000000001 "" Unspecified 12+15 {a="last" n="200" sä="�" raw="�"}`)
	f(`[{"traceId":"1","id":"1","timestamp":1,"name":"\u00e9\ud83d\ude00\n\t\/"}]`, `{}`,
		"00000000000000000000000000000001/0000000000000001 \"é😀\\n\\t/\" Unspecified 1+0 {}")
	f(" [ ] ")
	f(`[{"traceId":"1","id":"1","timestamp":-5,"duration":-1,"annotations":[{"timestamp":-1,"value":"x"}]}]`, `{}`,
		`00000000000000000000000000000001/0000000000000001 "" Unspecified 1700000000000000+0 {otel.zipkin.absentField.startTime=true} @0 "x"`)
}

func TestManyTags(t *testing.T) {
	var b strings.Builder
	for i := range 100 {
		fmt.Fprintf(&b, `"k%d":"first","k%d":"%d",`, i, i, i)
	}
	got := decodeLines(t, JSONV2, `[{"traceId":"1","id":"1","timestamp":1,"tags":{`+b.String()+`"z":"z"}}]`)
	require.NotContains(t, got[1], "first")
	require.Equal(t, 101, strings.Count(got[1], "="))
	require.Contains(t, got[1], `k98="98" k99="99" z="z"`)
}

func TestRefusals(t *testing.T) {
	f := func(format Format, body, want string) {
		t.Helper()
		_, err := new(decoder).decode(format, []byte(body), testNow, nil)
		require.EqualError(t, err, want)
	}
	const ok = `{"traceId":"1","id":"1"}`
	f(JSONV2, "x", "Expected a JSON_V2 encoded list reading List<Span> from json")
	f(JSONV1, `{"traceId":"1","id":"1"}`, "Expected a JSON_V1 encoded list reading List<Span> from json")
	f(Thrift, "[]", "Expected a THRIFT encoded list reading List<Span> from TBinary")
	f(Proto3, "[]", "Expected a PROTO3 encoded list reading List<Span> from proto3")
	f(JSONV2, "[", "Malformed at byte 1: want { at $[0] reading List<Span> from json")
	f(JSONV2, "["+ok, "Malformed at byte 25: want ',' or ']' at $[0] reading List<Span> from json")
	f(JSONV2, "["+ok+"]x", "Malformed at byte 26: want the end at $[0] reading List<Span> from json")
	f(JSONV2, `[{}]`, "Missing : traceId at $[0].traceId reading List<Span> from json")
	f(JSONV2, `[{"traceId":"1"}]`, "Missing : id at $[0].id reading List<Span> from json")
	f(JSONV2, `[`+ok+`,{"traceId":"xyz","id":"1"}]`, "xyz should be lower-hex encoded with no prefix at $[1].traceId reading List<Span> from json")
	f(JSONV2, `[{"traceId":"ABC","id":"1"}]`, "ABC should be lower-hex encoded with no prefix at $[0].traceId reading List<Span> from json")
	f(JSONV2, `[{"traceId":"","id":"1"}]`, "traceId is empty at $[0].traceId reading List<Span> from json")
	f(JSONV2, `[{"traceId":"00000","id":"1"}]`, "traceId is all zeros at $[0].traceId reading List<Span> from json")
	f(JSONV2, `[{"traceId":"`+strings.Repeat("1", 33)+`","id":"1"}]`, "traceId.length > 32 at $[0].traceId reading List<Span> from json")
	f(JSONV2, `[{"traceId":"1","id":"`+strings.Repeat("1", 17)+`"}]`, "id.length > 16 at $[0].id reading List<Span> from json")
	f(JSONV2, `[{"traceId":"1","id":"0000000000000000"}]`, "id is all zeros at $[0].id reading List<Span> from json")
	f(JSONV2, `[{"traceId":null,"id":"1"}]`, "Expected a string but was NULL at $[0].traceId reading List<Span> from json")
	f(JSONV2, `[{"traceId":"1","id":"1","parentId":""}]`, "parentId is empty at $[0].parentId reading List<Span> from json")
	f(JSONV2, `[{"traceId":"1","id":"1","kind":"server"}]`, "No enum constant zipkin2.Span.Kind.server at $[0].kind reading List<Span> from json")
	f(JSONV2, `[{"traceId":"1","id":"1","timestamp":1.5}]`, "Expected a long but was 1.5 at $[0].timestamp reading List<Span> from json")
	f(JSONV2, `[{"traceId":"1","id":"1","timestamp":1700000000000000000}]`, "timestamp 1700000000000000000 is no time in microseconds at $[0].timestamp reading List<Span> from json")
	f(JSONV2, `[{"traceId":"1","id":"1","timestamp":1,"duration":9223372036854775807}]`, "duration 9223372036854775807 is too long in microseconds at $[0].duration reading List<Span> from json")
	f(JSONV2, `[{"traceId":"1","id":"1","tags":{"a":null}}]`, "No value for tag a at $[0].tags reading List<Span> from json")
	f(JSONV2, `[{"traceId":"1","id":"1","tags":{"a":true}}]`, "Expected a string but was BOOLEAN at $[0].tags reading List<Span> from json")
	f(JSONV2, `[{"traceId":"1","id":"1","tags":{"a":"b`, "Malformed at byte 39: want the end of a string at $[0].tags reading List<Span> from json")
	f(JSONV2, `[{"traceId":"1","id":"1","annotations":[{"value":"x"}]}]`, "Incomplete annotation at $[0].annotations reading List<Span> from json")
	f(JSONV2, `[{"traceId":"1","id":"1","localEndpoint":{"port":65536}}]`, "invalid port 65536 at $[0].localEndpoint reading List<Span> from json")
	f(JSONV2, `[{"traceId":"1","id":"1","binaryAnnotations":[]}]`, "Expected a JSON_V2 encoded list, but received: JSON_V1 at $[0].binaryAnnotations reading List<Span> from json")
	f(JSONV1, `[{"traceId":"1","id":"1","tags":{}}]`, "Expected a JSON_V1 encoded list, but received: JSON_V2 at $[0].tags reading List<Span> from json")
	f(JSONV1, `[{"traceId":"1","id":"1","binaryAnnotations":[{"value":"x"}]}]`, "No key at $[0].binaryAnnotations reading List<Span> from json")
	f(JSONV1, `[{"traceId":"1","id":"1","annotations":[{"timestamp":9223372036854775807,"value":"x"}]}]`, "timestamp 9223372036854775807 is no time in microseconds at $[0].annotations reading List<Span> from json")
	f(JSONV2, `[{"a":`+strings.Repeat("[", 100), "Malformed at byte 70: want values that are nested at most 64 deep at $[0] reading List<Span> from json")
	f(JSONV2, `[{"traceId":"1","id":"1","tags":{`+strings.Repeat(`"a":"",`, 10_001), "more than 10000 tags at $[0].tags reading List<Span> from json")
	f(JSONV2, `[{"traceId":"1","id":"1","annotations":[`+strings.Repeat(`{"timestamp":1,"value":""},`, 10_001), "more than 10000 annotations at $[0].annotations reading List<Span> from json")
	f(Thrift, "\x0c\x7f\xff\xff\xff", "Malformed at byte 5: list: got 2147483647 elements in 0 bytes reading List<Span> from TBinary")
	f(Thrift, "\x0c\x00\x00\x00\x01\x00", "Missing : traceId at $[0].traceId reading List<Span> from TBinary")
	f(Proto3, "\x0a\x03\x0a\x01\x01", "traceId: got 1 bytes, want 8 or 16 at $[0].traceId reading List<Span> from proto3")
	f(Proto3, "\x0a\x7f", "Malformed reading List<Span> from proto3")
	services := make([]string, 17)
	for i := range services {
		services[i] = fmt.Sprintf(`{"timestamp":1,"value":"x","endpoint":{"serviceName":"s%d"}}`, i)
	}
	f(JSONV1, `[{"traceId":"1","id":"1","annotations":[`+strings.Join(services, ",")+`]}]`, "more than 16 services at $[0].annotations reading List<Span> from json")
}

// TestReserve checks that a request stops growing when there is no memory left.
func TestReserve(t *testing.T) {
	one := `{"traceId":"1","id":"1","timestamp":1,"tags":{"a":"` + strings.Repeat("x", 10_000) + `"}}`
	body := "[" + strings.Join(slices.Repeat([]string{one}, 100), ",") + "]"
	asked := 0
	var full = fmt.Errorf("no room")
	_, err := new(decoder).decode(JSONV2, []byte(body), testNow, func(n int) error {
		if asked += n; asked > 1<<20 {
			return full
		}
		return nil
	})
	require.ErrorIs(t, err, full)
	asked = 0
	_, err = new(decoder).decode(JSONV2, []byte(`[{"name":"`+strings.Repeat(`\n`, 500_000)+`"}]`), testNow, func(n int) error {
		if asked += n; asked > 1_200_000 {
			return full
		}
		return nil
	})
	require.ErrorIs(t, err, full)
	asked = -10 << 20
	payload, err := new(decoder).decode(JSONV2, []byte(body), testNow, func(n int) error { asked += n; return nil })
	require.NoError(t, err)
	require.GreaterOrEqual(t, asked+10<<20, 2*len(payload))
}
