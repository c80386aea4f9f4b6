package wire

import "math"

// MaxBuf is the largest Buf of a batch and body of a request: offsets in a
// ByteRange stay in range with a margin.
const MaxBuf = math.MaxUint32 / 2

// reserveStep is how much memory is asked for at least.
const reserveStep = 64 << 10

// Budget accounts for the memory of one decode.
type Budget struct {
	reserve  func(sizeBytes int) error
	reserved int
	slack    int
}

// Begin starts the account of a decode. reserve is asked before more memory is
// taken; nil grants everything.
func (b *Budget) Begin(reserve func(sizeBytes int) error) {
	*b = Budget{reserve: reserve}
}

// Reserved returns how many bytes have been granted since Begin.
func (b *Budget) Reserved() int { return b.reserved }

// Charge accounts for n bytes that are about to be taken.
func (b *Budget) Charge(n int) error {
	b.slack -= n
	if b.slack >= 0 || b.reserve == nil {
		return nil
	}
	ask := max(-b.slack, reserveStep)
	if err := b.reserve(ask); err != nil {
		return err
	}
	b.reserved += ask
	b.slack += ask
	return nil
}

// Grow makes room for one more element of the given size and charges for it.
func Grow[T any](b *Budget, s []T, sizeBytes int) ([]T, error) {
	if len(s) < cap(s) {
		return s, nil
	}
	room := max(2*cap(s), 64)
	if err := b.Charge((room - cap(s)) * sizeBytes); err != nil {
		return s, err
	}
	bigger := make([]T, len(s), room)
	copy(bigger, s)
	return bigger, nil
}

// GrowBuf makes room for n more bytes in the Buf of a batch and charges for it.
func GrowBuf(b *Budget, buf []byte, n int) ([]byte, error) {
	if cap(buf)-len(buf) >= n {
		return buf, nil
	}
	if len(buf)+n > MaxBuf {
		return buf, &SizeError{What: "labels of all series", Got: len(buf) + n, Limit: MaxBuf}
	}
	room := max(len(buf)+n, cap(buf)+cap(buf)/2, 4096)
	if err := b.Charge(room); err != nil {
		return buf, err
	}
	bigger := make([]byte, len(buf), room)
	copy(bigger, buf)
	return bigger, nil
}
