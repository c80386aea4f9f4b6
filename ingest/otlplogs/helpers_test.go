package otlplogs

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/signal"
)

const nowNs = uint64(1_700_000_000_000_000_000)

func marshal(t testing.TB, ld plog.Logs) []byte {
	t.Helper()
	b, err := (&plog.ProtoMarshaler{}).MarshalLogs(ld)
	require.NoError(t, err)
	return b
}

// unmarshal reads a request as the Collector's receiver does.
func unmarshal(body []byte) (plog.Logs, error) {
	req := plogotlp.NewExportRequest()
	err := req.UnmarshalProto(body)
	return req.Logs(), err
}

func decode(t testing.TB, body []byte, limits wire.Limits) *Request {
	t.Helper()
	r := New()
	require.NoError(t, r.Decode(buffer.FormatOTLPLogs, body, limits))
	return r
}

// dump writes every record with its resource and scope.
func dump(t testing.TB, ld plog.Logs) (out []string) {
	for _, rl := range ld.ResourceLogs().All() {
		for _, sl := range rl.ScopeLogs().All() {
			for _, lr := range sl.LogRecords().All() {
				one := plog.NewLogs()
				r := one.ResourceLogs().AppendEmpty()
				rl.Resource().CopyTo(r.Resource())
				r.SetSchemaUrl(rl.SchemaUrl())
				s := r.ScopeLogs().AppendEmpty()
				sl.Scope().CopyTo(s.Scope())
				s.SetSchemaUrl(sl.SchemaUrl())
				lr.CopyTo(s.LogRecords().AppendEmpty())
				out = append(out, fmt.Sprintf("%q", marshal(t, one)))
			}
		}
	}
	return out
}

// totals are what is known of a batch as text.
func totals(l *signal.Logs) string {
	records, size, severities := 0, 0, [signal.NumSeverityClasses]int{}
	for i := range l.Services {
		s := &l.Services[i]
		records, size = records+s.Records(), size+s.Bytes
		for k, n := range s.BySeverity {
			severities[k] += n
		}
	}
	return fmt.Sprint(records, size, severities, l.MinTime, l.MaxTime)
}

// checkReplay divides what r has decoded and decodes the parts again: together
// they are what was there, each is what it was handed over as.
func checkReplay(t testing.TB, r *Request, payload []byte, o wire.PartOptions) int {
	t.Helper()
	parts, err := r.Parts(payload, o)
	require.NoError(t, err)
	var all []string
	records := 0
	for _, p := range parts {
		require.Equal(t, o.Plain, p.Format == buffer.FormatOTLPLogs)
		require.Nil(t, p.Metrics)
		require.Nil(t, p.Spans)
		again := New()
		require.NoError(t, again.Decode(p.Format, p.Payload, wire.Limits{}))
		require.False(t, again.Rejects.Any(), "replay refused: %+v", again.Rejects.First)
		require.Equal(t, totals(p.Logs), totals(&again.Logs))
		require.Equal(t, []int64{p.MinTime, p.MaxTime}, []int64{again.Logs.MinTime / nanosPerMilli, again.Logs.MaxTime / nanosPerMilli})
		if o.MaxBytes > 0 {
			require.LessOrEqual(t, len(p.Payload), o.MaxBytes)
		}
		for i := range again.scopes {
			require.Equal(t, p.Partition, again.home(uint32(i), o.Partitions), "a stream has one partition for ever")
		}
		records += again.Logs.Len()
		read, err := unmarshal(again.body)
		if err == nil { // it does not take groups
			require.Equal(t, again.Logs.Len(), read.LogRecordCount())
			all = append(all, dump(t, read)...)
		} else {
			require.ErrorContains(t, err, "proto: ")
		}
	}
	require.Equal(t, r.Logs.Len(), records)
	if read, err := unmarshal(r.body); err == nil && !r.Rejects.Any() {
		want := dump(t, read)
		slices.Sort(want)
		slices.Sort(all)
		require.Equal(t, want, all)
	}
	return len(parts)
}

// random makes requests.
type random struct{ *rand.Rand }

func newRandom(seed uint64) *random { return &random{rand.New(rand.NewPCG(seed, 4))} }

func pick[T any](r *random, of ...T) T { return of[r.IntN(len(of))] }

