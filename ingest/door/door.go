package door

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/vedette-io/vedette/ingest"
	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/remotewrite"
	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/tenant"
)

// Written counts what of a request was taken, duplicates of stored samples
// included.
type Written struct{ Samples, Histograms, Exemplars int }

// Door validates metrics and appends them to the buffer. It is safe for
// concurrent use and starts no goroutines that outlive a call.
type Door struct {
	buf     buffer.Buffer
	cfg     Config
	log     *slog.Logger
	metrics *metrics

	memory  *semaphore.Weighted
	waiting atomic.Int64 // bytes of batches that the store has not taken yet
	slots   *semaphore.Weighted
	rates   tenants
	closed  atomic.Bool
	writes  sync.WaitGroup

	requests sync.Pool // *request
	bodies   sync.Pool // *[]byte
}

// New returns a door to buf.
func New(buf buffer.Buffer, cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Door, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Door{
		buf: buf, cfg: cfg, log: log, metrics: newMetrics(reg),
		memory: semaphore.NewWeighted(cfg.MaxInFlightBytes),
		slots:  semaphore.NewWeighted(int64(cfg.MaxConcurrent)),
	}, nil
}

// Close refuses new writes and waits for those under way.
func (d *Door) Close() {
	d.closed.Store(true)
	d.writes.Wait()
}

// request is a write under way. It lives until the writer and the consumers of
// all its deliveries are done with it.
type request struct {
	door     *Door
	refs     atomic.Int32
	reserved atomic.Int64
	waiting  int64 // what it adds to the door's waiting

	rw       remotewrite.Request
	outcomes chan ingest.Outcome
	limits   remotewrite.Limits
}

func (d *Door) newRequest() *request {
	q, ok := d.requests.Get().(*request)
	if !ok {
		q = &request{door: d}
		q.limits.Reserve = q.reserve
	}
	q.refs.Store(1)
	return q
}

// reserve charges memory to the request; it does not wait, since the request
// holds memory already.
func (q *request) reserve(n int) error {
	if !q.door.memory.TryAcquire(int64(n)) {
		return &OverloadError{What: "too many bytes in flight", RetryAfter: time.Second}
	}
	q.reserved.Add(int64(n))
	q.door.metrics.inFlight.Add(float64(n))
	return nil
}

// release ends one use of the request.
func (q *request) release() {
	if q.refs.Add(-1) > 0 {
		return
	}
	d := q.door
	n := q.reserved.Swap(0)
	d.waiting.Add(-q.waiting)
	q.waiting = 0
	q.rw.Reset()
	q.outcomes = nil
	d.requests.Put(q)
	d.memory.Release(n)
	d.metrics.inFlight.Sub(float64(n))
}

// Write takes one remote write request of a tenant: it returns once the payload
// is durable in the buffer and the store has taken it, or StoreTimeout after the
// former. The error is a *PartialError if a part was refused and the rest is
// written; after any other error nothing of the request is acknowledged. Status
// maps it. compressed is not used after Write returns.
func (d *Door) Write(ctx context.Context, tenantID string, format buffer.Format, compressed []byte) (Written, error) {
	d.writes.Add(1)
	defer d.writes.Done()
	if d.closed.Load() {
		return Written{}, buffer.ErrClosed
	}
	if err := tenant.Validate(tenantID); err != nil {
		return Written{}, err
	}
	if err := d.slot(ctx); err != nil {
		return Written{}, err
	}
	defer d.slots.Release(1)
	start := time.Now()
	q := d.newRequest()
	defer q.release()
	w, err := q.write(ctx, tenantID, format, compressed, start)
	d.metrics.seconds.Observe(time.Since(start).Seconds())
	return w, err
}

// slot waits for a turn.
func (d *Door) slot(ctx context.Context) error {
	if d.slots.TryAcquire(1) {
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, d.cfg.QueueTimeout)
	defer cancel()
	if err := d.slots.Acquire(wait, 1); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &OverloadError{What: "too many requests at a time", RetryAfter: time.Second}
	}
	return nil
}

