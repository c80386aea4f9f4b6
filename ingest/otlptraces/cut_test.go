package otlptraces

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/otlpspans"
	"github.com/vedette-io/vedette/internal/signal"
)

// attrsOf lists the attributes of a span as text.
func attrsOf(s *signal.Spans, i int) (out []string) {
	for _, a := range s.SpanAttrs(i) {
		out = append(out, string(s.Bytes(a.Key))+"="+string(otlpspans.ValueOf(s, a).AppendText(nil)))
	}
	return out
}

func TestLimitsAreExact(t *testing.T) {
	attr := bytesField(9, attrOf("k", "0123456789"))
	event := func(more ...message) message { return bytesField(11, join(bytesField(2, "e"), join(more...))) }
	link := func(more ...message) message { return bytesField(13, join(bytesField(1, someTrace), join(more...))) }
	inEvent, inLink := bytesField(3, attrOf("k", "v")), bytesField(4, attrOf("k", "v"))
	repeat := func(n int, m message) message { return []byte(strings.Repeat(string(m), n)) }
	for _, tc := range []struct {
		name   string
		limits wire.Limits
		fits   message
		above  message
		mark   string
	}{
		{"attributes", wire.Limits{MaxAttrs: 3}, repeat(3, attr), repeat(5, attr), "dropped 2 attributes"},
		{"events", wire.Limits{MaxEvents: 2}, repeat(2, event()), repeat(3, event()), "dropped 1 event"},
		{"links", wire.Limits{MaxLinks: 2}, repeat(2, link()), repeat(4, link()), "dropped 2 links"},
		{"attributes of events", wire.Limits{MaxAttrs: 1}, event(inEvent), join(event(inEvent, inEvent), event(inEvent, inEvent)), "dropped 2 attributes of events"},
		{"attributes of links", wire.Limits{MaxAttrs: 1}, link(inLink), link(inLink, inLink), "dropped 1 attribute of links"},
		{"value", wire.Limits{MaxAttrBytes: 10}, attr, bytesField(9, attrOf("k", "0123456789a")), "cut k from 11 to 10 bytes"},
		{"bytes", wire.Limits{MaxAttrBytes: 10}, nil, bytesField(9, join(bytesField(1, "k"), bytesField(2, bytesField(7, "\xff0123456789")))), "cut k from 11 to 10 bytes"},
		{"name", wire.Limits{MaxAttrBytes: 10}, nil, bytesField(5, "0123456789a"), "cut name from 11 to 10 bytes"},
		{"trace state", wire.Limits{MaxAttrBytes: 10}, bytesField(3, "a=1,b=2,c="), bytesField(3, "a=1,b=2,c=3"), "cut trace state from 11 to 7 bytes"},
		{"status", wire.Limits{MaxAttrBytes: 10}, nil, bytesField(15, bytesField(2, "0123456789a")), "cut status message from 11 to 10 bytes"},
		{"event's name", wire.Limits{MaxAttrBytes: 10}, nil, bytesField(11, bytesField(2, "0123456789a")), "cut name of an event from 11 to 10 bytes"},
		{
			"array", wire.Limits{MaxAttrBytes: 10}, bytesField(9, bytesField(2, bytesField(5, repeat(2, bytesField(1, bytesField(1, "x")))))),
			bytesField(9, join(bytesField(1, "k"), bytesField(2, bytesField(5, repeat(3, bytesField(1, bytesField(1, "x"))))))), "cut k from 15 to 10 bytes",
		},
		{
			"all", wire.Limits{MaxAttrs: 1, MaxEvents: 1, MaxLinks: 1, MaxAttrBytes: 6}, nil,
			join(repeat(2, attr), repeat(2, event(inEvent, inEvent)), repeat(2, link(inLink, inLink))),
			"dropped 1 attribute, 1 event, 1 link, 1 attribute of events, 1 attribute of links; cut k from 10 to 6 bytes",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			body := requestOf(spanOf(tc.fits))
			r := decode(t, body, tc.limits)
			require.False(t, r.changed)
			require.Zero(t, r.Cut)
			require.Equal(t, dump(&decode(t, body, wire.Limits{}).Spans), dump(&r.Spans))

			body = requestOf(spanOf(tc.above), spanOf())
			r = decode(t, body, tc.limits)
			require.Equal(t, 1, r.Cut)
			require.Contains(t, attrsOf(&r.Spans, 0), AttrTruncated+"="+tc.mark)
			require.Empty(t, attrsOf(&r.Spans, 1))
			checkReplay(t, r, body, wire.PartOptions{Partitions: 1, Plain: true})
			again := decode(t, otlpspans.AppendRequest(nil, &r.Spans), tc.limits)
			require.Zero(t, again.Cut, "what has been cut stays as it is")
		})
	}
}

