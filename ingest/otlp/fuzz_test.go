package otlp

import (
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
)

func fuzzSeeds(f *testing.F, add func(body []byte)) {
	for seed := range uint64(10) {
		r := &random{Rand: rand.New(rand.NewPCG(seed, 3)), deltas: true, clock: nowNs}
		add(marshal(f, r.metrics()))
	}
	add(marshal(f, benchPayload("histogram", 3, 0)))
}

// FuzzDecode decodes arbitrary bytes: a batch or an error, never a panic, memory
// in proportion to the bytes, and what was accepted survives the way through the
// buffer. What the Collector cannot read is refused, where Decode looks at it.
func FuzzDecode(f *testing.F) {
	fuzzSeeds(f, func(body []byte) {
		for k := range len(configs()) {
			f.Add(body, uint8(k))
		}
	})
	all := configs()
	f.Fuzz(func(t *testing.T, body []byte, k uint8) {
		c := all[int(k)%len(all)]
		if k&0x80 != 0 {
			c.Delta = DeltaCumulative
		}
		r := New(c)
		reserved := 0
		limits := wire.Limits{
			MaxTime: now + 1e9, MaxLabels: 20, MaxLabelNameBytes: 50, MaxLabelValueBytes: 300,
			Reserve: func(n int) error { reserved += n; return nil },
		}
		err := r.Decode(buffer.FormatOTLP, body, limits)
		require.LessOrEqual(t, reserved, 1<<20+2000*len(body))
		if err != nil {
			return
		}
		_, known := (&pmetric.ProtoUnmarshaler{}).UnmarshalMetrics(body)
		if known != nil {
			return // some things are passed over here that are read there
		}
		checkReplay(t, r, body, wire.PartOptions{Partitions: 1, Plain: k%2 == 0})
		require.NoError(t, r.Decode(buffer.FormatOTLP, body, wire.Limits{}))
		checkReplay(t, r, body, wire.PartOptions{Partitions: 3, Plain: k%2 == 1})
	})
}

// FuzzKnown decodes a payload with a Request that has seen another one: what is
// remembered changes nothing.
func FuzzKnown(f *testing.F) {
	fuzzSeeds(f, func(body []byte) { f.Add(body, body) })
	f.Fuzz(func(t *testing.T, first, second []byte) {
		r, fresh := New(DefaultConfig()), New(DefaultConfig())
		_ = r.Decode(buffer.FormatOTLP, first, wire.Limits{})
		got, want := r.Decode(buffer.FormatOTLP, second, wire.Limits{}), fresh.Decode(buffer.FormatOTLP, second, wire.Limits{})
		require.Equal(t, want == nil, got == nil, "%v, %v", want, got)
		if want != nil {
			return
		}
		require.Equal(t, dump(&fresh.Metrics), dump(&r.Metrics))
		require.Equal(t, dumpMetadata(&fresh.Metrics), dumpMetadata(&r.Metrics))
		require.Equal(t, fresh.Rejects.ByReason, r.Rejects.ByReason)
	})
}

func FuzzCompressed(f *testing.F) {
	fuzzSeeds(f, func(body []byte) { f.Add(s2.EncodeSnappy(nil, body)) })
	f.Fuzz(func(t *testing.T, payload []byte) {
		_ = New(DefaultConfig()).Decode(buffer.FormatOTLPSnappy, payload, wire.Limits{MaxDecodedBytes: 1 << 20})
	})
}
