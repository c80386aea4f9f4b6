package promql_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/vedette-io/vedette/query/promql"
	"github.com/vedette-io/vedette/query/promql/promqlsuite"
	"github.com/vedette-io/vedette/storage/metric"
)

// openDB opens the real store with room for samples of any age: the suites
// write in 1970 and 2023. settle is called between appends.
func openDB(settle func(*metric.DB) error) promqlsuite.Open {
	return func(t testing.TB) promqlsuite.Backend {
		cfg := metric.DefaultConfig()
		cfg.Retention = 100 * 365 * 24 * time.Hour
		cfg.OutOfOrderWindow = 1000 * time.Hour
		db, err := metric.Open(metric.Options{Dir: t.TempDir(), Config: cfg})
		if err != nil {
			t.Fatal(err)
		}
		b := promqlsuite.Backend{Store: promql.NewStore[*metric.SeriesSet](db), Sink: db, Close: db.Close}
		if settle != nil {
			b.Settle = func() error { return settle(db) }
		}
		return b
	}
}

func flush(t testing.TB) func(*metric.DB) error {
	return func(db *metric.DB) error { return db.Flush(t.Context()) }
}

func TestReferenceSuite(t *testing.T) {
	t.Run("head", func(t *testing.T) { promqlsuite.RunReference(t, openDB(nil)) })
	t.Run("blocks", func(t *testing.T) { promqlsuite.RunReference(t, openDB(flush(t))) })
}

func TestDifferential(t *testing.T) {
	appends := 0
	maintain := func(db *metric.DB) error {
		if appends++; appends%7 == 0 {
			if err := db.Flush(t.Context()); err != nil {
				return err
			}
		}
		if appends%31 == 0 {
			return db.Maintain(t.Context())
		}
		return nil
	}
	for _, seed := range promqlsuite.Seeds(t, 3) {
		t.Run(fmt.Sprint(seed, "/head"), func(t *testing.T) { promqlsuite.RunDifferential(t, openDB(nil), seed, 500) })
		t.Run(fmt.Sprint(seed, "/blocks"), func(t *testing.T) { promqlsuite.RunDifferential(t, openDB(maintain), seed, 500) })
	}
}
