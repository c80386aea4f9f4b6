package traceql

import (
	"fmt"
	"time"
)

// MaxPoints bounds the points of a series, as Prometheus does.
const MaxPoints = 11_000

// Range is the points in time at which series have values: Start, Start + Step,
// … up to End, unix nanoseconds. The value at a time T is of the spans that
// start after T - Step and until T, as Prometheus looks back. A Step that
// reaches from Start to End, or further, makes one point, at End.
type Range struct {
	start, step int64 // of the first point
	len         int
}

// NewRange returns a range.
func NewRange(start, end, step int64) (Range, error) {
	switch {
	case step <= 0:
		return Range{}, fmt.Errorf("step is %s, want more than 0", time.Duration(step))
	case end < start:
		return Range{}, fmt.Errorf("end is %s before the start", time.Duration(start-end))
	case start < 0:
		return Range{}, fmt.Errorf("start is %d, want unix nanoseconds", start)
	case step >= end-start:
		return Range{start: end, step: step, len: 1}, nil
	}
	n := (end-start)/step + 1
	if n > MaxPoints {
		return Range{}, fmt.Errorf("series of %d points, want at most %d: use a longer step", n, MaxPoints)
	}
	return Range{start: start, step: step, len: int(n)}, nil
}

// AlignRange moves start down and end up to multiples of step, so that a query
// that is repeated a little later divides time in the same way.
func AlignRange(start, end, step int64) (int64, int64) {
	if step <= 0 {
		return start, end
	}
	start -= start % step
	if r := end % step; r != 0 {
		end += step - r
	}
	return start, end
}

// DefaultStep returns a step that suits a range: about 240 points, on a round
// number.
func DefaultStep(start, end int64) int64 {
	want := (end - start) / 240
	for _, s := range []time.Duration{
		10 * time.Millisecond, 100 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second,
		15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute,
		15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 6 * time.Hour, 12 * time.Hour,
	} {
		if int64(s) >= want {
			return int64(s)
		}
	}
	return int64(24 * time.Hour)
}

// Len returns the number of points.
func (r Range) Len() int { return r.len }

// Step returns the time between points.
func (r Range) Step() int64 { return r.step }

// Bounds returns the times of the first and the last span that count, both
// inclusive.
func (r Range) Bounds() (first, last int64) {
	return r.start - r.step + 1, r.start + int64(r.len-1)*r.step
}

// Times returns the points.
func (r Range) Times() []int64 {
	times := make([]int64, r.len)
	for i := range times {
		times[i] = r.start + int64(i)*r.step
	}
	return times
}

// Bin returns the point that a span with a start counts for, -1 if none.
func (r Range) Bin(start int64) int {
	first, last := r.Bounds()
	if start < first || start > last {
		return -1
	}
	return int((start - first) / r.step)
}

// binner finds bins of times that mostly follow each other without dividing.
type binner struct {
	r           Range
	first, last int64 // of all bins
	from, to    int64 // of the last bin found, inclusive
	bin         int
}

func newBinner(r Range) binner {
	b := binner{r: r, from: 1}
	b.first, b.last = r.Bounds()
	return b
}

func (b *binner) find(t int64) int {
	if t < b.from || t > b.to {
		if t < b.first || t > b.last {
			return -1
		}
		b.bin = int((t - b.first) / b.r.step)
		b.from = b.first + int64(b.bin)*b.r.step
		b.to = b.from + b.r.step - 1
	}
	return b.bin
}
