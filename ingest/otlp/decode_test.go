package otlp

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
)

// configs are settings that differ in what they do to the same payload.
func configs() []Config {
	var out []Config
	for _, strategy := range []string{"UnderscoreEscapingWithSuffixes", "UnderscoreEscapingWithoutSuffixes", "NoUTF8EscapingWithSuffixes", "NoTranslation"} {
		c := DefaultConfig()
		c.TranslationStrategy = strategy
		out = append(out, c)
		c.PromoteResourceAttributes = []string{"host.name", "process.pid", "service.name", "job"}
		c.PromoteScopeMetadata = true
		c.KeepIdentifyingResourceAttributes = true
		c.Delta = DeltaNative
		out = append(out, c)
		c.PromoteResourceAttributes, c.PromoteAllResourceAttributes = nil, true
		c.IgnoreResourceAttributes = []string{"k8s.pod.name"}
		c.ConvertHistogramsToNHCB = true
		c.LabelNamePreserveMultipleUnderscores, c.LabelNameUnderscoreSanitization = false, false
		out = append(out, c)
	}
	return out
}

// What Prometheus's own converter appends for a payload is what comes out of
// Decode, with every setting, from a Request that knows the labels and from one
// that does not, and after the way through the buffer.
func TestEqualToPrometheus(t *testing.T) {
	for ci, c := range configs() {
		require.NoError(t, c.Validate())
		r := New(c)
		for seed := range uint64(150) {
			rnd := &random{Rand: rand.New(rand.NewPCG(seed, 1)), deltas: c.Delta == DeltaNative, utf8: r.set.utf8, clock: nowNs}
			body := marshal(t, rnd.metrics())
			want, err := convert(t, c, body)
			where := fmt.Sprintf("config %d, seed %d", ci, seed)
			require.NoError(t, err, where)
			for range 2 {
				require.NoError(t, r.Decode(buffer.FormatOTLP, body, wire.Limits{MaxTime: 2 * now}), where)
				require.False(t, r.Rejects.Any(), "%s: %+v", where, r.Rejects.First)
				got := dump(&r.Metrics)
				slices.Sort(got)
				for i := range min(len(got), len(want.lines)) {
					require.Equal(t, want.lines[i], got[i], where)
				}
				require.Equal(t, len(want.lines), len(got), where)
				require.Equal(t, want.metadata, dumpMetadata(&r.Metrics), where)
			}
			checkReplay(t, r, body, wire.PartOptions{Partitions: 1 + int(seed%4), Plain: seed%2 == 0})
			require.NoError(t, r.Decode(buffer.FormatOTLPSnappy, s2.EncodeSnappy(nil, body), wire.Limits{}))
			checkReplay(t, r, s2.EncodeSnappy(nil, body), wire.PartOptions{Partitions: 1 + int(seed%3), Plain: seed%2 == 0, MaxBytes: 2000})
		}
	}
}
