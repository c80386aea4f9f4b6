package otlplogs

import (
	"fmt"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/signal"
)

// Random requests are read as the Collector reads them, and survive the buffer.
func TestRandom(t *testing.T) {
	r := New()
	for seed := range uint64(300) {
		ld := newRandom(seed).logs()
		payload := marshal(t, ld)
		format := buffer.FormatOTLPLogs
		if seed%2 == 0 {
			format, payload = buffer.FormatOTLPLogsSnappy, s2.EncodeSnappy(nil, payload)
		}
		require.NoError(t, r.Decode(format, payload, wire.Limits{}))
		require.False(t, r.Rejects.Any())
		require.Equal(t, ld.LogRecordCount(), r.Logs.Len())
		want := [signal.NumSeverityClasses]int{}
		var oldest, newest uint64
		for _, rl := range ld.ResourceLogs().All() {
			for _, sl := range rl.ScopeLogs().All() {
				for _, lr := range sl.LogRecords().All() {
					class := signal.SeverityUnset
					if n := lr.SeverityNumber(); n >= 1 && n <= 24 {
						class = signal.SeverityClass((n-1)/4 + 1)
					}
					want[class]++
					at := uint64(lr.Timestamp())
					if at == 0 {
						at = uint64(lr.ObservedTimestamp())
					}
					if at > 0 && at < 1<<63 {
						newest = max(newest, at)
						if oldest == 0 || at < oldest {
							oldest = at
						}
					}
				}
			}
		}
		var got [signal.NumSeverityClasses]int
		for _, s := range r.Logs.Services {
			for k, n := range s.BySeverity {
				got[k] += n
			}
		}
		require.Equal(t, want, got)
		require.Equal(t, []int64{int64(oldest), int64(newest)}, []int64{r.Logs.MinTime, r.Logs.MaxTime})
		checkReplay(t, r, payload, wire.PartOptions{Partitions: int(seed % 5), Plain: seed%3 == 0})
		checkReplay(t, r, payload, wire.PartOptions{Partitions: int(seed % 5), Plain: seed%3 > 0, MaxBytes: 5000})
	}
}

// Services are told by their resources.
func TestServices(t *testing.T) {
	ld := plog.NewLogs()
	for i, name := range []string{"shop", "", "cart", "shop"} {
		rl := ld.ResourceLogs().AppendEmpty()
		rl.Resource().Attributes().PutStr("a", "b")
		if name != "" {
			rl.Resource().Attributes().PutStr("service.name", name)
		}
		records := rl.ScopeLogs().AppendEmpty().LogRecords()
		for range i {
			records.AppendEmpty().SetSeverityNumber(plog.SeverityNumberWarn2)
		}
	}
	r := decode(t, marshal(t, ld), wire.Limits{})
	var got []string
	for i := range r.Logs.Services {
		s := &r.Logs.Services[i]
		require.Equal(t, s.Records(), s.BySeverity[signal.SeverityWarn])
		got = append(got, fmt.Sprintf("%s %d %d", r.Logs.NameOf(s), s.Records(), s.Bytes))
	}
	require.Equal(t, []string{" 1 8", "cart 2 16", "shop 3 24"}, got, "without the resource that has no records")
}

// What is wrong with one record refuses that one; what is wrong with the resource
// or scope, theirs.
func TestRefused(t *testing.T) {
	good := body("good")
	bad := message("\xff")
	scoped := func(resource, scope message, records ...message) message {
		for _, m := range records {
			scope = append(scope, field2(2, m)...)
		}
		return field2(1, append(resource, field2(2, scope)...))
	}
	for _, tc := range []struct {
		name    string
		request message
		kept    int
		reason  wire.Reason
		text    string
	}{
		{"body", requestOf(good, body("\xff"), good), 2, wire.ReasonInvalidUTF8, "log record 2 of the request: body is not valid UTF-8"},
		{"attribute", requestOf(field2(6, join(field2(1, message("a")), field2(2, field2(1, bad)))), good), 1, wire.ReasonInvalidUTF8, "value of an attribute"},
		{"attribute's key", requestOf(good, field2(6, field2(1, bad))), 1, wire.ReasonInvalidUTF8, "key of an attribute"},
		{"severity", requestOf(good, field2(3, bad)), 1, wire.ReasonInvalidUTF8, "severity text"},
		{"event", requestOf(good, field2(12, bad)), 1, wire.ReasonInvalidUTF8, "event name"},
		{"trace id", requestOf(field2(9, message("short")), good), 1, wire.ReasonInvalidTraceID, "trace id has 5 bytes, want 16 or none"},
		{"span id", requestOf(good, field2(10, message("too long too long"))), 1, wire.ReasonInvalidSpanID, "span id has 17 bytes, want 8 or none"},
		{"depth", requestOf(good, field2(5, nested(65))), 1, wire.ReasonInvalidRecord, "body is nested too deep"},
		{"large", requestOf(good, body(strings.Repeat("x", 1000))), 1, wire.ReasonRecordTooLarge, "want <= 500"},
		{"resource", join(scoped(field2(1, field2(1, field2(1, bad))), nil, good, good), requestOf(good)), 1, wire.ReasonInvalidUTF8, "log record 1 of the request: key of an attribute"},
		{"large resource", join(scoped(field2(3, message(strings.Repeat("s", 500))), nil, good), requestOf(good)), 1, wire.ReasonRecordTooLarge, "with its resource and scope"},
		{"scope", join(scoped(nil, field2(1, field2(1, bad)), good), requestOf(good)), 1, wire.ReasonInvalidUTF8, "name of a scope"},
		{"schema", join(scoped(field2(3, bad), nil, good), requestOf(good)), 1, wire.ReasonInvalidUTF8, "schema URL of a resource"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := decode(t, tc.request, wire.Limits{MaxLogBytes: 500})
			require.Equal(t, tc.kept, r.Logs.Len())
			require.Positive(t, r.Rejects.Records)
			require.Equal(t, r.Rejects.Records, r.Rejects.ByReason[tc.reason])
			require.ErrorContains(t, r.Rejects.First, tc.text)
			checkReplay(t, r, tc.request, wire.PartOptions{Partitions: 3})
			parts, err := r.Parts(tc.request, wire.PartOptions{Plain: true})
			require.NoError(t, err)
			require.Len(t, parts, 1)
			read, err := unmarshal(parts[0].Payload)
			require.NoError(t, err)
			require.Equal(t, tc.kept, read.LogRecordCount())
			require.NotContains(t, string(parts[0].Payload), "\xff")
		})
	}
	r := decode(t, requestOf(field2(5, nested(64)), join(field2(9, nil), field2(10, nil))), wire.Limits{})
	require.False(t, r.Rejects.Any())
	require.Equal(t, 2, r.Logs.Len())
}

