package statsd

import (
	"context"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/model/value"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/remotewrite"
	"github.com/vedette-io/vedette/internal/labels"
)

const (
	// seriesPerLock is how many series a flush visits before it lets events in.
	seriesPerLock = 500
	// chunkBytes is the size at which a flush writes what it has.
	chunkBytes = 1 << 20
	// announceEvery is after how many flushes a family's metadata goes out again.
	announceEvery = 60
)

var quantiles = []float64{0.5, 0.9, 0.99}

// flusher writes the table. It is used by one goroutine.
type flusher struct {
	table   *table
	entry   *door.Entry
	metrics *metrics

	last    int64 // time of the last flush
	flushes int64

	builder remotewrite.Builder
	payload []byte
	set     []byte
	merged  sketch[uint32]
	values  []float64
	bounds  []string // of buckets
	ranks   []string // of quantiles
	expired []alias  // in the chunk at hand
}

func newFlusher(t *table, entry *door.Entry, m *metrics) *flusher {
	f := &flusher{table: t, entry: entry, metrics: m, values: make([]float64, len(quantiles))}
	for _, q := range quantiles {
		f.ranks = append(f.ranks, formatFloat(q))
	}
	for _, b := range t.cfg.Buckets {
		f.bounds = append(f.bounds, formatFloat(b))
	}
	f.bounds = append(f.bounds, "+Inf")
	return f
}

// formatFloat writes a number as the values of le and quantile are written:
// integers end in ".0".
func formatFloat(v float64) string {
	s := strconv.FormatFloat(v, 'g', -1, 64)
	for _, c := range s {
		if c == '.' || c == 'e' {
			return s
		}
	}
	return s + ".0"
}

