package metric

import (
	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/storage/encoding"
)

func hashOf(canon []byte) labels.Hash { return labels.HashCanonical(canon) }

func sampleHistograms(n int) []encoding.Histogram {
	var out []encoding.Histogram
	for i := range n {
		out = append(out, encoding.Histogram{Int: histogramAt(t0 + int64(i)*1000)})
	}
	return out
}

func sampleMetadata() []signal.Metadata {
	return []signal.Metadata{{Family: "a", Type: "counter", Help: "Things.", Unit: "seconds"}}
}