// What is no message refuses the request and says where.
func TestMalformed(t *testing.T) {
	for _, tc := range []struct {
		name string
		body message
		text string
	}{
		{"tag", message{0}, "byte 0: request: no valid field tag"},
		{"wire type", message{1 << 3, 1}, "byte 0: request: field 1 has wire type 0"},
		{"cut", requestOf(body("text"))[:6], "byte 0: request: field 1 is cut short"},
		{"cut record", field2(1, field2(2, field2(2, message{5<<3 | wire.Bytes, 9}))), "log record: field 5 is cut short"},
		{"time", requestOf(message{1 << 3, 1}), "log record: field 1 has wire type 0"},
		{"value", requestOf(field2(5, message{1 << 3, 1})), "value: field 1 has wire type 0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, theirs := unmarshal(tc.body)
			require.Error(t, theirs)
			err := New().Decode(buffer.FormatOTLPLogs, tc.body, wire.Limits{})
			require.ErrorContains(t, err, "decode opentelemetry.proto.collector.logs.v1.ExportLogsServiceRequest: ")
			require.ErrorContains(t, err, tc.text)
		})
	}
	require.ErrorContains(t, New().Decode(buffer.FormatOTLPLogs, make([]byte, 11), wire.Limits{MaxDecodedBytes: 10}), "want <= 10")
	require.ErrorContains(t, New().Decode(buffer.FormatOTLPLogsSnappy, s2.EncodeSnappy(nil, make([]byte, 11)), wire.Limits{MaxDecodedBytes: 10}), "want <= 10")
	require.ErrorContains(t, New().Decode(buffer.FormatOTLP, nil, wire.Limits{}), "unknown format")
}

// The records of a resource and scope stay together and in order, whichever
// request they come in.
func TestStreams(t *testing.T) {
	request := func(from int, resources ...string) []byte {
		ld := plog.NewLogs()
		for i, name := range resources {
			rl := ld.ResourceLogs().AppendEmpty()
			rl.Resource().Attributes().PutStr("host.name", name)
			lr := rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
			lr.Body().SetStr(name)
			lr.SetTimestamp(pcommon.Timestamp(from + i))
		}
		return marshal(t, ld)
	}
	const partitions = 8
	at := map[string]int{}
	used := map[int]bool{}
	for n := range 50 {
		name := fmt.Sprintf("host-%d", n)
		b := request(1, name)
		parts, err := decode(t, b, wire.Limits{}).Parts(b, wire.PartOptions{Partitions: partitions, Plain: true})
		require.NoError(t, err)
		require.Len(t, parts, 1)
		require.Equal(t, b, parts[0].Payload)
		at[name] = parts[0].Partition
		used[parts[0].Partition] = true
	}
	require.Greater(t, len(used), partitions/2)
	b := request(100, "host-1", "host-2", "host-3", "host-1", "host-4")
	parts, err := decode(t, b, wire.Limits{}).Parts(b, wire.PartOptions{Partitions: partitions, Plain: true})
	require.NoError(t, err)
	order := map[string][]pcommon.Timestamp{}
	for _, p := range parts {
		read, err := unmarshal(p.Payload)
		require.NoError(t, err)
		for _, rl := range read.ResourceLogs().All() {
			lr := rl.ScopeLogs().At(0).LogRecords().At(0)
			require.Equal(t, at[lr.Body().Str()], p.Partition)
			order[lr.Body().Str()] = append(order[lr.Body().Str()], lr.Timestamp())
		}
	}
	require.Len(t, order, 4)
	require.Equal(t, []pcommon.Timestamp{100, 103}, order["host-1"])
}