func (q *request) write(ctx context.Context, tenantID string, format buffer.Format, compressed []byte, now time.Time) (Written, error) {
	d := q.door
	l := d.cfg.limitsOf(tenantID)
	q.limits.MaxDecodedBytes = d.cfg.MaxDecodedBytes
	q.limits.MaxLabels = max(l.MaxLabels, 0)
	q.limits.MaxLabelNameBytes = max(l.MaxLabelNameBytes, 0)
	q.limits.MaxLabelValueBytes = max(l.MaxLabelValueBytes, 0)
	q.limits.MaxTime = 0
	if l.MaxFuture > 0 {
		q.limits.MaxTime = now.Add(l.MaxFuture).UnixMilli()
	}
	if err := q.rw.Decode(format, compressed, q.limits); err != nil {
		return Written{}, err
	}
	d.metrics.countRejects(&q.rw.Rejects)
	samples := q.rw.Metrics.Samples()
	if wait := d.rates.allow(tenantID, samples, l); wait > 0 {
		return Written{}, &RateError{Tenant: tenantID, PerSecond: l.SamplesPerSecond, RetryAfter: wait}
	}
	d.metrics.decoded.Add(float64(samples))
	parts, err := q.rw.Parts(compressed, d.buf.Partitions(buffer.TopicMetrics))
	if err != nil {
		return Written{}, err
	}
	if len(parts) == 0 {
		return Written{}, partial(&q.rw.Rejects, nil)
	}
	have := Written{
		Samples: len(q.rw.Metrics.Times), Histograms: len(q.rw.Metrics.Histograms), Exemplars: len(q.rw.Metrics.Exemplars),
	}
	rejects := q.rw.Rejects
	outcomes := make(chan ingest.Outcome, len(parts))
	q.outcomes = outcomes
	n := len(parts) // the parts may be gone once they are appended
	if err := q.append(ctx, tenantID, parts); err != nil {
		return Written{}, err
	}
	result, known := d.await(ctx, outcomes, n)
	if !known {
		return have, partial(&rejects, nil)
	}
	return written(have, &result), partial(&rejects, &result)
}

// append puts all parts into the buffer, each with its delivery, and returns
// once every one is durable. A client that goes away does not interrupt it.
func (q *request) append(ctx context.Context, tenantID string, parts []remotewrite.Part) error {
	ctx = context.WithoutCancel(ctx)
	d := q.door
	attach := d.waiting.Load() < d.cfg.MaxInFlightBytes/2
	if attach {
		q.waiting = q.reserved.Load()
		d.waiting.Add(q.waiting)
	}
	q.refs.Add(int32(len(parts)))
	if len(parts) == 1 {
		return q.appendPart(ctx, tenantID, &parts[0], attach)
	}
	errs := make([]error, len(parts))
	var wg sync.WaitGroup
	for i := range parts[1:] {
		wg.Go(func() { errs[i+1] = q.appendPart(ctx, tenantID, &parts[i+1], attach) })
	}
	errs[0] = q.appendPart(ctx, tenantID, &parts[0], attach)
	wg.Wait()
	return errors.Join(errs...)
}

func (q *request) appendPart(ctx context.Context, tenantID string, p *remotewrite.Part, attach bool) error {
	delivery := ingest.NewDelivery(p.Metrics, q.outcomes, q.release)
	record := buffer.Record{
		Tenant: tenantID, Format: q.rw.Format(), MinTime: p.MinTime, MaxTime: p.MaxTime, Payload: p.Payload,
	}
	if attach {
		record.Attachment = delivery
	}
	_, err := q.door.buf.Append(ctx, buffer.TopicMetrics, p.Partition, []buffer.Record{record})
	if err != nil || !attach {
		// The buffer delivers nothing of an append that has not succeeded.
		delivery.Discard()
	}
	return err
}

// await gathers the outcomes of n deliveries, for a bounded time; known is
// false if one is missing or has no result.
func (d *Door) await(ctx context.Context, outcomes <-chan ingest.Outcome, n int) (sum signal.AppendResult, known bool) {
	timer := time.NewTimer(d.cfg.StoreTimeout)
	defer timer.Stop()
	known = true
	for range n {
		select {
		case o := <-outcomes:
			known = known && o.Known
			add(&sum, &o.Result)
		case <-ctx.Done():
			return sum, false
		case <-timer.C:
			d.metrics.timeouts.Inc()
			return sum, false
		}
	}
	return sum, known
}

func add(sum, r *signal.AppendResult) {
	sum.Appended += r.Appended
	sum.Histograms += r.Histograms
	sum.Exemplars += r.Exemplars
	sum.Duplicates += r.Duplicates
	sum.Conflicts += r.Conflicts
	sum.TooOld += r.TooOld
	sum.OutOfBounds += r.OutOfBounds
	sum.SeriesLimit += r.SeriesLimit
	if sum.FirstError == "" {
		sum.FirstError = r.FirstError
	}
}

// written says how much of have the store took. Duplicates count as written,
// since they are stored, but come without their kind: samples take them first.
func written(have Written, r *signal.AppendResult) Written {
	if r.Rejected() == 0 {
		have.Exemplars = min(have.Exemplars, r.Exemplars)
		return have
	}
	w := Written{Samples: r.Appended - r.Histograms, Histograms: r.Histograms, Exemplars: r.Exemplars}
	n := min(r.Duplicates, have.Samples-w.Samples)
	w.Samples += n
	w.Histograms = min(have.Histograms, w.Histograms+r.Duplicates-n)
	return w
}

// partial returns the error for what validation and the store have refused, or
// nil.
func partial(rejects *remotewrite.Rejects, r *signal.AppendResult) error {
	n, first := 0, ""
	if rejects.Any() {
		for _, k := range rejects.ByReason {
			n += k
		}
		first = rejects.First.Error()
	}
	if r != nil {
		n += r.Rejected()
		if first == "" {
			first = r.FirstError
		}
	}
	if n == 0 {
		return nil
	}
	return &PartialError{Refused: n, First: first}
}
