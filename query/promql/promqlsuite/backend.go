package promqlsuite

import (
	"context"
	"testing"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/query/promql"
)

// Sink takes batches into a store.
type Sink interface {
	AppendMetrics(ctx context.Context, m *signal.Metrics, source, topic string, partition int32, offset int64) (signal.AppendResult, error)
}

// Backend is a store under test.
type Backend struct {
	Store promql.Store
	Sink  Sink
	// Settle, if set, is called between appends and queries, so that a test can
	// flush or merge there.
	Settle func() error
	// Close, if set, releases the store.
	Close func() error
}

// Open makes an empty store for one test.
type Open func(t testing.TB) Backend