func TestCutCountsAndCharacters(t *testing.T) {
	var attrs message
	for range 12 {
		attrs = append(attrs, bytesField(9, attrOf("größe", strings.Repeat("ü", 20)))...)
	}
	body := requestOf(spanOf(attrs, varintField(10, 7), varintField(12, 1), bytesField(9, attrOf(strings.Repeat("k", 300), "v"))))
	r := decode(t, body, wire.Limits{MaxAttrs: 11, MaxAttrBytes: 9})
	got := attrsOf(&r.Spans, 0)
	require.Len(t, got, 12)
	require.Equal(t, "größe=üüüü", got[0])
	require.Equal(t, AttrTruncated+"=dropped 2 attributes; cut "+strings.Repeat("größe from 40 to 8 bytes, ", 7)+"größe from 40 to 8 bytes and 3 more values", got[11])
	require.Equal(t, uint32(9), r.Spans.DroppedAttrs[0])
	require.Equal(t, uint32(1), r.Spans.DroppedEvents[0])

	// A narrower limit adds to the mark.
	r = decode(t, otlpspans.AppendRequest(nil, &r.Spans), wire.Limits{MaxAttrs: 1, MaxAttrBytes: 9})
	got = attrsOf(&r.Spans, 0)
	require.Len(t, got, 2)
	require.True(t, strings.HasSuffix(got[1], " and 3 more values; dropped 10 attributes"), got[1])
	require.Equal(t, uint32(19), r.Spans.DroppedAttrs[0])
}

func TestClock(t *testing.T) {
	const second = uint64(1e9)
	for _, tc := range []struct {
		start, end uint64
		mark       string
	}{
		{nowNs, nowNs + 10, ""},
		{nowNs - 10, nowNs - 10, ""},
		{nowNs + 5*second, nowNs + 6*second, "start is 5s beyond the newest time accepted"},
		{nowNs + 1, nowNs + 1, "start is 1ns beyond the newest time accepted"},
		{nowNs, nowNs - 2*second, "end is 2s before the start"},
		{nowNs + second, nowNs, "start is 1s beyond the newest time accepted; end is 1s before the start"},
		{nowNs, 0, "end is not set"},
		{0, nowNs, "start is not set"},
		{0, 0, "start is not set"},
		{1 << 63, 1<<63 + 1, "start is beyond the year 2262"},
	} {
		body := requestOf(spanOf(fixed64Field(7, tc.start), fixed64Field(8, tc.end), bytesField(9, attrOf("k", "v"))))
		want := []string{"k=v"}
		skewed := 0
		if tc.mark != "" {
			want, skewed = append(want, AttrClockSkew+"="+tc.mark), 1
		}
		r := decode(t, body, wire.Limits{MaxTime: now})
		require.Equal(t, want, attrsOf(&r.Spans, 0))
		require.Equal(t, skewed, r.Skewed)
		require.Zero(t, r.Cut)
		require.Equal(t, []uint64{tc.start, tc.end}, []uint64{uint64(r.Spans.Starts[0]), uint64(r.Spans.Ends[0])})
		checkReplay(t, r, body, wire.PartOptions{Partitions: 1, Plain: true})
		r = decode(t, otlpspans.AppendRequest(nil, &r.Spans), wire.Limits{MaxTime: now, MaxAttrs: 1})
		require.Equal(t, want, attrsOf(&r.Spans, 0), "a mark is made once")
		require.Zero(t, r.Skewed)
		require.Equal(t, []string{"k=v"}, attrsOf(&decode(t, body, wire.Limits{}).Spans, 0), "a replay marks nothing")
	}
}

// A span that is far too large is cut until it fits, whatever makes it large.
func TestLargeSpans(t *testing.T) {
	repeat := func(n int, m message) message { return []byte(strings.Repeat(string(m), n)) }
	long := strings.Repeat("0123456789", 100_000)
	for name, span := range map[string]message{
		"one value":       spanOf(bytesField(9, attrOf("k", long))),
		"a key":           spanOf(bytesField(9, attrOf(long, "v"))),
		"name":            spanOf(bytesField(5, long)),
		"trace state":     spanOf(bytesField(3, long)),
		"status":          spanOf(bytesField(15, bytesField(2, long))),
		"attributes":      spanOf(repeat(10_000, bytesField(9, attrOf("key", "a value of some length")))),
		"events":          spanOf(repeat(10_000, bytesField(11, bytesField(3, attrOf("key", "a value of some length"))))),
		"links":           spanOf(repeat(10_000, bytesField(13, bytesField(1, someTrace)))),
		"unknown fields":  spanOf(repeat(10_000, bytesField(99, "something"))),
		"the same again":  spanOf(repeat(10_000, bytesField(5, "the name"))),
		"stack traces":    spanOf(repeat(20, bytesField(11, bytesField(3, attrOf("exception.stacktrace", long[:20_000]))))),
		"an array":        spanOf(bytesField(9, bytesField(2, bytesField(5, repeat(10_000, bytesField(1, varintField(3, 5))))))),
		"all of it":       spanOf(bytesField(5, long), repeat(500, bytesField(11, bytesField(3, attrOf("key", long[:1000])))), repeat(500, bytesField(9, attrOf("key", long[:1000])))),
		"long everywhere": spanOf(repeat(200, bytesField(9, attrOf("key", long[:5000])))),
	} {
		t.Run(name, func(t *testing.T) {
			body := requestOf(spanOf(), span, spanOf())
			const size = 8000
			r := decode(t, body, wire.Limits{MaxSpanBytes: size})
			require.Equal(t, 3, r.Spans.Len())
			require.Equal(t, 1, r.Cut)
			require.LessOrEqual(t, int(r.messages[1].Len), size)
			require.Contains(t, attrsOf(&r.Spans, 1)[len(attrsOf(&r.Spans, 1))-1], AttrTruncated)
			require.Equal(t, 1, checkReplay(t, r, body, wire.PartOptions{Partitions: 1, Plain: true}))

			// The same, found only when it has to fit into a payload.
			for _, plain := range []bool{true, false} {
				r = decode(t, body, wire.Limits{})
				checkReplay(t, r, body, wire.PartOptions{Partitions: 1, Plain: plain, MaxBytes: size})
				if plain {
					require.Equal(t, 1, r.Cut)
				}
			}
		})
	}
	// Nothing fits into next to nothing.
	var size *wire.SizeError
	require.ErrorAs(t, New().Decode(buffer.FormatOTLPTraces, requestOf(spanOf()), wire.Limits{MaxSpanBytes: 20}), &size)
	_, err := decode(t, requestOf(spanOf()), wire.Limits{}).Parts(requestOf(spanOf()), wire.PartOptions{Partitions: 1, MaxBytes: 50, Plain: true})
	require.ErrorAs(t, err, &size)
}

