package spanmetrics

import (
	"context"
	"encoding/hex"
	"errors"
	"math"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	promlabels "github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/model/value"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/remotewrite"
)

const (
	// chunkBytes is the size at which a flush writes what it has.
	chunkBytes = 1 << 20
	// announceEvery is after how many flushes a tenant's metadata goes out again.
	announceEvery = 60
)

// flusher drains the shards and writes the series. It is used by one goroutine.
type flusher struct {
	g     *Generator
	entry *door.Entry

	last    int64 // time of the last flush, unix milliseconds
	flushes int64

	builder remotewrite.Builder
	payload []byte
	set     []byte
	tenants []*tenant
	series  []*series
	ended   []*series // in the chunk at hand
	swept   bool      // whether series have ended in this flush
}

func newFlusher(g *Generator, entry *door.Entry) *flusher { return &flusher{g: g, entry: entry} }

// flush writes a sample of every series at time now. What the door refuses for
// the moment is tried again until ctx ends.
func (f *flusher) flush(ctx context.Context, now time.Time) error {
	at := max(now.UnixMilli(), f.last+1)
	f.last = at
	f.flushes++
	shards := *f.g.shards.Load()
	for _, s := range shards {
		n := s.drain(now.UnixNano(), at)
		f.g.metrics.count(&n)
	}
	var errs []error
	f.tenants = f.g.registry.all(f.tenants[:0])
	for _, t := range f.tenants {
		if err := f.tenant(ctx, t, at); err != nil {
			errs = append(errs, err)
		}
	}
	if f.swept {
		f.swept = false
		for _, s := range shards {
			s.sweep()
		}
	}
	return errors.Join(errs...)
}

// tenant writes a tenant's series.
func (f *flusher) tenant(ctx context.Context, t *tenant, at int64) error {
	f.g.registry.prune(t, at)
	f.series = f.g.registry.list(t, f.series[:0])
	if len(f.series) == 0 {
		return nil
	}
	if f.flushes-t.announced >= announceEvery {
		t.announced = f.flushes
		f.announce()
	}
	var errs []error
	for _, s := range f.series {
		f.visit(t, s, at)
		if f.builder.Size() >= chunkBytes {
			errs = append(errs, f.write(ctx, t))
		}
	}
	errs = append(errs, f.write(ctx, t))
	clear(f.series)
	return errors.Join(errs...)
}

// visit adds a series to the request, unless nothing has come for it yet.
func (f *flusher) visit(t *tenant, s *series, at int64) {
	if s.lastSeen == 0 {
		return // made after the shard was drained
	}
	stale := f.g.cfg.TTL > 0 && at-s.lastSeen >= f.g.cfg.TTL.Milliseconds()
	if stale {
		f.ended = append(f.ended, s)
	}
	if s.start >= at {
		s.start = at - 1
	}
	if s.edge == nil {
		f.sample(s, f.g.names.calls, "", "", at, float64(s.calls), stale)
		f.histogram(s, f.g.names.duration, &s.hists[0], at, stale)
		return
	}
	f.g.registry.record(t, s, at)
	f.sample(s, graphRequests, "", "", at, float64(s.calls), stale)
	f.sample(s, graphFailed, "", "", at, float64(s.failed), stale)
	if s.hists[0].count > 0 {
		f.histogram(s, graphServer, &s.hists[0], at, stale)
	}
	if s.hists[1].count > 0 {
		f.histogram(s, graphClient, &s.hists[1], at, stale)
	}
}

func (f *flusher) begin(s *series, name, suffix, le string) {
	f.set = s.labels.append(f.set[:0], name, suffix, le)
	f.builder.Begin(f.set)
}

func (f *flusher) sample(s *series, name, suffix, le string, at int64, v float64, stale bool) {
	f.begin(s, name, suffix, le)
	f.builder.Sample(s.start, at, orStale(v, stale))
	f.builder.End()
}

