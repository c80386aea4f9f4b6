package otlptraces

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/otlpspans"
	"github.com/vedette-io/vedette/internal/signal"
)

// What the Collector reads in random requests is what Decode reads, written anew it
// is still the same, and it survives the way through the buffer.
func TestRandomRequests(t *testing.T) {
	r := New()
	for seed := range uint64(300) {
		td := newRandom(seed).traces()
		body := marshal(t, td)
		want := dumpTraces(td)
		require.NoError(t, r.Decode(buffer.FormatOTLPTraces, body, wire.Limits{}))
		require.False(t, r.Rejects.Any())
		require.Equal(t, want, dump(&r.Spans), "seed %d", seed)

		again, err := unmarshal(otlpspans.AppendRequest(nil, &r.Spans))
		require.NoError(t, err)
		require.Equal(t, want, dumpTraces(again))

		checkReplay(t, r, body, wire.PartOptions{Partitions: 1, Plain: seed%2 == 0})
		checkReplay(t, r, body, wire.PartOptions{Partitions: 5, Plain: seed%2 == 0})
		checkReplay(t, r, body, wire.PartOptions{Partitions: 2, Plain: seed%2 == 0, MaxBytes: 1500})

		require.NoError(t, r.Decode(buffer.FormatOTLPTraces, asSDK(t, body), wire.Limits{}))
		require.Equal(t, want, dump(&r.Spans), "seed %d", seed)
		require.NoError(t, r.Decode(buffer.FormatOTLPTracesSnappy, s2.EncodeSnappy(nil, body), wire.Limits{}))
		require.Equal(t, want, dump(&r.Spans), "seed %d", seed)
	}
}

// Random requests under narrow limits: what is left survives the buffer, and a
// second decode with the same limits finds nothing more to cut.
func TestRandomCuts(t *testing.T) {
	for seed := range uint64(300) {
		td := newRandom(seed).traces()
		body := marshal(t, td)
		rnd := newRandom(seed + 1000)
		limits := wire.Limits{
			MaxTime: now, MaxAttrs: 1 + rnd.IntN(8), MaxEvents: 1 + rnd.IntN(3), MaxLinks: 1 + rnd.IntN(2),
			MaxAttrBytes: 10 + rnd.IntN(200), MaxSpanBytes: pick(rnd, 0, 400, 1000),
		}
		r := decode(t, body, limits)
		require.Equal(t, td.SpanCount(), r.Spans.Len())
		first := dump(&r.Spans)
		out := otlpspans.AppendRequest(nil, &r.Spans)
		checkReplay(t, r, body, wire.PartOptions{Partitions: 1 + rnd.IntN(3), Plain: true, MaxBytes: pick(rnd, 0, 1200)})
		if limits.MaxSpanBytes == 0 {
			second := decode(t, out, limits)
			require.Equal(t, first, dump(&second.Spans), "seed %d", seed)
			require.Zero(t, second.Cut+second.Skewed)
		}
	}
}

func TestPassThrough(t *testing.T) {
	td := ptrace.NewTraces()
	ss := td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty()
	for range 5 {
		newRandom(1).span(ss.Spans().AppendEmpty())
	}
	body := marshal(t, td)
	for _, n := range []int{1, 7} { // all of one trace
		r := decode(t, body, wire.Limits{MaxAttrs: 100})
		parts, err := r.Parts(body, wire.PartOptions{Partitions: n, Plain: true, MaxBytes: len(body)})
		require.NoError(t, err)
		require.Len(t, parts, 1)
		require.Same(t, &body[0], &parts[0].Payload[0])
		require.Equal(t, PartitionOf(r.Spans.TraceIDs[0], n), parts[0].Partition)
		require.Equal(t, []int64{parts[0].MinTime, parts[0].MaxTime}, []int64{r.Spans.Starts[0] / 1e6, r.Spans.Starts[0] / 1e6})
	}
}