// flush writes a sample of every series at time now. What the door refuses for
// the moment is tried again until ctx ends.
func (f *flusher) flush(ctx context.Context, now time.Time) error {
	at := max(now.UnixMilli(), f.last+1)
	f.last = at
	f.flushes++
	var errs []error
	for next := 0; next >= 0; {
		next = f.collect(next, at)
		if f.builder.Size() >= chunkBytes || next < 0 {
			if err := f.write(ctx); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// collect adds some of the series to the request and returns where to go on, or
// -1.
func (f *flusher) collect(from int, at int64) (next int) {
	t := f.table
	t.mu.Lock()
	defer t.mu.Unlock()
	end := min(from+seriesPerLock, len(t.series))
	for i := from; i < end; i++ {
		if s := &t.series[i]; s.family != nil {
			f.visit(int32(i), s, at)
		}
		if f.builder.Size() >= chunkBytes {
			end = i + 1
		}
	}
	if end >= len(t.series) {
		return -1
	}
	return end
}

// visit adds a series to the request and ages it.
func (f *flusher) visit(i int32, s *series, at int64) {
	t := f.table
	stale := false
	switch {
	case s.touched:
		s.touched, s.lastSeen = false, at
	case s.lastSeen == 0: // all it ever got was malformed
		t.remove(i)
		return
	case t.cfg.TTL > 0 && at-s.lastSeen >= t.cfg.TTL.Milliseconds():
		stale = true
		f.expired = append(f.expired, alias{i, s.gen})
	}
	if s.start >= at {
		s.start = at - 1
	}
	f.announce(s.family)
	switch s.family.kind {
	case counter:
		f.sample(s, "", "", "", s.start, at, staleOr(stale, s.value))
	case gauge:
		f.sample(s, "", "", "", 0, at, staleOr(stale, s.value))
	case set:
		f.sample(s, "", "", "", 0, at, staleOr(stale, float64(s.members.n)))
		t.empty(&s.members)
	case observer:
		f.observer(s, at, stale)
	}
}

func staleOr(stale bool, v float64) float64 {
	if stale {
		return math.Float64frombits(value.StaleNaN)
	}
	return v
}

func (f *flusher) observer(s *series, at int64, stale bool) {
	switch {
	case s.native != nil:
		h := native(s.native, s.count, s.value)
		if stale {
			h = &histogram.Histogram{Sum: math.Float64frombits(value.StaleNaN)}
		}
		f.begin(s, "", "", "")
		if err := f.builder.Histogram(s.start, at, h, nil); err != nil {
			panic("BUG: encode a histogram of our own: " + err.Error())
		}
		f.builder.End()
		return
	case s.summary != nil:
		s.summary.merged(&f.merged)
		f.merged.quantiles(quantiles, f.values)
		for i, v := range f.values {
			f.sample(s, "", "quantile", f.ranks[i], 0, at, staleOr(stale, v))
		}
		f.table.sketchBytes -= s.summary.turn(at / ageMillis)
	default:
		total := uint64(0)
		for i, n := range s.buckets {
			total += n
			f.sample(s, "_bucket", "le", f.bounds[i], s.start, at, staleOr(stale, float64(total)))
		}
	}
	f.sample(s, "_sum", "", "", s.start, at, staleOr(stale, s.value))
	f.sample(s, "_count", "", "", s.start, at, staleOr(stale, float64(s.count)))
}

func (f *flusher) sample(s *series, suffix, label, labelValue string, start, at int64, v float64) {
	f.begin(s, suffix, label, labelValue)
	f.builder.Sample(start, at, v)
	f.builder.End()
}

// begin starts a series of the request: the series' name with a suffix, its
// labels, and one label more if it is given.
func (f *flusher) begin(s *series, suffix, label, labelValue string) {
	set := append(f.set[:0], s.tags[:s.nameAt]...)
	if suffix == "" {
		set = labels.Append(set, metricName, s.family.name)
	} else {
		set = labels.Append(set, metricName, s.family.name+suffix)
	}
	set = append(set, s.tags[s.nameAt:s.extraAt]...)
	if label != "" {
		set = labels.Append(set, label, labelValue)
	}
	f.set = append(set, s.tags[s.extraAt:]...)
	f.builder.Begin(f.set)
}

// announce adds a family's metadata to the request now and then.
func (f *flusher) announce(fam *family) {
	if fam.announced >= 0 && f.flushes-fam.announced < announceEvery {
		return
	}
	fam.announced = f.flushes
	typ := model.MetricTypeGauge
	switch {
	case fam.kind == counter:
		typ = model.MetricTypeCounter
	case fam.kind == observer && f.table.cfg.Observers == ObserversSummary:
		typ = model.MetricTypeSummary
	case fam.kind == observer:
		typ = model.MetricTypeHistogram
	}
	f.builder.Metadata(fam.name, metadata.Metadata{Type: typ})
}

// write sends the request until it is taken or ctx ends, and then removes the
// series that have got their staleness marker by it.
func (f *flusher) write(ctx context.Context) error {
	defer func() { f.expired = f.expired[:0] }()
	if f.builder.Size() == 0 {
		return nil
	}
	f.payload = f.builder.Payload(f.payload)
	n := f.builder.Series()
	f.builder.Reset()
	const firstWait, mostWait = 100 * time.Millisecond, 5 * time.Second
	for wait := firstWait; ; wait = min(2*wait, mostWait) {
		_, err := f.entry.Write(ctx, f.table.cfg.Tenant, buffer.FormatRemoteWriteV1, f.payload)
		code, after := door.Status(err)
		f.entry.Answered(code)
		var partial *door.PartialError
		if err == nil || errors.As(err, &partial) {
			f.forget()
			f.metrics.written.Add(float64(n))
			return err
		}
		if after == 0 {
			f.metrics.lost.Add(float64(n))
			return err
		}
		f.metrics.retries.Inc()
		timer := time.NewTimer(max(after, wait))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			f.metrics.lost.Add(float64(n))
			return err
		}
	}
}

// forget removes expired series that have had no events meanwhile.
func (f *flusher) forget() {
	if len(f.expired) == 0 {
		return
	}
	t := f.table
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range f.expired {
		if s := &t.series[a.index]; s.gen == a.gen && s.family != nil && !s.touched {
			t.remove(a.index)
		}
	}
}
