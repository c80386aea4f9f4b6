package door

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/tenant"
)

// EntryConfig holds the limits of one way in, besides those of the door and of
// the tenants. 0 is no limit of its own.
type EntryConfig struct {
	// MaxBodyBytes is the largest request body that is taken, as it comes over the
	// wire.
	MaxBodyBytes int `yaml:"max_body_bytes"`

	// MaxConcurrent is how many requests are worked on at a time; more wait for
	// ingest.queue_timeout.
	MaxConcurrent int `yaml:"max_concurrent"`

	// SamplesPerSecond is the rate at which all senders together may send samples,
	// spans and log records; requests beyond it are refused with 429.
	SamplesPerSecond float64 `yaml:"samples_per_second"`

	// SamplesBurst is how many of them may come at once above the rate; 0 is ten
	// seconds' worth.
	SamplesBurst float64 `yaml:"samples_burst"`
}

// Validate names every bad key.
func (c EntryConfig) Validate() error {
	var errs []error
	for _, v := range []struct {
		key string
		bad bool
	}{
		{"max_body_bytes", c.MaxBodyBytes < 0},
		{"max_concurrent", c.MaxConcurrent < 0},
		{"samples_per_second", c.SamplesPerSecond < 0},
		{"samples_burst", c.SamplesBurst < 0},
	} {
		if v.bad {
			errs = append(errs, fmt.Errorf("%s: want 0 or more", v.key))
		}
	}
	return errors.Join(errs...)
}

// Entry is one way into a Door: remote write, OTLP, scrapes, …. It has limits
// and counters of its own. It is safe for concurrent use.
type Entry struct {
	door    *Door
	name    string
	cfg     EntryConfig
	metrics *entryMetrics
	slots   *semaphore.Weighted // nil is no limit
	rates   rates
}

// Entry opens a way in; name is its label in metrics.
func (d *Door) Entry(name string, cfg EntryConfig) (*Entry, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("open entry %s: %w", name, err)
	}
	e := &Entry{door: d, name: name, cfg: cfg, metrics: d.metrics.entry(name)}
	if e.cfg.MaxBodyBytes == 0 || e.cfg.MaxBodyBytes > d.cfg.MaxBodyBytes {
		e.cfg.MaxBodyBytes = d.cfg.MaxBodyBytes
	}
	if cfg.MaxConcurrent > 0 {
		e.slots = semaphore.NewWeighted(int64(cfg.MaxConcurrent))
	}
	return e, nil
}

// MaxBodyBytes returns the size of the largest request that is taken, as it
// comes over the wire.
func (e *Entry) MaxBodyBytes() int { return e.cfg.MaxBodyBytes }

// MaxDecodedBytes returns the size of the largest request that is taken,
// uncompressed.
func (e *Entry) MaxDecodedBytes() int { return e.door.cfg.MaxDecodedBytes }

// Write takes one payload of a tenant: it returns once the payload is durable in
// the buffer and the store has taken it, or StoreTimeout after the former. The
// error is a *PartialError if a part was refused and the rest is written; after
// any other error nothing of the payload is acknowledged. Status maps it. payload
// is not used after Write returns.
func (e *Entry) Write(ctx context.Context, tenantID string, format buffer.Format, payload []byte) (Written, error) {
	d := e.door
	d.writes.Add(1)
	defer d.writes.Done()
	if d.closed.Load() {
		return Written{}, buffer.ErrClosed
	}
	if err := tenant.Validate(tenantID); err != nil {
		return Written{}, err
	}
	if e.slots != nil {
		if err := d.slot(ctx, e.slots); err != nil {
			return Written{}, err
		}
		defer e.slots.Release(1)
	}
	if err := d.slot(ctx, d.slots); err != nil {
		return Written{}, err
	}
	defer d.slots.Release(1)
	start := time.Now()
	q := d.newRequest()
	defer q.release()
	w, err := q.write(ctx, e, tenantID, format, payload)
	e.metrics.seconds.Observe(time.Since(start).Seconds())
	return w, err
}