// Whatever order and pieces protobuf allows is read as the Collector reads it.
func TestOddMessages(t *testing.T) {
	scope := join(
		bytesField(2, oddMessage()), bytesField(3, "schema"), bytesField(1, bytesField(1, "lib")), bytesField(2, oddMessage()),
		bytesField(1, join(bytesField(2, "v1"), bytesField(3, attrOf("of", "scope")))), bytesField(77, "unknown"), bytesField(1, join(bytesField(3, attrOf("more", "scope")))),
	)
	old := bytesField(1000, scope)
	resource := join(bytesField(1, bytesField(1, attrOf("service.name", "shop"))), bytesField(55, "unknown"), bytesField(1, join(varintField(2, 3), bytesField(1, attrOf("b", "c")))))
	entities := bytesField(1, bytesField(3, join(bytesField(1, "url"), bytesField(3, "key"))))
	for name, body := range map[string]message{
		"resource last":         bytesField(1, join(bytesField(2, scope), bytesField(3, "url"), resource, bytesField(2, scope))),
		"deprecated":            bytesField(1, join(old, resource, old)),
		"deprecated and new":    bytesField(1, join(old, resource, bytesField(2, scope), old)),
		"deprecated, new empty": bytesField(1, join(old, resource, bytesField(2, ""))),
		"empty":                 nil,
		"nothing in it":         join(bytesField(1, ""), bytesField(1, resource), bytesField(1, bytesField(2, ""))),
		"unknown at the top":    join(varintField(9, 9), requestOf(oddMessage())),
		"entities":              bytesField(1, join(entities, bytesField(2, scope))),
	} {
		t.Run(name, func(t *testing.T) {
			td, err := unmarshal(body)
			require.NoError(t, err)
			r := decode(t, body, wire.Limits{})
			require.False(t, r.Rejects.Any())
			require.Equal(t, dumpTraces(td), dump(&r.Spans))
			require.Equal(t, len(r.Spans.Scopes), len(r.scopes))
			n := checkReplay(t, r, body, wire.PartOptions{Partitions: 1, Plain: true, MaxBytes: 900})
			require.Equal(t, td.SpanCount() == 0, n == 0)
			parts, err := r.Parts(body, wire.PartOptions{Partitions: 1, Plain: true, MaxBytes: 600})
			require.NoError(t, err)
			for _, p := range parts { // what we do not know is kept where nothing was cut
				if len(p.Payload) > 0 && len(body) > 300 && name == "resource last" && r.Cut == 0 {
					require.Equal(t, 3, strings.Count(string(p.Payload), "unknown"))
				}
			}
		})
	}
}

func TestGroupsArePassedOver(t *testing.T) {
	body := requestOf(join(groupField(50, join(varintField(1, 2), groupField(3, bytesField(4, "x")))), spanOf()))
	r := decode(t, body, wire.Limits{})
	require.Equal(t, 1, r.Spans.Len())
	checkReplay(t, r, body, wire.PartOptions{Partitions: 1})
}

func TestRefusedSpans(t *testing.T) {
	good := spanOf()
	zero := strings.Repeat("\x00", 16)
	for name, tc := range map[string]struct {
		span   message
		reason wire.Reason
		detail string
	}{
		"no trace id":           {bytesField(2, someSpan), wire.ReasonInvalidTraceID, `span "": trace id is missing or zero`},
		"zero trace id":         {spanOf(bytesField(1, zero)), wire.ReasonInvalidTraceID, `span "a span": trace id is missing or zero`},
		"short trace id":        {spanOf(bytesField(1, "short")), wire.ReasonInvalidTraceID, `span "a span": trace id has 5 bytes, want 16`},
		"no span id":            {bytesField(1, someTrace), wire.ReasonInvalidSpanID, `span "": span id is missing or zero`},
		"zero span id":          {spanOf(bytesField(2, zero[:8])), wire.ReasonInvalidSpanID, `span "a span": span id is missing or zero`},
		"long span id":          {spanOf(bytesField(2, someTrace)), wire.ReasonInvalidSpanID, `span "a span": span id has 16 bytes, want 8`},
		"long parent":           {spanOf(bytesField(4, someTrace)), wire.ReasonInvalidSpanID, `span "a span": parent's span id has 16 bytes, want 8`},
		"link":                  {spanOf(bytesField(13, bytesField(1, "x"))), wire.ReasonInvalidTraceID, `span "a span": trace id of a link has 1 bytes, want 16`},
		"name":                  {spanOf(bytesField(5, "a\xff")), wire.ReasonInvalidUTF8, `span "a\xff": name is not valid UTF-8`},
		"name, then a good one": {spanOf(bytesField(5, "a\xff"), bytesField(5, "b")), wire.ReasonInvalidUTF8, `span "b": name is not valid UTF-8`},
		"key":                   {spanOf(bytesField(9, attrOf("\xff", "v"))), wire.ReasonInvalidUTF8, `span "a span": key of an attribute is not valid UTF-8`},
		"value":                 {spanOf(bytesField(9, attrOf("k", "\xff"))), wire.ReasonInvalidUTF8, `span "a span": value of an attribute is not valid UTF-8`},
		"long value":            {spanOf(bytesField(9, attrOf("k", strings.Repeat("x", 200)+"\xff"))), wire.ReasonInvalidUTF8, `span "a span": value of an attribute is not valid UTF-8`},
		"value in a list":       {spanOf(bytesField(9, bytesField(2, bytesField(5, bytesField(1, bytesField(1, "\xff")))))), wire.ReasonInvalidUTF8, `span "a span": value of an attribute is not valid UTF-8`},
		"status":                {spanOf(bytesField(15, bytesField(2, "\xff"))), wire.ReasonInvalidUTF8, `span "a span": status message is not valid UTF-8`},
		"event":                 {spanOf(bytesField(11, bytesField(2, "\xff"))), wire.ReasonInvalidUTF8, `span "a span": name of an event is not valid UTF-8`},
		"deep":                  {spanOf(bytesField(9, bytesField(2, nested(65)))), wire.ReasonInvalidSpan, `span "a span": value of an attribute is nested too deep`},
	} {
		t.Run(name, func(t *testing.T) {
			body := requestOf(good, tc.span, good)
			r := decode(t, body, wire.Limits{})
			require.Equal(t, 2, r.Spans.Len())
			require.Equal(t, 1, r.Rejects.Spans)
			require.Equal(t, 1, r.Rejects.ByReason[tc.reason])
			require.Equal(t, tc.detail, r.Rejects.First.Error())
			checkReplay(t, r, body, wire.PartOptions{Partitions: 1, Plain: true})
		})
	}
	r := decode(t, requestOf(spanOf(bytesField(9, bytesField(2, nested(64))))), wire.Limits{})
	require.Equal(t, 1, r.Spans.Len())
}

