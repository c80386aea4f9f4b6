package promqlsuite_test

import (
	"testing"

	"github.com/vedette-io/vedette/query/promql/promqlsuite"
)

func openMemory(testing.TB) promqlsuite.Backend { return promqlsuite.NewMemory().Backend() }

func TestReferenceSuiteOverMemory(t *testing.T) { promqlsuite.RunReference(t, openMemory) }
