package scrape

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/remotewrite"
)

// Writer takes remote write requests; *door.Entry is one.
type Writer interface {
	Write(ctx context.Context, tenantID string, format buffer.Format, compressed []byte) (door.Written, error)
}

const (
	// chunkBytes is the size at which a request is cut, so that a target with
	// very many series stays within what a door takes.
	chunkBytes = 1 << 20

	// commitTimeout bounds how long one request of a scrape may take.
	commitTimeout = 30 * time.Second
)

// appendable implements storage.AppendableV2.
type appendable struct {
	writer  Writer
	tenant  string
	log     *slog.Logger
	metrics *metrics
	series  *cache
	free    sync.Pool // *appender

	mu       sync.Mutex
	families map[string]metadata.Metadata // what the store has been told
}

func newAppendable(w Writer, tenantID string, log *slog.Logger, m *metrics) *appendable {
	return &appendable{
		writer: w, tenant: tenantID, log: log, metrics: m, series: newCache(), families: map[string]metadata.Metadata{},
	}
}

// AppenderV2 implements storage.AppendableV2.
func (p *appendable) AppenderV2(ctx context.Context) storage.AppenderV2 {
	a, ok := p.free.Get().(*appender)
	if !ok {
		a = &appender{p: p}
	}
	// A scrape that has been parsed is kept even if its loop ends meanwhile.
	a.ctx = context.WithoutCancel(ctx)
	a.now = time.Now()
	return a
}

// told is a series' last sample as it was before this scrape.
type told struct {
	series *series
	before point
}

// appender gathers one scrape.
type appender struct {
	p   *appendable
	ctx context.Context
	now time.Time

	request  remotewrite.Builder
	chunks   [][]byte // finished requests, compressed
	undo     []told
	families []family
}

type family struct {
	name string
	meta metadata.Metadata
}

// Append implements storage.AppenderV2.
func (a *appender) Append(ref storage.SeriesRef, ls labels.Labels, st, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, opts storage.AOptions) (storage.SeriesRef, error) {
	if ls.IsEmpty() {
		return 0, errors.New("append scraped sample: series has no labels")
	}
	now := point{time: t, bits: math.Float64bits(v), kind: kindFloat}
	if h != nil || fh != nil {
		now.bits, now.kind = 0, kindHistogram
	}
	s, exemplars, err := a.advance(ref, ls, now, &opts)
	if err != nil || s == nil {
		return ref, err
	}
	b := &a.request
	b.Begin(s.lset)
	if now.kind == kindHistogram {
		if err := b.Histogram(st, t, h, fh); err != nil {
			return 0, err
		}
	} else {
		b.Sample(st, t, v)
	}
	for i := range exemplars {
		b.Exemplar(&exemplars[i])
	}
	b.End()
	a.addMetadata(opts.MetricFamilyName, opts.Metadata)
	if b.Size() >= chunkBytes {
		a.cut()
	}
	return s.ref, nil
}

// advance finds the series and makes now its last sample, and picks the exemplars
// that are new. It returns no series if the sample has been appended already.
func (a *appender) advance(ref storage.SeriesRef, ls labels.Labels, now point, opts *storage.AOptions) (*series, []exemplar.Exemplar, error) {
	c := a.p.series
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.getLocked(ref, ls, a.now)
	if s.last.kind != kindNone {
		switch {
		case now.time < s.last.time && opts.RejectOutOfOrder:
			return nil, nil, storage.ErrOutOfOrderSample
		case now.time < s.last.time:
			return s, s.freshLocked(opts.Exemplars), nil
		case now.time == s.last.time && now != s.last:
			return nil, nil, storage.ErrDuplicateSampleForTimestamp
		case now.time == s.last.time && now.kind == kindFloat && s.ref == ref:
			return nil, nil, nil
		}
	}
	a.undo = append(a.undo, told{s, s.last})
	s.last = now
	return s, s.freshLocked(opts.Exemplars), nil
}

// addMetadata tells the store about a family when there is news.
func (a *appender) addMetadata(name string, meta metadata.Metadata) {
	// The names of the scraper's own report samples end in a byte that sets them
	// apart in its cache.
	name = strings.TrimSuffix(name, "\xff")
	if name == "" || meta.IsEmpty() {
		return
	}
	if n := len(a.families); n > 0 && a.families[n-1].name == name {
		return
	}
	a.p.mu.Lock()
	known, ok := a.p.families[name]
	a.p.mu.Unlock()
	if ok && known == meta {
		return
	}
	f := family{strings.Clone(name), metadata.Metadata{Type: meta.Type, Unit: strings.Clone(meta.Unit), Help: strings.Clone(meta.Help)}}
	a.families = append(a.families, f)
	a.request.Metadata(f.name, f.meta)
}

// cut finishes the request under construction.
func (a *appender) cut() {
	a.chunks = append(a.chunks, a.request.Payload(nil))
	a.request.Reset()
}

// Commit implements storage.AppenderTransaction: it returns when the scrape is
// durable, or takes nothing of it.
func (a *appender) Commit() error {
	if a.request.Size() > 0 {
		a.cut()
	}
	for i, chunk := range a.chunks {
		if err := a.write(chunk); err != nil {
			if i == 0 {
				a.restore()
			}
			a.finish()
			return err
		}
	}
	if len(a.families) > 0 {
		a.p.mu.Lock()
		for _, f := range a.families {
			a.p.families[f.name] = f.meta
		}
		a.p.mu.Unlock()
	}
	a.p.series.sweep(a.now)
	a.finish()
	return nil
}

// write gives one request to the door. A part that is refused is the target's
// fault: it is logged, and the rest of the scrape stands.
func (a *appender) write(chunk []byte) error {
	ctx, cancel := context.WithTimeout(a.ctx, commitTimeout)
	defer cancel()
	_, err := a.p.writer.Write(ctx, a.p.tenant, buffer.FormatRemoteWriteV1, chunk)
	var partial *door.PartialError
	if errors.As(err, &partial) {
		a.p.metrics.refused.Add(float64(partial.Refused))
		a.p.log.Warn("store a part of a scrape", "refused", partial.Refused, "first", partial.First)
		return nil
	}
	if err != nil {
		a.p.metrics.lost.Inc()
	}
	return err
}

// Rollback implements storage.AppenderTransaction.
func (a *appender) Rollback() error {
	a.restore()
	a.finish()
	return nil
}

// restore forgets what the scrape has said about its series.
func (a *appender) restore() {
	c := a.p.series
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := len(a.undo) - 1; i >= 0; i-- {
		a.undo[i].series.last = a.undo[i].before
	}
}

// finish empties the appender and keeps its memory for the next scrape.
func (a *appender) finish() {
	clear(a.chunks)
	clear(a.undo)
	clear(a.families)
	a.ctx = nil
	a.request.Reset()
	a.chunks, a.undo, a.families = a.chunks[:0], a.undo[:0], a.families[:0]
	a.p.free.Put(a)
}