// The limits hold for resources and scopes, whose spans stay as they are.
func TestLargeEnvelopes(t *testing.T) {
	long := strings.Repeat("0123456789", 1000)
	resource := bytesField(1, join(bytesField(1, attrOf("service.name", "shop")), bytesField(1, attrOf("k", long)), bytesField(1, attrOf("more", "v"))))
	scope := bytesField(1, join(bytesField(1, long), bytesField(2, "v1"), bytesField(3, attrOf("k", long))))
	spans := join(bytesField(2, spanOf(bytesField(9, attrOf("a", "b")))), bytesField(2, spanOf()))
	body := join(
		bytesField(1, join(resource, bytesField(50, "unknown"), bytesField(2, join(scope, bytesField(3, "schema"), spans)), bytesField(3, "url"), bytesField(2, spans))),
		bytesField(1, bytesField(2, spans)),
	)
	check := func(r *Request) {
		t.Helper()
		s := &r.Spans
		require.Equal(t, 6, s.Len())
		require.Len(t, s.Resources, 2)
		require.Len(t, s.Scopes, 3)
		require.Equal(t, 2, r.Cut)
		text := dump(s)[0]
		require.Contains(t, text, AttrTruncated)
		require.Contains(t, text, `"url"`)
		require.Contains(t, text, `"schema"`)
		require.Contains(t, text, `"a": string "b"`)
		require.NotContains(t, dump(s)[4], AttrTruncated)
	}
	for _, limits := range []wire.Limits{{MaxAttrBytes: 100}, {MaxSpanBytes: 2000}, {MaxAttrs: 2, MaxAttrBytes: 100}} {
		r := decode(t, body, limits)
		check(r)
		checkReplay(t, r, body, wire.PartOptions{Partitions: 3, Plain: true})
	}
	r := decode(t, body, wire.Limits{})
	checkReplay(t, r, body, wire.PartOptions{Partitions: 1, Plain: true, MaxBytes: 2000})
	check(r)
}

func TestSampling(t *testing.T) {
	id := func(b byte) message { return message(strings.Repeat(string([]byte{b}), 16)) }
	var asked []byte
	limits := wire.Limits{MaxAttrs: 1, KeepTrace: func(id signal.TraceID) bool {
		asked = append(asked, id[0])
		return id[0]%2 == 0
	}}
	many := join(bytesField(9, attrOf("a", "b")), bytesField(9, attrOf("c", "d")))
	body := requestOf(
		join(bytesField(1, id(1)), many, bytesField(2, someSpan)), join(bytesField(1, id(2)), bytesField(2, someSpan)),
		join(bytesField(2, someSpan), many, bytesField(1, id(3))), join(bytesField(2, someSpan), many, bytesField(1, id(4))),
		bytesField(1, id(6)), // has no span id
	)
	r := decode(t, body, limits)
	require.Equal(t, []byte{1, 2, 3, 4, 6}, asked)
	require.Equal(t, 2, r.NotKept)
	require.Equal(t, 1, r.Rejects.Spans)
	require.Equal(t, 1, r.Cut)
	require.Equal(t, 2, r.Spans.Len())
	require.Equal(t, 1, checkReplay(t, r, body, wire.PartOptions{Partitions: 1, Plain: true}))

	limits.KeepTrace = func(signal.TraceID) bool { return false }
	r = decode(t, body, limits)
	require.Zero(t, r.Spans.Len())
	require.Empty(t, r.Spans.Resources)
	require.Zero(t, checkReplay(t, r, body, wire.PartOptions{Partitions: 1, Plain: true}))
}
