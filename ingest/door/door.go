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
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/signal"
)

// Written counts what of a request was taken, duplicates of what is stored
// included.
type Written struct{ Samples, Histograms, Exemplars, Spans, Records int }

// Options are what a Door is made of.
type Options struct {
	Buffer  buffer.Buffer
	Config  Config
	Formats *wire.Formats // that are taken

	// MaxRecordBytes is the largest payload that Buffer takes; larger ones are
	// divided. 0 is no limit.
	MaxRecordBytes int
	// Plain keeps payloads readable for others where there is a choice, since
	// Buffer compresses.
	Plain bool

	// Positions is what Buffer remembers of senders that number their messages; nil
	// if it remembers nothing, and then a request that is repeated is taken again.
	Positions buffer.Positions

	// Recaller is Buffer, if it finds positions by looking for them: others append to
	// it as well. It is then used instead of Positions.
	Recaller buffer.Recaller

	// KeepTrace returns which of a tenant's traces are wanted, or nil for all; it
	// may be nil itself.
	KeepTrace func(tenantID string) func(id signal.TraceID) bool

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Door validates metrics, spans and log records and appends them to the buffer. What
// comes in does so by an Entry. It is safe for concurrent use and starts no goroutines that
// outlive a call.
type Door struct {
	buf     buffer.Buffer
	cfg     Config
	formats *wire.Formats
	parts   wire.PartOptions // but for the partitions
	log     *slog.Logger
	metrics *metrics

	positions buffer.Positions // may be nil
	recaller  buffer.Recaller  // may be nil
	turns     turns

	keep func(tenantID string) func(signal.TraceID) bool // may be nil

	memory  *semaphore.Weighted
	waiting atomic.Int64 // bytes of batches that the store has not taken yet
	slots   *semaphore.Weighted
	rates   rates // of samples, by tenant
	spans   rates // of spans
	records rates // of log records
	closed  atomic.Bool
	writes  sync.WaitGroup

	requests sync.Pool // *request
	bodies   sync.Pool // *[]byte
}

// New returns a door; Entry opens ways in.
func New(o Options) (*Door, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	return &Door{
		buf: o.Buffer, cfg: o.Config, formats: o.Formats, log: o.Logger, metrics: newMetrics(o.Registerer),
		keep: o.KeepTrace, positions: o.Positions, recaller: o.Recaller,
		parts:  wire.PartOptions{MaxBytes: o.MaxRecordBytes, Plain: o.Plain},
		memory: semaphore.NewWeighted(o.Config.MaxInFlightBytes),
		slots:  semaphore.NewWeighted(int64(o.Config.MaxConcurrent)),
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

	decoders *wire.Decoders
	decoder  wire.Decoder // of the format at hand
	outcomes chan ingest.Outcome
	limits   wire.Limits
	skipped  int // parts that the buffer had already
}

func (d *Door) newRequest() *request {
	q, ok := d.requests.Get().(*request)
	if !ok {
		q = &request{door: d, decoders: d.formats.Decoders()}
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
	if q.decoder != nil {
		q.decoder.Reset()
	}
	q.decoder, q.outcomes = nil, nil
	d.requests.Put(q)
	d.memory.Release(n)
	d.metrics.inFlight.Sub(float64(n))
}

// slot waits for a turn.
func (d *Door) slot(ctx context.Context, slots *semaphore.Weighted) error {
	if slots.TryAcquire(1) {
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, d.cfg.QueueTimeout)
	defer cancel()
	if err := slots.Acquire(wait, 1); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &OverloadError{What: "too many requests at a time", RetryAfter: time.Second}
	}
	return nil
}

func (q *request) write(ctx context.Context, e *Entry, tenantID string, format buffer.Format, payload []byte) (Written, error) {
	d := q.door
	l := d.cfg.limitsOf(tenantID)
	q.skipped = 0
	q.setLimits(&l)
	q.limits.KeepTrace = nil
	if d.keep != nil && format.Topic() == buffer.TopicTraces {
		q.limits.KeepTrace = d.keep(tenantID)
	}
	var err error
	if q.decoder, err = q.decoders.For(format); err != nil {
		return Written{}, err
	}
	if err := q.decoder.Decode(format, payload, q.limits); err != nil {
		return Written{}, err
	}
	decoded := q.decoder.Result()
	m := &decoded.Metrics
	e.countReceived(decoded)
	if err := e.allow(tenantID, decoded, &l); err != nil {
		return Written{}, err
	}
	o := d.parts
	o.Partitions = d.buf.Partitions(format.Topic())
	parts, err := q.decoder.Parts(payload, o)
	if err != nil {
		return Written{}, err
	}
	if len(parts) == 0 {
		return Written{}, partial(&decoded.Rejects, nil)
	}
	have := Written{Samples: len(m.Times), Histograms: len(m.Histograms), Exemplars: len(m.Exemplars), Spans: decoded.Spans.Len(), Records: decoded.Logs.Len()}
	rejects := decoded.Rejects
	outcomes := make(chan ingest.Outcome, len(parts))
	q.outcomes = outcomes
	n := len(parts) // the parts may be gone once they are appended
	if err := q.append(ctx, tenantID, parts); err != nil {
		return Written{}, err
	}
	n -= q.skipped
	result, known := d.await(ctx, outcomes, n)
	if !known {
		e.countAccepted(have)
		return have, partial(&rejects, nil)
	}
	w := written(have, &result)
	e.countAccepted(w)
	e.countStoreRejects(&result)
	return w, partial(&rejects, &result)
}

// envelopeBytes is room for the resource and the scope of a span that is a payload
// of its own, and for what a payload that does not compress grows by.
const envelopeBytes = 64 << 10

// setLimits makes a tenant's limits those of the decode.
func (q *request) setLimits(l *Limits) {
	q.limits.MaxDecodedBytes = q.door.cfg.MaxDecodedBytes
	q.limits.MaxLabels = max(l.MaxLabels, 0)
	q.limits.MaxLabelNameBytes = max(l.MaxLabelNameBytes, 0)
	q.limits.MaxLabelValueBytes = max(l.MaxLabelValueBytes, 0)
	s := &l.Spans
	q.limits.MaxAttrs, q.limits.MaxAttrBytes = max(s.MaxAttributes, 0), max(s.MaxAttributeBytes, 0)
	q.limits.MaxEvents, q.limits.MaxLinks = max(s.MaxEvents, 0), max(s.MaxLinks, 0)
	q.limits.MaxSpanBytes = max(s.MaxBytes, 0)
	q.limits.MaxLogBytes = max(l.Logs.MaxBytes, 0)
	// Nothing is ever larger than what the buffer takes.
	q.door.fit(&q.limits.MaxSpanBytes, envelopeBytes)
	q.door.fit(&q.limits.MaxLogBytes, envelopeBytes+q.door.parts.MaxBytes/7)
	q.limits.MaxTime = 0
	if l.MaxFuture > 0 {
		q.limits.MaxTime = time.Now().Add(l.MaxFuture).UnixMilli()
	}
}

// fit makes a limit one that leaves some room in a payload for the buffer.
func (d *Door) fit(limit *int, room int) {
	if most := d.parts.MaxBytes - room; d.parts.MaxBytes > 0 && (*limit == 0 || *limit > most) {
		*limit = max(most, 1)
	}
}

// append puts all parts into the buffer, each with its delivery, and returns
// once every one is durable. A client that goes away does not interrupt it.
func (q *request) append(ctx context.Context, tenantID string, parts []wire.Part) error {
	ctx = context.WithoutCancel(ctx)
	d := q.door
	attach := d.waiting.Load() < d.cfg.MaxInFlightBytes/2
	if attach {
		q.waiting = q.reserved.Load()
		d.waiting.Add(q.waiting)
	}
	if from := originOf(ctx); from != nil {
		return q.appendForwarded(ctx, tenantID, parts, attach, from)
	}
	q.refs.Add(int32(len(parts)))
	if len(parts) == 1 {
		return q.appendPart(ctx, tenantID, &parts[0], attach, nil)
	}
	errs := make([]error, len(parts))
	var wg sync.WaitGroup
	for i := range parts[1:] {
		wg.Go(func() { errs[i+1] = q.appendPart(ctx, tenantID, &parts[i+1], attach, nil) })
	}
	errs[0] = q.appendPart(ctx, tenantID, &parts[0], attach, nil)
	wg.Wait()
	return errors.Join(errs...)
}

// appendPart appends one part, with the position that goes with it, if any.
func (q *request) appendPart(ctx context.Context, tenantID string, p *wire.Part, attach bool, position *buffer.Position) error {
	delivery := ingest.NewDelivery(p, q.outcomes, q.release)
	record := buffer.Record{
		Tenant: tenantID, Format: p.Format, MinTime: p.MinTime, MaxTime: p.MaxTime, Payload: p.Payload,
	}
	if attach {
		record.Attachment = delivery
	}
	records := []buffer.Record{record}
	switch {
	case position == nil:
	case q.door.recaller != nil:
		records[0].From = position
	default:
		mark := buffer.Record{Tenant: tenantID, Format: buffer.FormatPosition, MinTime: p.MinTime, MaxTime: p.MaxTime, Payload: position.Append(nil)}
		if attach {
			mark.Attachment = positionMark{} // it comes from memory, as the part does
		}
		records = []buffer.Record{mark, record}
	}
	_, err := q.door.buf.Append(ctx, p.Format.Topic(), p.Partition, records)
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
	switch {
	case have.Spans > 0:
		return Written{Spans: have.Spans - r.Rejected()}
	case have.Records > 0:
		return Written{Records: have.Records - r.Rejected()}
	}
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
func partial(rejects *wire.Rejects, r *signal.AppendResult) error {
	n, samples, first := 0, 0, ""
	if rejects.Any() {
		n, samples = rejects.Total(), rejects.Samples+rejects.Histograms+rejects.Spans+rejects.Records
		first = rejects.First.Error()
	}
	if r != nil {
		n, samples = n+r.Rejected(), samples+r.Rejected()
		if first == "" {
			first = r.FirstError
		}
	}
	if n == 0 {
		return nil
	}
	return &PartialError{Refused: n, Samples: samples, First: first}
}