func (r *random) logs() plog.Logs {
	ld := plog.NewLogs()
	for range r.IntN(5) {
		rl := ld.ResourceLogs().AppendEmpty()
		rl.SetSchemaUrl(pick(r, "", "https://opentelemetry.io/schemas/1.26.0"))
		rl.Resource().SetDroppedAttributesCount(r.Uint32N(2))
		r.attributes(rl.Resource().Attributes(), 6)
		for range r.IntN(4) {
			sl := rl.ScopeLogs().AppendEmpty()
			sl.SetSchemaUrl(pick(r, "", "https://example.com/schema"))
			sl.Scope().SetName(pick(r, "", "lib/http", "größe"))
			sl.Scope().SetVersion(pick(r, "", "v1.2"))
			r.attributes(sl.Scope().Attributes(), 3)
			for range r.IntN(8) {
				r.record(sl.LogRecords().AppendEmpty())
			}
		}
	}
	return ld
}

func (r *random) record(l plog.LogRecord) {
	l.SetTimestamp(pcommon.Timestamp(pick(r, nowNs-r.Uint64N(1e12), 0, nowNs, math.MaxUint64)))
	l.SetObservedTimestamp(pcommon.Timestamp(pick(r, 0, nowNs)))
	l.SetSeverityNumber(plog.SeverityNumber(pick[int32](r, int32(r.IntN(26)), -1, math.MaxInt32)))
	l.SetSeverityText(pick(r, "", "INFO", "größe"))
	r.value(l.Body(), 0)
	l.SetDroppedAttributesCount(r.Uint32N(3))
	l.SetFlags(plog.LogRecordFlags(r.Uint32N(3)))
	l.SetEventName(pick(r, "", "", "session.start"))
	if r.IntN(2) == 0 {
		l.SetTraceID([16]byte{1, 15: byte(r.IntN(6))})
		l.SetSpanID([8]byte{7: byte(r.IntN(256))})
	}
	r.attributes(l.Attributes(), 8)
}

func (r *random) attributes(m pcommon.Map, n int) {
	keys := []string{"http.request.method", "a", "", "größe", "service.name", "url.path", strings.Repeat("key", 60)}
	for range r.IntN(n + 1) {
		r.value(m.PutEmpty(keys[r.IntN(len(keys))]), 0)
	}
}

func (r *random) value(v pcommon.Value, depth int) {
	switch n := r.IntN(12); {
	case n < 5 || depth > 3:
		v.SetStr(pick(r, "", "GET", "/a/b?c=d&e", "<é>", strings.Repeat("ü", r.IntN(300))))
	case n == 5:
		v.SetBool(r.IntN(2) == 0)
	case n == 6:
		v.SetInt(r.Int64())
	case n == 7:
		v.SetDouble(pick(r, 0, -2.5, math.Inf(1)))
	case n == 8:
		v.SetEmptyBytes().FromRaw([]byte(strings.Repeat("\xff\x00", r.IntN(100))))
	case n == 9:
		s := v.SetEmptySlice()
		for range r.IntN(4) {
			r.value(s.AppendEmpty(), depth+1)
		}
	case n == 10:
		m := v.SetEmptyMap()
		for i := range r.IntN(4) {
			r.value(m.PutEmpty(fmt.Sprintf("k<%d", i)), depth+1)
		}
	}
}

// message is the content of a protobuf message that a test writes by hand.
type message []byte

func field2(num int, content message) message {
	out := message{}
	for v := uint64(num)<<3 | wire.Bytes; ; v >>= 7 {
		if v < 0x80 {
			out = append(out, byte(v))
			break
		}
		out = append(out, byte(v)|0x80)
	}
	n := len(content)
	for ; n >= 0x80; n >>= 7 {
		out = append(out, byte(n)|0x80)
	}
	return append(append(out, byte(n)), content...)
}

func join(parts ...message) (out message) {
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// requestOf is a request of one resource, one scope and the given records.
func requestOf(records ...message) message {
	var scope message
	for _, m := range records {
		scope = append(scope, field2(2, m)...)
	}
	return field2(1, field2(2, scope))
}

// body is a LogRecord's body of a text.
func body(text string) message { return field2(5, field2(1, message(text))) }

// nested is an AnyValue of arrays, so many levels deep.
func nested(depth int) message {
	v := field2(1, message("the bottom"))
	for range depth {
		v = field2(5, field2(1, v))
	}
	return v
}
