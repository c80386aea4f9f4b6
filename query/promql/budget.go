package promql

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/prometheus/prometheus/util/annotations"
)

// LimitError reports a query that was refused because it needs more of a
// resource than one query may use.
type LimitError struct {
	Resource string // what was used up, "bytes"
	Key      string // configuration key of the limit
	Limit    int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("query reads more than %d %s of series and samples (limit %s): narrow its time range or its matchers",
		e.Limit, e.Resource, e.Key)
}

// Budget is what one query may still read, and what its reads had to leave out.
// It is safe for concurrent use.
type Budget struct {
	limit int64
	used  atomic.Int64

	mu       sync.Mutex
	warnings annotations.Annotations
}

// NewBudget returns a budget of limit bytes; 0 is no limit.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// Charge takes bytes from the budget, or returns a *LimitError.
func (b *Budget) Charge(bytes int64) error {
	if used := b.used.Add(bytes); b.limit > 0 && used > b.limit {
		return &LimitError{Resource: "bytes", Key: "query.max_bytes", Limit: b.limit}
	}
	return nil
}

// Used returns how many bytes were charged so far.
func (b *Budget) Used() int64 { return b.used.Load() }

// warn notes what a read had to leave out.
func (b *Budget) warn(errs []error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, err := range errs {
		b.warnings.Add(err)
	}
}

// Warnings returns what the reads of closed queriers had to leave out.
func (b *Budget) Warnings() annotations.Annotations {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.warnings
}

type budgetKey struct{}

// WithBudget returns a context whose reads are charged to b.
func WithBudget(ctx context.Context, b *Budget) context.Context {
	return context.WithValue(ctx, budgetKey{}, b)
}

func budgetFrom(ctx context.Context) (*Budget, bool) {
	b, ok := ctx.Value(budgetKey{}).(*Budget)
	return b, ok
}
