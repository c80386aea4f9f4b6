package wire

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