// What is wrong with a resource or a scope is wrong with its spans, and with no
// others.
func TestRefusedEnvelopes(t *testing.T) {
	bad := bytesField(1, bytesField(1, attrOf("k", "\xff")))
	spans := join(bytesField(2, spanOf()), bytesField(2, spanOf()))
	badScope := bytesField(1, bytesField(1, "\xff"))
	body := join(
		bytesField(1, join(bytesField(2, spans), bad)),
		bytesField(1, join(bytesField(2, join(badScope, spans)), bytesField(2, spans))),
	)
	r := decode(t, body, wire.Limits{})
	require.Equal(t, 2, r.Spans.Len())
	require.Equal(t, 4, r.Rejects.ByReason[wire.ReasonInvalidUTF8])
	require.Equal(t, `span "a span": value of an attribute is not valid UTF-8`, r.Rejects.First.Error())
	require.Len(t, r.Spans.Resources, 1)
	require.Len(t, r.Spans.Scopes, 1)
	checkReplay(t, r, body, wire.PartOptions{Partitions: 1, Plain: true})
}

func TestSyntaxErrors(t *testing.T) {
	cut := func(m message) message { return m[:len(m)-1] }
	for name, body := range map[string]message{
		"cut short":           cut(requestOf(spanOf())),
		"span cut short":      requestOf(cut(spanOf())),
		"varint cut short":    requestOf(spanOf(message{6 << 3, 0x80})),
		"varint too long":     requestOf(spanOf(message{6 << 3}, bytes.Repeat(message{0x80}, 10), message{1})),
		"field 0":             requestOf(spanOf(message{2, 0})),
		"wire type 7":         requestOf(spanOf(message{99<<3&0x7f | 0x80 | 7, 6})),
		"end of no group":     requestOf(spanOf(message{7<<3 | 4})),
		"group without end":   requestOf(spanOf(message{0x80 | 1<<3 | 3, 1})),
		"trace id as varint":  requestOf(spanOf(varintField(1, 1))),
		"flags as varint":     requestOf(spanOf(varintField(16, 1))),
		"event as varint":     requestOf(spanOf(varintField(11, 1))),
		"in an event":         requestOf(spanOf(bytesField(11, varintField(2, 1)))),
		"in a link":           requestOf(spanOf(bytesField(13, varintField(3, 1)))),
		"in a status":         requestOf(spanOf(bytesField(15, varintField(2, 1)))),
		"in an attribute":     requestOf(spanOf(bytesField(9, varintField(1, 1)))),
		"in a value":          requestOf(spanOf(bytesField(9, bytesField(2, varintField(1, 1))))),
		"in an array":         requestOf(spanOf(bytesField(9, bytesField(2, bytesField(5, varintField(1, 1)))))),
		"in a map":            requestOf(spanOf(bytesField(9, bytesField(2, bytesField(6, bytesField(1, varintField(2, 1))))))),
		"in a resource":       bytesField(1, bytesField(1, varintField(1, 1))),
		"in an entity":        bytesField(1, bytesField(1, bytesField(3, varintField(1, 1)))),
		"in a scope":          bytesField(1, bytesField(2, bytesField(1, varintField(1, 1)))),
		"resource as varint":  bytesField(1, varintField(1, 1)),
		"old spans as varint": bytesField(1, varintField(1000, 1)),
		"spans as varint":     bytesField(1, bytesField(2, varintField(2, 1))),
		"top":                 varintField(1, 1),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := unmarshal(body)
			require.Error(t, err)
			var syntax *wire.SyntaxError
			require.ErrorAs(t, New().Decode(buffer.FormatOTLPTraces, body, wire.Limits{}), &syntax)
			require.Equal(t, "opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest", syntax.Message)
			require.LessOrEqual(t, syntax.Offset, len(body))
		})
	}
}

