package otlptraces

import (
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/otlpspans"
	"github.com/vedette-io/vedette/internal/signal"
)

const (
	now   = int64(1_700_000_000_000) // milliseconds
	nowNs = uint64(now) * 1_000_000
)

func marshal(t testing.TB, td ptrace.Traces) []byte {
	t.Helper()
	b, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(td)
	require.NoError(t, err)
	return b
}

// unmarshal reads a request as the Collector's receiver does.
func unmarshal(body []byte) (ptrace.Traces, error) {
	req := ptraceotlp.NewExportRequest()
	err := req.UnmarshalProto(body)
	return req.Traces(), err
}

func decode(t testing.TB, body []byte, limits wire.Limits) *Request {
	t.Helper()
	r := New()
	require.NoError(t, r.Decode(buffer.FormatOTLPTraces, body, limits))
	return r
}

// valueText writes a value with its type, bit by bit.
func valueText(v otlpspans.Value) string {
	switch v.Type {
	case signal.AttrEmpty:
		return "empty"
	case signal.AttrString:
		return fmt.Sprintf("string %q", v.Bytes)
	case signal.AttrBytes:
		return "bytes " + hex.EncodeToString(v.Bytes)
	case signal.AttrArray:
		out := "array"
		for e := range otlpspans.Elements(v.Bytes) {
			out += " [" + valueText(e) + "]"
		}
		return out
	case signal.AttrMap:
		out := "map"
		for k, e := range otlpspans.Entries(v.Bytes) {
			out += fmt.Sprintf(" [%q: %s]", k, valueText(e))
		}
		return out
	}
	return fmt.Sprintf("%d %x", v.Type, v.Num)
}

func pdataText(v pcommon.Value) string {
	switch v.Type() {
	case pcommon.ValueTypeStr:
		return fmt.Sprintf("string %q", v.Str())
	case pcommon.ValueTypeBytes:
		return "bytes " + hex.EncodeToString(v.Bytes().AsRaw())
	case pcommon.ValueTypeSlice:
		out := "array"
		for _, e := range v.Slice().All() {
			out += " [" + pdataText(e) + "]"
		}
		return out
	case pcommon.ValueTypeMap:
		out := "map"
		for k, e := range v.Map().All() {
			out += fmt.Sprintf(" [%q: %s]", k, pdataText(e))
		}
		return out
	case pcommon.ValueTypeBool:
		n := 0
		if v.Bool() {
			n = 1
		}
		return fmt.Sprintf("%d %x", signal.AttrBool, n)
	case pcommon.ValueTypeInt:
		return fmt.Sprintf("%d %x", signal.AttrInt, uint64(v.Int()))
	case pcommon.ValueTypeDouble:
		return fmt.Sprintf("%d %x", signal.AttrDouble, math.Float64bits(v.Double()))
	}
	return "empty"
}

func attrsText(s *signal.Spans, begin, end, dropped uint32) string {
	out := "{"
	for _, a := range s.Attrs[begin:end] {
		out += fmt.Sprintf("%q: %s, ", s.Bytes(a.Key), valueText(otlpspans.ValueOf(s, a)))
	}
	return out + fmt.Sprintf("-%d}", dropped)
}

func mapText(m pcommon.Map, dropped uint32) string {
	out := "{"
	for k, v := range m.All() {
		out += fmt.Sprintf("%q: %s, ", k, pdataText(v))
	}
	return out + fmt.Sprintf("-%d}", dropped)
}

// dump lists the spans of a batch with everything that OTLP says of them.
func dump(s *signal.Spans) []string {
	var out []string
	for i := range s.SpanIDs {
		c := &s.Scopes[s.Scope[i]]
		res := &s.Resources[c.Resource]
		t := fmt.Sprintf("resource %s %q scope %q %q %s %q", attrsText(s, res.AttrBegin, res.AttrEnd, res.DroppedAttrs), s.Bytes(res.SchemaURL),
			s.Bytes(c.Name), s.Bytes(c.Version), attrsText(s, c.AttrBegin, c.AttrEnd, c.DroppedAttrs), s.Bytes(c.SchemaURL))
		t += fmt.Sprintf(" span %x %x %x %q kind %d %d-%d %q flags %d status %d %q %s", s.TraceIDs[i], s.SpanIDs[i], s.Parents[i], s.Bytes(s.Names[i]), s.Kinds[i],
			uint64(s.Starts[i]), uint64(s.Ends[i]), s.Bytes(s.States[i]), s.Flags[i], s.Statuses[i], s.Bytes(s.Messages[i]),
			attrsText(s, s.AttrBegin[i], s.AttrEnd[i], s.DroppedAttrs[i]))
		for _, e := range s.Events[s.EventBegin[i]:s.EventEnd[i]] {
			t += fmt.Sprintf(" event %d %q %s", uint64(e.Time), s.Bytes(e.Name), attrsText(s, e.AttrBegin, e.AttrEnd, e.DroppedAttrs))
		}
		for _, l := range s.Links[s.LinkBegin[i]:s.LinkEnd[i]] {
			t += fmt.Sprintf(" link %x %x %q %d %s", l.TraceID, l.SpanID, s.Bytes(l.State), l.Flags, attrsText(s, l.AttrBegin, l.AttrEnd, l.DroppedAttrs))
		}
		out = append(out, t+fmt.Sprintf(" -%d -%d", s.DroppedEvents[i], s.DroppedLinks[i]))
	}
	return out
}

