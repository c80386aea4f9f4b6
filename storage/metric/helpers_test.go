package metric

import (
	"testing"

	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/encoding"
	"github.com/vedette-io/vedette/storage/index"
)

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

const sampleLabels = "\x0a\x0d\x0a\x08__name__\x12\x01a\x0a\x06\x0a\x01b\x12\x01c"

// sampleAt is the i-th float of the sample block.
func sampleAt(i int) (time int64, value float64) {
	return t0 + int64(i)*15_000 + int64(i%3), float64(i*i%17) / 10
}

// writeSample writes a block that has every section.
func writeSample(t testing.TB, fs vfs.FS, dir string) {
	t.Helper()
	out, err := newBlockWriter(fs, dir, Meta{WindowMs: 3_600_000, Pairs: 2, Series: 1})
	if err != nil {
		t.Fatal(err)
	}
	x := index.New()
	if _, err := x.Add(labels.HashCanonical([]byte(sampleLabels)), []byte(sampleLabels)); err != nil {
		t.Fatal(err)
	}
	var times []int64
	var values []float64
	for i := range 300 {
		time, value := sampleAt(i)
		times, values = append(times, time), append(values, value)
	}
	column := out.addTimes(times)
	out.addFloats(key{0, 0, kindFloats}, column, values)
	out.addHistograms(key{0, 0, kindHistograms}, out.addTimes(times[:3]), sampleHistograms(3))
	out.addStarts(key{0, 0, kindStarts}, column, times)
	out.addDefinitions(x)
	out.addExemplars([]exemplarRow{{0, t0, 1.5, "\x0a\x06\x0a\x01b\x12\x01c"}})
	out.addMetadata(sampleMetadata())
	if err := out.close(); err != nil {
		t.Fatal(err)
	}
}
