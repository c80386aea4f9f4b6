package probe

import (
	"fmt"
	"math"
)

// The kernel's buckets; they mirror http.h.
const (
	fineBuckets = 82
	minExp      = 14 // the first bucket ends at 2^14 ns, 16 µs
	maxExp      = 34 // the last begins at 2^34 ns, 17 s
	maxSlots    = 112
	tableSize   = 128
)

// buckets maps durations to the kernel's slots. The kernel counts in log2-linear
// buckets, four to an octave; where an exported bound falls inside one, that one
// has two slots, so that folding slots to bounds is exact.
type buckets struct {
	bounds []float64 // exported, seconds
	edge   [tableSize]uint64
	slot   [tableSize]uint8
	upper  []uint64 // of each slot, inclusive
}

// fineUpper is the largest duration of fine bucket f.
func fineUpper(f int) uint64 {
	switch {
	case f == 0:
		return 1 << minExp
	case f >= fineBuckets-1:
		return math.MaxUint64
	}
	exp, sub := minExp+(f-1)/4, uint64((f-1)%4)
	return 1<<exp + (sub+1)<<(exp-2)
}

func newBuckets(bounds []float64) (*buckets, error) {
	b := &buckets{bounds: bounds}
	next := 0
	for f := range fineBuckets {
		upper := fineUpper(f)
		b.slot[f], b.edge[f] = uint8(len(b.upper)), math.MaxUint64
		for next < len(bounds) {
			nanos := uint64(math.Round(bounds[next] * 1e9))
			if !(bounds[next] > 0) || bounds[next] > 3600 || next > 0 && bounds[next] <= bounds[next-1] {
				return nil, fmt.Errorf("got %v, want numbers that rise, above 0 and at most 3600", bounds)
			}
			if nanos > upper {
				break
			}
			if nanos < upper {
				if b.edge[f] != math.MaxUint64 {
					return nil, fmt.Errorf("got %v so near to %v, want bounds a quarter apart", bounds[next], bounds[next-1])
				}
				b.edge[f] = nanos
				b.upper = append(b.upper, nanos)
			}
			next++
		}
		b.upper = append(b.upper, upper)
	}
	if len(b.upper) > maxSlots {
		return nil, fmt.Errorf("got %d bounds, want at most %d", len(bounds), maxSlots-fineBuckets)
	}
	return b, nil
}

// fold gives the cumulative counts at the exported bounds, and the total.
func (b *buckets) fold(slots []uint64) (map[float64]uint64, uint64) {
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

// sizeBounds are those of http.h: powers of four from 64 bytes to 64 MiB.
func sizeBounds() []float64 {
	var bounds []float64
	for n := 64.0; n <= 64<<20; n *= 4 {
		bounds = append(bounds, n)
	}
	return bounds
}

func foldSizes(sizes []uint64) (map[float64]uint64, uint64) {
	cumulative := make(map[float64]uint64, len(sizes))
	var total uint64
	bounds := sizeBounds()
	for i, n := range sizes {
		total += n
		if i < len(bounds) {
			cumulative[bounds[i]] = total
		}
	}
	return cumulative, total
}