func TestSizesAndMemory(t *testing.T) {
	body := marshal(t, benchTraces(100))
	packed := s2.EncodeSnappy(nil, body)
	var size *wire.SizeError
	limits := wire.Limits{MaxDecodedBytes: len(body) - 1}
	require.ErrorAs(t, New().Decode(buffer.FormatOTLPTraces, body, limits), &size)
	require.ErrorAs(t, New().Decode(buffer.FormatOTLPTracesSnappy, packed, limits), &size)
	require.Error(t, New().Decode(buffer.FormatOTLP, body, wire.Limits{}))

	full := errors.New("full")
	for _, room := range []int{0, 64 << 10} {
		left := room
		err := New().Decode(buffer.FormatOTLPTraces, body, wire.Limits{Reserve: func(n int) error {
			if left -= n; left < 0 {
				return full
			}
			return nil
		}})
		require.ErrorIs(t, err, full, "%d bytes", room)
	}

	r := decode(t, marshal(t, benchTraces(30_000)), wire.Limits{})
	require.Greater(t, r.capBytes(), keepBytes)
	r.Reset()
	require.Zero(t, r.capBytes())
	var f wire.Formats
	Register(&f)
	for _, format := range []buffer.Format{buffer.FormatOTLPTraces, buffer.FormatOTLPTracesSnappy} {
		d, err := f.Decoders().For(format)
		require.NoError(t, err)
		require.IsType(t, r, d)
	}
}

// The batch does not lie in the payload.
func TestPayloadIsCopied(t *testing.T) {
	body := marshal(t, benchTraces(10))
	r := decode(t, body, wire.Limits{})
	want := dump(&r.Spans)
	clear(body)
	require.Equal(t, want, dump(&r.Spans))
}

func TestPartitionsAreEven(t *testing.T) {
	const n, traces = 8, 80_000
	for name, id := range map[string]func(i uint64) signal.TraceID{
		"counting": func(i uint64) (id signal.TraceID) { binary.BigEndian.PutUint64(id[8:], i); return id },
		"64 bits": func(i uint64) (id signal.TraceID) {
			binary.BigEndian.PutUint64(id[8:], i*0x2545f4914f6cdd1d)
			return id
		},
		"only the high": func(i uint64) (id signal.TraceID) { binary.BigEndian.PutUint64(id[:8], i); return id },
		"high bits":     func(i uint64) (id signal.TraceID) { binary.BigEndian.PutUint64(id[8:], i<<40); return id },
	} {
		var counts [n]int
		for i := range uint64(traces) {
			counts[PartitionOf(id(i), n)]++
		}
		for k, c := range counts {
			require.InDelta(t, traces/n, c, traces/n/5, "%s: partition %d of %v", name, k, counts)
		}
	}
	require.Equal(t, 0, PartitionOf(signal.TraceID{1}, 1))
	// Producers and consumers of other versions rely on it.
	got := []int{}
	for i := range byte(8) {
		got = append(got, PartitionOf(signal.TraceID{0: i, 15: i * 3}, 100))
	}
	require.Equal(t, []int{0, 70, 40, 11, 81, 51, 22, 92}, got)
}