// allow takes what was decoded out of the buckets of the entry and of the tenant.
func (e *Entry) allow(tenantID string, d *wire.Decoded, l *Limits) error {
	n, what, buckets, perSecond, burst := d.Metrics.Samples(), "samples", &e.door.rates, l.SamplesPerSecond, l.SamplesBurst
	if spans, records := d.Spans.Len(), d.Logs.Len(); spans > 0 {
		n, what, buckets, perSecond, burst = spans, "spans", &e.door.spans, l.Spans.PerSecond, l.Spans.Burst
	} else if records > 0 {
		n, what, buckets, perSecond, burst = records, "log records", &e.door.records, l.Logs.PerSecond, l.Logs.Burst
	}
	if wait := e.rates.allow("", n, e.cfg.SamplesPerSecond, e.cfg.SamplesBurst); wait > 0 {
		return &RateError{Who: "all senders to " + e.name, Verb: "send", What: what, PerSecond: e.cfg.SamplesPerSecond, RetryAfter: wait}
	}
	if wait := buckets.allow(tenantID, n, perSecond, burst); wait > 0 {
		return &RateError{Who: fmt.Sprintf("tenant %q", tenantID), Verb: "sends", What: what, PerSecond: perSecond, RetryAfter: wait}
	}
	return nil
}

// Reject counts what an entry's own parser has refused before Write saw it.
func (e *Entry) Reject(reason wire.Reason, n int) {
	if n > 0 {
		e.metrics.refused(reason.String()).Add(float64(n))
	}
}

// Answer notes how a request is answered: it counts the status of err, logs what
// a person should know of, and sets Retry-After where that makes sense. The
// caller writes the code and a body.
func (e *Entry) Answer(w http.ResponseWriter, r *http.Request, err error) (code int) {
	code, retryAfter := Status(err)
	if retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(retryAfter.Seconds()))))
	}
	e.Answered(code)
	e.logFailure(r.Context(), r.RemoteAddr, code, err)
	return code
}

// Answered counts a request by the HTTP status that its outcome has.
func (e *Entry) Answered(code int) { e.metrics.answered(code) }

func (e *Entry) logFailure(ctx context.Context, remote string, code int, err error) {
	if err == nil {
		return
	}
	level, text := slog.LevelDebug, "refuse request"
	if code == http.StatusInternalServerError {
		level, text = slog.LevelError, "take request in"
	}
	e.door.log.Log(ctx, level, text, "door", e.name, "remote", remote, "code", code, "err", err)
}

func (e *Entry) countReceived(d *wire.Decoded) {
	rejects := &d.Rejects
	e.metrics.received.Add(float64(d.Metrics.Samples() + rejects.Samples + rejects.Histograms))
	e.metrics.countSpans(d)
	e.metrics.receivedRecords.Add(float64(d.Logs.Len() + rejects.Records))
	if !rejects.Any() {
		return
	}
	for reason, n := range rejects.ByReason {
		e.Reject(wire.Reason(reason), n)
	}
}

func (e *Entry) countAccepted(w Written) {
	e.metrics.accepted.Add(float64(w.Samples + w.Histograms))
	e.metrics.acceptedSpans.Add(float64(w.Spans))
	e.metrics.acceptedRecords.Add(float64(w.Records))
}

func (e *Entry) countStoreRejects(r *signal.AppendResult) {
	if r.Rejected() == 0 {
		return
	}
	for _, v := range []struct {
		reason string
		n      int
	}{
		{"conflict", r.Conflicts}, {"too_old", r.TooOld}, {"out_of_bounds", r.OutOfBounds}, {"series_limit", r.SeriesLimit},
	} {
		if v.n > 0 {
			e.metrics.refused(v.reason).Add(float64(v.n))
		}
	}
}
