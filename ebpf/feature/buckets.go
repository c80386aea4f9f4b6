package feature

import (
	"fmt"
	"math"
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
func (b *Buckets) Fold(slots []uint64) (map[float64]uint64, uint64) {
	cumulative := make(map[float64]uint64, len(b.bounds))
	var total uint64
	next := 0
	for i, upper := range b.upper {
		total += slots[i]
		for next < len(b.bounds) && uint64(math.Round(b.bounds[next]*1e9)) <= upper {
			cumulative[b.bounds[next]] = total
			next++
		}
	}
	return cumulative, total
}

// SizeBounds are those of http.h: powers of four from 64 bytes to 64 MiB.
func SizeBounds() []float64 {
	var bounds []float64
	for n := 64.0; n <= 64<<20; n *= 4 {
		bounds = append(bounds, n)
	}
	return bounds
}

// FoldSizes gives the cumulative counts at SizeBounds, and the total.
func FoldSizes(sizes []uint64) (map[float64]uint64, uint64) {
	cumulative := make(map[float64]uint64, len(sizes))
	var total uint64
	bounds := SizeBounds()
	for i, n := range sizes {
		total += n
		if i < len(bounds) {
			cumulative[bounds[i]] = total
		}
	}
	return cumulative, total
}
