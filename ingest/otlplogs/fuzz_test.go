package otlplogs

import (
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
)

func fuzzSeeds(f *testing.F, add func(body []byte)) {
	for seed := range uint64(20) {
		add(marshal(f, newRandom(seed).logs()))
	}
	add(marshal(f, benchLogs(3)))
	old := requestOf(body("old"))
	add(join(requestOf(body("a"), field2(5, nested(70)), field2(9, message("short"))), field2(1, field2(1000, old[4:]))))
}

// FuzzDecode reads arbitrary bytes: an answer or an error, never a panic, memory in
// proportion to the bytes. What the Collector reads is read, with as many records,
// and what it does not read is refused, but for what the package comment lists.
func FuzzDecode(f *testing.F) {
	fuzzSeeds(f, func(body []byte) { f.Add(body, uint8(0)) })
	f.Fuzz(func(t *testing.T, body []byte, k uint8) {
		r := New()
		reserved := 0
		err := r.Decode(buffer.FormatOTLPLogs, body, wire.Limits{Reserve: func(n int) error { reserved += n; return nil }})
		require.LessOrEqual(t, reserved, 1<<20+100*len(body))
		ld, theirs := unmarshal(body)
		if err != nil {
			require.ErrorContains(t, err, "decode opentelemetry.proto.collector.logs.v1.ExportLogsServiceRequest: byte ")
			if theirs == nil {
				require.ErrorContains(t, err, "group") // an empty one whose ends do not match
			}
			return
		}
		if theirs == nil {
			require.Equal(t, ld.LogRecordCount(), r.Logs.Len()+r.Rejects.Records)
		}
		checkReplay(t, r, body, wire.PartOptions{Partitions: 1 + int(k%4), Plain: k%2 == 0})
	})
}

// FuzzLimits reads arbitrary bytes under a limit for records: what is left
// survives a buffer that takes nothing larger.
func FuzzLimits(f *testing.F) {
	fuzzSeeds(f, func(body []byte) { f.Add(body, uint16(300)) })
	f.Fuzz(func(t *testing.T, body []byte, size uint16) {
		r := New()
		limit := 100 + int(size)
		if r.Decode(buffer.FormatOTLPLogs, body, wire.Limits{MaxLogBytes: limit}) != nil {
			return
		}
		checkReplay(t, r, body, wire.PartOptions{Partitions: 2, Plain: true, MaxBytes: limit})
		checkReplay(t, r, body, wire.PartOptions{Partitions: 2, MaxBytes: limit + limit/6 + 32})
	})
}

func FuzzCompressed(f *testing.F) {
	fuzzSeeds(f, func(body []byte) { f.Add(s2.EncodeSnappy(nil, body)) })
	f.Fuzz(func(t *testing.T, payload []byte) {
		_ = New().Decode(buffer.FormatOTLPLogsSnappy, payload, wire.Limits{MaxDecodedBytes: 1 << 20})
	})
}
