package spanbuild

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// TestPayload writes every field and reads it with OpenTelemetry's own code.
func TestPayload(t *testing.T) {
	var b Builder
	for range 2 { // the second time with the memory of the first
		b.Reset()
		g, isNew := b.Group([]byte("one"))
		require.True(t, isNew)
		g.Resource.StringAttr(FieldResourceAttr, []byte("service.name"), []byte("shop"))
		g.ScopeName, g.ScopeVersion = []byte("lib"), []byte("1")
		for i := range 3 {
			g, isNew := b.Group([]byte("one"))
			require.False(t, isNew)
			write(&g.Writer, uint64(i+1))
			require.NoError(t, b.Added(g))
		}
		g, _ = b.Group([]byte("two"))
		write(&g.Writer, 9)
		require.NoError(t, b.Added(g))
		b.Group([]byte("empty"))
		require.Equal(t, 4, b.Spans())

		td, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(b.Payload(nil))
		require.NoError(t, err)
		require.Equal(t, 2, td.ResourceSpans().Len())
		rs := td.ResourceSpans().At(0)
		require.Equal(t, map[string]any{"service.name": "shop"}, rs.Resource().Attributes().AsRaw())
		require.Equal(t, "lib", rs.ScopeSpans().At(0).Scope().Name())
		require.Equal(t, "1", rs.ScopeSpans().At(0).Scope().Version())
		require.Equal(t, 3, rs.ScopeSpans().At(0).Spans().Len())
		s := rs.ScopeSpans().At(0).Spans().At(2)
		require.Equal(t, "000000000000000a000000000000000b", s.TraceID().String())
		require.Equal(t, "0000000000000003", s.SpanID().String())
		require.Equal(t, "00000000000000ff", s.ParentSpanID().String())
		require.Equal(t, "a=b", s.TraceState().AsRaw())
		require.Equal(t, "name \uFFFD", s.Name())
		require.Equal(t, ptrace.SpanKindServer, s.Kind())
		require.EqualValues(t, 5, s.StartTimestamp())
		require.EqualValues(t, 7, s.EndTimestamp())
		require.EqualValues(t, 257, s.Flags())
		require.Equal(t, map[string]any{
			"s": strings.Repeat("x", 300), "empty": "", "i": int64(-1), "t": true, "f": false, "d": 1.5, "b": []byte{0xff}, "": "no name",
			"list": []any{"one", "", strings.Repeat("z", 200)},
		}, s.Attributes().AsRaw())
		require.Equal(t, map[string]any{"k": strings.Repeat("y", 20_000)}, s.Events().At(0).Attributes().AsRaw())
		require.Equal(t, "event", s.Events().At(0).Name())
		require.EqualValues(t, 6, s.Events().At(0).Timestamp())
		require.Equal(t, "000000000000000c000000000000000d", s.Links().At(0).TraceID().String())
		require.Equal(t, "bad", s.Status().Message())
		require.Equal(t, ptrace.StatusCodeError, s.Status().Code())
	}
}

func write(w *Writer, id uint64) {
	w.Open(FieldSpan)
	w.TraceID(FieldTraceID, 10, 11)
	w.ID(FieldSpanID, id)
	w.String(FieldTraceState, []byte("a=b"))
	w.ID(FieldParentID, 255)
	w.String(FieldName, []byte("name \xff"))
	w.Varint(FieldKind, KindServer)
	w.Fixed64(FieldStart, 5)
	w.Fixed64(FieldEnd, 7)
	w.StringAttr(FieldAttr, []byte("s"), []byte(strings.Repeat("x", 300)))
	w.StringAttr(FieldAttr, []byte("empty"), nil)
	w.StringAttr(FieldAttr, nil, []byte("no name"))
	w.IntAttr(FieldAttr, []byte("i"), -1)
	w.BoolAttr(FieldAttr, []byte("t"), true)
	w.BoolAttr(FieldAttr, []byte("f"), false)
	w.DoubleAttr(FieldAttr, []byte("d"), 1.5)
	w.BytesAttr(FieldAttr, []byte("b"), []byte{0xff})
	w.StringsAttr(FieldAttr, []byte("list"), [][]byte{[]byte("one"), nil, []byte(strings.Repeat("z", 200))})
	w.Open(FieldEvent)
	w.Fixed64(FieldEventTime, 6)
	w.String(FieldEventName, []byte("event"))
	w.StringAttr(FieldEventAttr, []byte("k"), []byte(strings.Repeat("y", 20_000)))
	w.Close()
	w.Open(FieldLink)
	w.TraceID(FieldLinkTraceID, 12, 13)
	w.ID(FieldLinkSpanID, 14)
	w.Close()
	w.Open(FieldStatus)
	w.String(FieldStatusMessage, []byte("bad"))
	w.Varint(FieldStatusCode, StatusError)
	w.Close()
	w.Fixed32(FieldFlags, 257)
	w.Close()
}

func TestReserve(t *testing.T) {
	full := errors.New("full")
	asked := 0
	b := Builder{Reserve: func(n int) error {
		if asked += n; asked > 1<<20 {
			return full
		}
		return nil
	}}
	require.NoError(t, b.Expect(1000))
	require.Equal(t, 1000, asked)
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		g, _ := b.Group([]byte("one"))
		write(&g.Writer, 1)
		err = b.Added(g)
	}
	require.ErrorIs(t, err, full)
	require.Less(t, n*40_000, 2<<20)
}
