package promqlsuite

import (
	"testing"

	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
)

// RunReference runs the reference engine's own test suite over the stores that
// open makes.
func RunReference(t *testing.T, open Open) {
	engine := promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)
	promqltest.RunBuiltinTestsWithStorage(t, engine, func(t testing.TB) storage.Storage {
		return NewStorage(open(t))
	})
}