func orStale(v float64, stale bool) float64 {
	if stale {
		return math.Float64frombits(value.StaleNaN)
	}
	return v
}

// histogram adds a histogram and its new exemplars to the request.
func (f *flusher) histogram(s *series, name string, h *hist, at int64, stale bool) {
	list := h.ex.sorted()
	h.ex.n = 0
	if f.g.layout.native() {
		native := &histogram.Histogram{Sum: orStale(0, true)}
		if !stale {
			native = h.histogram()
		}
		f.begin(s, name, "", "")
		if err := f.builder.Histogram(s.start, at, native, nil); err != nil {
			panic("BUG: encode a histogram of our own: " + err.Error())
		}
		for i := range list {
			f.exemplar(&list[i])
		}
		f.builder.End()
		return
	}
	total := uint64(0)
	for i, n := range h.counts {
		total += n
		f.begin(s, name, "_bucket", f.g.layout.les[i])
		f.builder.Sample(s.start, at, orStale(float64(total), stale))
		for k := range list {
			if list[k].bucket == int32(i) {
				f.exemplar(&list[k])
			}
		}
		f.builder.End()
	}
	f.sample(s, name, "_sum", "", at, h.sum, stale)
	f.sample(s, name, "_count", "", at, float64(h.count), stale)
}

func (f *flusher) exemplar(e *example) {
	f.builder.Exemplar(&exemplar.Exemplar{
		Labels: promlabels.FromStrings("span_id", hex.EncodeToString(e.span[:]), "trace_id", hex.EncodeToString(e.trace[:])),
		Value:  float64(e.duration) / 1e9, Ts: e.end / int64(time.Millisecond), HasTs: true,
	})
}

// announce adds the metrics' metadata to the request.
func (f *flusher) announce() {
	c := f.g.names
	list := []struct {
		name, help, unit string
		typ              model.MetricType
	}{
		{c.calls, "Spans by service, name, kind and status.", "", model.MetricTypeCounter},
		{c.duration, "Durations of spans in seconds.", "seconds", model.MetricTypeHistogram},
		{graphRequests, "Requests between two services.", "", model.MetricTypeCounter},
		{graphFailed, "Requests between two services that failed on either side.", "", model.MetricTypeCounter},
		{graphServer, "Durations of requests between two services in seconds, as the server saw them.", "seconds", model.MetricTypeHistogram},
		{graphClient, "Durations of requests between two services in seconds, as the client saw them.", "seconds", model.MetricTypeHistogram},
	}
	if !f.g.cfg.ServiceGraph.Enabled {
		list = list[:2]
	}
	for _, m := range list {
		f.builder.Metadata(m.name, metadata.Metadata{Type: m.typ, Help: m.help, Unit: m.unit})
	}
}

// write sends the request until it is taken or ctx ends, and then removes the
// series that have got their staleness marker by it.
func (f *flusher) write(ctx context.Context, t *tenant) error {
	defer func() { f.ended = f.ended[:0] }()
	if f.builder.Size() == 0 {
		return nil
	}
	f.payload = f.builder.Payload(f.payload)
	n, m := f.builder.Series(), f.g.metrics
	f.builder.Reset()
	const firstWait, mostWait = 100 * time.Millisecond, 5 * time.Second
	for wait := firstWait; ; wait = min(2*wait, mostWait) {
		_, err := f.entry.Write(ctx, t.name, buffer.FormatRemoteWriteV1, f.payload)
		code, after := door.Status(err)
		f.entry.Answered(code)
		var partial *door.PartialError
		if err == nil || errors.As(err, &partial) {
			if len(f.ended) > 0 {
				f.g.registry.remove(t, f.ended)
				f.swept = true
			}
			m.written.Add(float64(n))
			return err
		}
		if after == 0 {
			m.lost.Add(float64(n))
			return err
		}
		m.retries.Inc()
		timer := time.NewTimer(max(after, wait))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			m.lost.Add(float64(n))
			return err
		}
	}
}
