package promqlsuite_test

import (
	"fmt"
	"testing"

	"github.com/vedette-io/vedette/query/promql/promqlsuite"
)

func openMemory(testing.TB) promqlsuite.Backend { return promqlsuite.NewMemory().Backend() }

func TestReferenceSuiteOverMemory(t *testing.T) { promqlsuite.RunReference(t, openMemory) }

// TestDifferentialOverMemory checks the differential test itself on the model.
// PROMQL_SEED replays one seed.
func TestDifferentialOverMemory(t *testing.T) {
	for _, seed := range promqlsuite.Seeds(t, 3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { promqlsuite.RunDifferential(t, openMemory, seed, 1000) })
	}
}