// dumpTraces lists the Collector's spans in the same form.
func dumpTraces(td ptrace.Traces) []string {
	var out []string
	for _, rs := range td.ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			head := fmt.Sprintf("resource %s %q scope %q %q %s %q", mapText(rs.Resource().Attributes(), rs.Resource().DroppedAttributesCount()), rs.SchemaUrl(),
				ss.Scope().Name(), ss.Scope().Version(), mapText(ss.Scope().Attributes(), ss.Scope().DroppedAttributesCount()), ss.SchemaUrl())
			for _, sp := range ss.Spans().All() {
				t := head + fmt.Sprintf(" span %x %x %x %q kind %d %d-%d %q flags %d status %d %q %s", [16]byte(sp.TraceID()), [8]byte(sp.SpanID()), [8]byte(sp.ParentSpanID()), sp.Name(), enum(uint64(sp.Kind())),
					sp.StartTimestamp(), sp.EndTimestamp(), sp.TraceState().AsRaw(), sp.Flags(), enum(uint64(sp.Status().Code())), sp.Status().Message(),
					mapText(sp.Attributes(), sp.DroppedAttributesCount()))
				for _, e := range sp.Events().All() {
					t += fmt.Sprintf(" event %d %q %s", e.Timestamp(), e.Name(), mapText(e.Attributes(), e.DroppedAttributesCount()))
				}
				for _, l := range sp.Links().All() {
					t += fmt.Sprintf(" link %x %x %q %d %s", [16]byte(l.TraceID()), [8]byte(l.SpanID()), l.TraceState().AsRaw(), l.Flags(), mapText(l.Attributes(), l.DroppedAttributesCount()))
				}
				out = append(out, t+fmt.Sprintf(" -%d -%d", sp.DroppedEventsCount(), sp.DroppedLinksCount()))
			}
		}
	}
	return out
}

// checkReplay verifies that the parts of a decoded request decode, without limits,
// to exactly what they hold and together to what was decoded, and that others can
// read them. It returns how many there are.
func checkReplay(t testing.TB, r *Request, payload []byte, o wire.PartOptions) int {
	t.Helper()
	parts, err := r.Parts(payload, o)
	require.NoError(t, err)
	want := dump(&r.Spans) // Parts may have cut
	var all []string
	for _, p := range parts {
		require.Equal(t, o.Plain, p.Format == buffer.FormatOTLPTraces)
		require.Nil(t, p.Metrics)
		again := New()
		require.NoError(t, again.Decode(p.Format, p.Payload, wire.Limits{}))
		require.False(t, again.Rejects.Any(), "replay refused: %+v", again.Rejects.First)
		require.Zero(t, again.Cut+again.Skewed+again.NotKept)
		got := dump(p.Spans)
		require.Equal(t, got, dump(&again.Spans))
		all = append(all, got...)
		oldest, newest := TimeRange(&again.Spans)
		require.Equal(t, []int64{oldest, newest}, []int64{p.MinTime, p.MaxTime})
		if o.MaxBytes > 0 {
			require.LessOrEqual(t, len(p.Payload), o.MaxBytes)
		}
		for i, id := range p.Spans.TraceIDs {
			require.Equal(t, p.Partition, PartitionOf(id, max(o.Partitions, 1)))
			if i > 0 {
				require.GreaterOrEqual(t, p.Spans.Scope[i], p.Spans.Scope[i-1])
			}
		}
		others, err := unmarshal(again.Spans.Buf[:again.body])
		if err == nil { // it does not take groups
			require.Equal(t, got, dumpTraces(others))
		} else {
			require.ErrorContains(t, err, "proto: ")
		}
	}
	slices.Sort(want)
	slices.Sort(all)
	require.Equal(t, want, all)
	return len(parts)
}
