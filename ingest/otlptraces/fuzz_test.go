package otlptraces

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/stretchr/testify/require"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/otlpspans"
	"github.com/vedette-io/vedette/internal/signal"
)

func fuzzSeeds(f *testing.F, add func(body []byte)) {
	for seed := range uint64(20) {
		add(marshal(f, newRandom(seed).traces()))
	}
	add(marshal(f, benchTraces(3)))
	for _, m := range []message{oddMessage(), spanOf(bytesField(9, join(bytesField(2, nested(70)))))} {
		add(requestOf(m))
	}
}

// FuzzDecode decodes arbitrary bytes: a batch or an error, never a panic, memory in
// proportion to the bytes. What the Collector reads is read, to the same spans, and
// what it does not read is refused, but for what the package comment lists.
func FuzzDecode(f *testing.F) {
	fuzzSeeds(f, func(body []byte) { f.Add(body, uint8(0)) })
	f.Fuzz(func(t *testing.T, body []byte, k uint8) {
		r := New()
		reserved := 0
		err := r.Decode(buffer.FormatOTLPTraces, body, wire.Limits{Reserve: func(n int) error { reserved += n; return nil }})
		require.LessOrEqual(t, reserved, 1<<20+100*len(body))
		td, theirs := unmarshal(body)
		if err != nil {
			require.ErrorContains(t, err, "decode opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest: byte ")
			if theirs == nil {
				require.ErrorContains(t, err, "group") // an empty one whose ends do not match
			}
			return
		}
		var read tracepb.TracesData
		if theirs != nil && !strings.Contains(theirs.Error(), "ID length") && !bytes.Contains(body, []byte{0xc2, 0x3e}) && !r.Rejects.Any() {
			require.NoError(t, proto.Unmarshal(body, &read), "the Collector said %v", theirs)
		}
		if theirs == nil {
			require.Equal(t, td.SpanCount(), r.Spans.Len()+r.Rejects.Spans)
		}
		if theirs == nil && !r.Rejects.Any() {
			want := dumpTraces(td)
			require.Equal(t, want, dump(&r.Spans))
			again, err := unmarshal(otlpspans.AppendRequest(nil, &r.Spans))
			require.NoError(t, err)
			require.Equal(t, want, dumpTraces(again))
		}
		checkReplay(t, r, body, wire.PartOptions{Partitions: 1 + int(k%4), Plain: k%2 == 0, MaxBytes: 2500 + int(k)*64})
	})
}

// FuzzLimits decodes arbitrary bytes under narrow limits: the same spans as
// without, and what is left survives the buffer.
func FuzzLimits(f *testing.F) {
	fuzzSeeds(f, func(body []byte) { f.Add(body, uint8(3), uint16(20), uint16(600)) })
	f.Fuzz(func(t *testing.T, body []byte, n uint8, value, size uint16) {
		r, free := New(), New()
		limits := wire.Limits{
			MaxTime: now, MaxAttrs: int(n), MaxEvents: int(n / 2), MaxLinks: int(n / 3), MaxAttrBytes: int(value),
			KeepTrace: func(id signal.TraceID) bool { return id[15]%3 > 0 },
		}
		if size >= 512 {
			limits.MaxSpanBytes = int(size)
		}
		err := r.Decode(buffer.FormatOTLPTraces, body, limits)
		if err != nil {
			var tooLarge *wire.SizeError
			require.False(t, errors.As(err, &tooLarge) && size >= 1024, "what is large is cut: %v", err)
			return
		}
		if free.Decode(buffer.FormatOTLPTraces, body, wire.Limits{}) != nil {
			return // bytes of spans that were not wanted
		}
		require.Equal(t, free.Spans.Len()+free.Rejects.Spans, r.Spans.Len()+r.Rejects.Spans+r.NotKept)
		checkReplay(t, r, body, wire.PartOptions{Partitions: 2, Plain: n%2 == 0})
	})
}

func FuzzCompressed(f *testing.F) {
	fuzzSeeds(f, func(body []byte) { f.Add(s2.EncodeSnappy(nil, body)) })
	f.Fuzz(func(t *testing.T, payload []byte) {
		_ = New().Decode(buffer.FormatOTLPTracesSnappy, payload, wire.Limits{MaxDecodedBytes: 1 << 20})
	})
}
