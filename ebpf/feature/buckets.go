package feature

import (
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// The kernel's buckets; they mirror http.h and duration.h.
const (
	fineBuckets = 82
	defaultExp  = 14 // the first bucket ends at 2^14 ns, 16 µs; the last begins at 17 s
	tableSize   = 128
)

// MaxSlots is how many slots a histogram has in the kernel.
const MaxSlots = 112

// Buckets maps durations to the kernel's slots. The kernel counts in log2-linear
// buckets, four to an octave; where an exported bound falls inside one, that one
// has two slots, so that folding slots to bounds is exact.
type Buckets struct {
	bounds []float64 // exported, seconds
	Edge   [tableSize]uint64
	Slot   [tableSize]uint8
	upper  []uint64 // of each slot, inclusive
}

// fineUpper is the largest duration of fine bucket f, where the first one ends at
// 2^minExp ns.
func fineUpper(f, minExp int) uint64 {
	switch {
	case f == 0:
		return 1 << minExp
	case f >= fineBuckets-1:
		return math.MaxUint64
	}
	exp, sub := minExp+(f-1)/4, uint64((f-1)%4)
	return 1<<exp + (sub+1)<<(exp-2)
}

// NewBuckets checks bounds, in seconds: they rise, and two of them are a quarter
// apart at least. The kernel tells durations of 16 µs to 17 s apart.
func NewBuckets(bounds []float64) (*Buckets, error) { return NewBucketsFrom(defaultExp, bounds) }

// NewBucketsFrom is NewBuckets for a kernel that tells apart the durations of
// twenty octaves, the first ending at 2^minExp ns.
func NewBucketsFrom(minExp int, bounds []float64) (*Buckets, error) {
	b := &Buckets{bounds: bounds}
	next := 0
	for f := range fineBuckets {
		upper := fineUpper(f, minExp)
		b.Slot[f], b.Edge[f] = uint8(len(b.upper)), math.MaxUint64
		for next < len(bounds) {
			nanos := uint64(math.Round(bounds[next] * 1e9))
			if !(bounds[next] > 0) || bounds[next] > 3600 || next > 0 && bounds[next] <= bounds[next-1] {
				return nil, fmt.Errorf("got %v, want numbers that rise, above 0 and at most 3600", bounds)
			}
			if nanos > upper {
				break
			}
			if nanos < upper {
				if b.Edge[f] != math.MaxUint64 {
					return nil, fmt.Errorf("got %v so near to %v, want bounds a quarter apart", bounds[next], bounds[next-1])
				}
				b.Edge[f] = nanos
				b.upper = append(b.upper, nanos)
			}
			next++
		}
		b.upper = append(b.upper, upper)
	}
	if len(b.upper) > MaxSlots {
		return nil, fmt.Errorf("got %d bounds, want at most %d", len(bounds), MaxSlots-fineBuckets)
	}
	return b, nil
}

// Fold gives the cumulative counts at the exported bounds, and the total.
func (b *Buckets) Fold(slots []uint64) ([]uint64, uint64) {
	cumulative := make([]uint64, len(b.bounds))
	var total uint64
	next := 0
	for i, upper := range b.upper {
		total += slots[i]
		for next < len(b.bounds) && uint64(math.Round(b.bounds[next]*1e9)) <= upper {
			cumulative[next] = total
			next++
		}
	}
	return cumulative, total
}

// Histogram is the metric of durations that were counted in slots; sum is in
// seconds.
func (b *Buckets) Histogram(d *prometheus.Desc, labels []*dto.LabelPair, slots []uint64, sum float64) prometheus.Metric {
	cumulative, n := b.Fold(slots)
	return NewHistogram(d, labels, b.bounds, cumulative, n, sum)
}

// sizeBounds are those of http.h: powers of four from 64 bytes to 64 MiB.
var sizeBounds = [...]float64{1 << 6, 1 << 8, 1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 26}

// SizeBounds are the bounds of histograms of sizes, in bytes.
func SizeBounds() []float64 { return slices.Clone(sizeBounds[:]) }

// FoldSizes gives the cumulative counts at SizeBounds, and the total.
func FoldSizes(sizes []uint64) ([]uint64, uint64) {
	cumulative := make([]uint64, len(sizeBounds))
	var total uint64
	for i, n := range sizes {
		total += n
		if i < len(cumulative) {
			cumulative[i] = total
		}
	}
	return cumulative, total
}

// SizeHistogram is the metric of sizes that were counted between SizeBounds; sum is
// in bytes.
func SizeHistogram(d *prometheus.Desc, labels []*dto.LabelPair, sizes []uint64, sum float64) prometheus.Metric {
	cumulative, n := FoldSizes(sizes)
	return NewHistogram(d, labels, sizeBounds[:], cumulative, n, sum)
}
