package promql

import (
	"context"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/vedette-io/vedette/storage/metric"
)

// Store is the read side of a metric store.
type Store interface {
	// Select returns the series that satisfy sel, sorted by labels.
	Select(ctx context.Context, sel metric.Selector) (SeriesSet, error)
	// LabelNames returns the sorted label names of the series that satisfy sel.
	LabelNames(ctx context.Context, sel metric.Selector) ([]string, error)
	// LabelValues returns the sorted values of label name of the series that
	// satisfy sel.
	LabelValues(ctx context.Context, name string, sel metric.Selector) ([]string, error)
	// Exemplars returns the exemplars of the series that satisfy any of the sets.
	Exemplars(ctx context.Context, tenant string, minTime, maxTime int64, matcherSets [][]*labels.Matcher) ([]metric.SeriesExemplars, error)
}

// SeriesSet is a selection of series. Its methods may be called from several
// goroutines, Samples with a dst of each one's own; after Close only from none.
type SeriesSet interface {
	Len() int
	Labels(i int) labels.Labels
	// Samples resets dst and fills it with series i's samples within the selection.
	Samples(i int, dst *metric.Samples) error
	// Warnings returns what Samples has left out so far because it is damaged.
	Warnings() []error
	// Close releases what the set holds; it must be called once.
	Close()
}

// Database is a store whose series sets have the concrete type S.
type Database[S SeriesSet] interface {
	Select(ctx context.Context, sel metric.Selector) (S, error)
	LabelNames(ctx context.Context, sel metric.Selector) ([]string, error)
	LabelValues(ctx context.Context, name string, sel metric.Selector) ([]string, error)
	Exemplars(ctx context.Context, tenant string, minTime, maxTime int64, matcherSets [][]*labels.Matcher) ([]metric.SeriesExemplars, error)
}

// NewStore returns db as a Store.
func NewStore[S SeriesSet](db Database[S]) Store { return database[S]{db} }

type database[S SeriesSet] struct{ Database[S] }

func (d database[S]) Select(ctx context.Context, sel metric.Selector) (SeriesSet, error) {
	set, err := d.Database.Select(ctx, sel)
	if err != nil {
		return nil, err
	}
	return set, nil
}
