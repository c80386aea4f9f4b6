package promqlsuite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"

	canonical "github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/tenant"
	"github.com/vedette-io/vedette/query/promql"
)

// Storage makes a Backend look like the reference storage.
type Storage struct {
	*promql.Queryable
	backend Backend
	offset  atomic.Int64
}

var _ storage.Storage = (*Storage)(nil)

// NewStorage returns b as a storage.Storage.
func NewStorage(b Backend) *Storage {
	return &Storage{Queryable: promql.NewQueryable(b.Store, 0), backend: b}
}

// Appender implements storage.Appendable.
func (s *Storage) Appender(ctx context.Context) storage.Appender {
	return &appenderV1{s.newAppender(ctx)}
}

// AppenderV2 implements storage.AppendableV2.
func (s *Storage) AppenderV2(ctx context.Context) storage.AppenderV2 { return s.newAppender(ctx) }

// StartTime implements storage.Storage.
func (s *Storage) StartTime() (int64, error) { return 0, nil }

// Close implements storage.Storage.
func (s *Storage) Close() error {
	if s.backend.Close == nil {
		return nil
	}
	return s.backend.Close()
}

func (s *Storage) newAppender(ctx context.Context) *appender {
	return &appender{ctx: ctx, storage: s}
}

// appender collects samples until Commit. A row of the batch is a run of
// samples of one series.
type appender struct {
	ctx     context.Context
	storage *Storage
	rows    []row
}

type row struct {
	labels     labels.Labels
	times      []int64
	starts     []int64
	values     []float64
	histograms []signal.HistogramSample
	exemplars  []exemplar.Exemplar
}

// Append implements storage.AppenderV2.
func (a *appender) Append(_ storage.SeriesRef, ls labels.Labels, start, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, opts storage.AppendV2Options) (storage.SeriesRef, error) {
	if n := len(a.rows); n == 0 || !labels.Equal(a.rows[n-1].labels, ls) {
		a.rows = append(a.rows, row{labels: ls.Copy()})
	}
	r := &a.rows[len(a.rows)-1]
	switch {
	case fh != nil:
		r.histograms = append(r.histograms, signal.HistogramSample{Time: t, Start: start, Float: fh.Copy()})
	case h != nil:
		r.histograms = append(r.histograms, signal.HistogramSample{Time: t, Start: start, Int: h.Copy()})
	default:
		r.times = append(r.times, t)
		r.starts = append(r.starts, start)
		r.values = append(r.values, v)
	}
	r.exemplars = append(r.exemplars, opts.Exemplars...)
	return 1, nil
}

// batch returns the rows as columns.
func (a *appender) batch() *signal.Metrics {
	m := &signal.Metrics{Tenant: tenant.FromContext(a.ctx)}
	for i, r := range a.rows {
		l := appendLabels(m, r.labels)
		m.Labels = append(m.Labels, l)
		m.Hash = append(m.Hash, canonical.HashCanonical(m.Bytes(l)))
		m.Times = append(m.Times, r.times...)
		m.Values = append(m.Values, r.values...)
		m.Starts = append(m.Starts, r.starts...)
		m.SampleEnd = append(m.SampleEnd, uint32(len(m.Times)))
		for _, h := range r.histograms {
			h.Series = uint32(i)
			m.Histograms = append(m.Histograms, h)
		}
		for _, e := range r.exemplars {
			m.Exemplars = append(m.Exemplars, signal.Exemplar{
				Series: uint32(i), Time: e.Ts, Value: e.Value, Labels: appendLabels(m, e.Labels),
			})
		}
	}
	if !slices.ContainsFunc(m.Starts, func(t int64) bool { return t != 0 }) {
		m.Starts = nil
	}
	return m
}

func appendLabels(m *signal.Metrics, ls labels.Labels) signal.ByteRange {
	off := len(m.Buf)
	ls.Range(func(l labels.Label) {
		if l.Value != "" {
			m.Buf = canonical.Append(m.Buf, l.Name, l.Value)
		}
	})
	return signal.ByteRange{Off: uint32(off), Len: uint32(len(m.Buf) - off)}
}

// Commit implements storage.AppenderTransaction.
func (a *appender) Commit() error {
	if len(a.rows) == 0 {
		return nil
	}
	b := a.storage.backend
	res, err := b.Sink.AppendMetrics(a.ctx, a.batch(), "promqlsuite", "metrics", 0, a.storage.offset.Add(1)-1)
	if err != nil {
		return err
	}
	if res.Rejected() > 0 {
		return fmt.Errorf("append batch: %d samples refused: %s", res.Rejected(), res.FirstError)
	}
	a.rows = nil
	if b.Settle != nil {
		return b.Settle()
	}
	return nil
}

// Rollback implements storage.AppenderTransaction.
func (a *appender) Rollback() error {
	a.rows = nil
	return nil
}

// appenderV1 is the older interface over the same rows.
type appenderV1 struct{ *appender }

func (a *appenderV1) Append(ref storage.SeriesRef, ls labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	return a.appender.Append(ref, ls, 0, t, v, nil, nil, storage.AppendV2Options{})
}

func (a *appenderV1) AppendHistogram(ref storage.SeriesRef, ls labels.Labels, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return a.appender.Append(ref, ls, 0, t, 0, h, fh, storage.AppendV2Options{})
}

func (a *appenderV1) AppendExemplar(_ storage.SeriesRef, ls labels.Labels, e exemplar.Exemplar) (storage.SeriesRef, error) {
	a.rows = append(a.rows, row{labels: ls.Copy(), exemplars: []exemplar.Exemplar{e}})
	return 1, nil
}

func (a *appenderV1) AppendSTZeroSample(storage.SeriesRef, labels.Labels, int64, int64) (storage.SeriesRef, error) {
	return 0, errors.ErrUnsupported
}

func (a *appenderV1) AppendHistogramSTZeroSample(storage.SeriesRef, labels.Labels, int64, int64, *histogram.Histogram, *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return 0, errors.ErrUnsupported
}

func (a *appenderV1) UpdateMetadata(storage.SeriesRef, labels.Labels, metadata.Metadata) (storage.SeriesRef, error) {
	return 0, errors.ErrUnsupported
}

func (a *appenderV1) SetOptions(*storage.AppendOptions) {}
