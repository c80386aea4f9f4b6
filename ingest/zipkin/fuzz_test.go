package zipkin

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// fuzz decodes what comes: the result is OTLP with valid ids and no larger than
// its input allows, or a FormatError.
func fuzz(f *testing.F, format Format, seeds ...string) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) == 0 {
			return
		}
		kept := bytes.Clone(body)
		d := &decoder{}
		payload, err := d.decode(format, body, testNow, nil)
		require.Equal(t, kept, body)
		if err != nil {
			var bad *FormatError
			require.True(t, errors.As(err, &bad), err)
			return
		}
		td, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(payload)
		require.NoError(t, err)
		require.Equal(t, d.build.Spans(), td.SpanCount())
		for _, rs := range td.ResourceSpans().All() {
			for _, ss := range rs.ScopeSpans().All() {
				for _, s := range ss.Spans().All() {
					require.False(t, s.TraceID().IsEmpty() || s.SpanID().IsEmpty())
					require.LessOrEqual(t, s.StartTimestamp(), s.EndTimestamp())
				}
			}
		}
		again, err := d.decode(format, body, testNow, nil)
		require.NoError(t, err)
		fresh, err := new(decoder).decode(format, body, testNow, nil)
		require.NoError(t, err)
		require.Equal(t, fresh, again)
		d.release()
	})
}

const seedV1 = `[{"traceId":"a","id":"2","parentId":"1","name":"get","timestamp":1,"duration":2,"debug":true,"annotations":[
	{"timestamp":100,"value":"cs","endpoint":{"serviceName":"a","ipv4":"1.1.1.1"}},{"timestamp":110,"value":"sr","endpoint":{"serviceName":"b","ipv6":"::1","port":1}},
	{"timestamp":180,"value":"ss","endpoint":{"serviceName":"b"}},{"timestamp":200,"value":"cr","endpoint":{"serviceName":"a"}},{"timestamp":1,"value":"ms"},
	{"timestamp":1,"value":"wr","endpoint":{"serviceName":"c"}},{"timestamp":2,"value":"mr","endpoint":{"serviceName":"c"}}],
	"binaryAnnotations":[{"key":"lc","value":"x"},{"key":"sa","value":true,"endpoint":{"serviceName":"b"}},{"key":"n","value":1.5}]}]`

const seedV2 = `[{"traceId":"5af7183fb1d4cf5f","id":"2","parentId":"1","kind":"CLIENT","name":"\u00e9","timestamp":1,"duration":2,"shared":true,
	"localEndpoint":{"serviceName":"a","ipv4":"1.1.1.1","port":1},"remoteEndpoint":{"ipv6":"::1"},"annotations":[{"timestamp":1,"value":"x"}],"tags":{"error":"","a":"b","a":"c"},"y":[{}]}]`

func FuzzJSONV1(f *testing.F) { fuzz(f, JSONV1, seedV1, `[]`) }

func FuzzJSONV2(f *testing.F) { fuzz(f, JSONV2, seedV2, `[]`) }

func FuzzThrift(f *testing.F) {
	fuzz(f, Thrift, string(encodeThrift(f, thriftSpans()...)), string(encodeThrift(f)))
}

func FuzzProto3(f *testing.F) { fuzz(f, Proto3, string(encodeProto(f, modelSpans()...))) }

// FuzzSkip compares what counts as JSON with the standard library.
func FuzzSkip(f *testing.F) {
	for _, s := range []string{seedV1, seedV2, `-0.5e+7`, `"\ud800\n"`, ` null `, `01`, `[1,]`, `{"a":tru}`, `"\x"`, `"\'"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &jsonReader{b: b}
		r.skip()
		ok := !r.failed() && r.peek() == 0 && r.i == len(b)
		if bytes.Contains(b, []byte(`\'`)) || bytes.Count(b, []byte("[")) >= maxDepth || bytes.Count(b, []byte("{")) >= maxDepth {
			return // we differ there
		}
		require.Equal(t, json.Valid(b), ok, "%s", r.detail)
	})
}

// FuzzString compares strings with the standard library.
func FuzzString(f *testing.F) {
	for _, s := range []string{`"a"`, `"\u00e9\ud83d\ude00\ud800\ud800\u0041\\\""`, "\"\xff\"", `"\b\f\n\r\t\/"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var want string
		if bytes.Contains(b, []byte(`\'`)) || json.Unmarshal(b, &want) != nil || bytes.HasPrefix(bytes.TrimSpace(b), []byte("null")) {
			return
		}
		r := &jsonReader{b: b}
		got := r.rawString()
		require.False(t, r.failed(), r.detail)
		require.Equal(t, []rune(want), []rune(string(got)))
	})
}
