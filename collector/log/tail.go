package log

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/door"
)

// Writer takes requests in. *door.Entry has more than this method; a function
// value joins the two. Errors mean as door.Status says: what is refused for now is
// tried again.
type Writer func(ctx context.Context, tenant string, format buffer.Format, payload []byte) error

// Options are what a Tailer is made of.
type Options struct {
	Config     Config
	Dir        string // for the checkpoint; it exists
	Host       string // the attribute host.name; empty is the machine's name
	Tenant     string
	Services   Services // nil: nobody knows services of containers
	Write      Writer
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Tailer reads log files. Run does everything, in its goroutine.
type Tailer struct {
	cfg     Config
	dir     string
	host    string
	tenant  string
	writer  Writer
	log     *slog.Logger
	metrics *metrics
	sources []*source

	services Services // nil: nobody is asked

	files []*file // by seq
	byID  map[fileID]*file
	live  map[string]*file // by path, those that it leads to
	seq   int
	known []string // sources of which the first scan has been

	scanEvery              time.Duration
	scanDue, pruned, saved time.Time
	dirty                  bool // the checkpoint is not what is
	rounds                 int
	told                   map[string]string // last failure by what has failed

	window  []byte
	lines   []byte // of the file at hand: fields log_records
	batch   []byte // the request under construction
	records int    // of it
	touched []*file
}

// Open returns a Tailer that goes on where the checkpoint in o.Dir says.
func Open(o Options) (*Tailer, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, fmt.Errorf("open log files: %w", err)
	}
	if o.Host == "" {
		o.Host, _ = os.Hostname()
	}
	t := &Tailer{
		cfg: o.Config, dir: o.Dir, host: o.Host, tenant: o.Tenant, services: o.Services, writer: o.Write, log: o.Logger, metrics: newMetrics(o.Registerer),
		byID: map[fileID]*file{}, live: map[string]*file{}, told: map[string]string{}, scanEvery: scanInterval,
		window: make([]byte, max(1<<20, 2*o.Config.MaxLineBytes)+64<<10),
	}
	for i, s := range o.Config.Sources {
		own := newSource(i, s, o.Config.MaxLineBytes, t.metrics)
		own.start = true
		t.sources = append(t.sources, own)
	}
	if err := t.load(); err != nil {
		return nil, fmt.Errorf("open log files: %w", err)
	}
	for _, f := range t.files {
		if !f.gone {
			t.live[f.path] = f
		}
	}
	return t, nil
}

// Run reads until ctx ends. It then waits for the request under way, for
// Config.StopTimeout, and writes a checkpoint.
func (t *Tailer) Run(ctx context.Context) error {
	defer func() {
		for _, f := range t.files {
			f.close()
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		now := time.Now()
		if !now.Before(t.scanDue) {
			t.scan(now)
		}
		busy := t.round(ctx)
		if time.Since(t.saved) >= t.cfg.CheckpointInterval {
			t.save()
		}
		if busy {
			continue
		}
		timer.Reset(t.cfg.PollInterval)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	t.save()
	return nil
}

// round visits every file once and writes what was found; it reports whether there
// is more.
func (t *Tailer) round(ctx context.Context) (busy bool) {
	t.rounds++
	blocked := map[string]bool{} // paths of which an older file comes first
	for _, f := range slices.Clone(t.files) {
		if ctx.Err() != nil {
			break
		}
		if f.finished || blocked[f.path] {
			continue
		}
		if !t.nameService(f, time.Now()) {
			blocked[f.path] = true
			if f.f == nil {
				t.reopen(f) // it may be deleted meanwhile
			}
			continue
		}
		more := t.visit(f, time.Now())
		busy = busy || more
		if more && f.gone || t.goesOn(f, time.Now()) {
			blocked[f.path] = true
		}
		if len(t.batch) < t.cfg.BatchBytes*3/4 {
			continue
		}
		if t.flush(ctx) != nil {
			return false
		}
		if now := time.Now(); !now.Before(t.scanDue) {
			t.scan(now)
		}
		if time.Since(t.saved) >= t.cfg.CheckpointInterval {
			t.save()
		}
	}
	return t.flush(ctx) == nil && busy
}

// visit reads a window of a file; it reports whether there is more to be had at
// once.
func (t *Tailer) visit(f *file, now time.Time) (more bool) {
	const calm, every = time.Minute, 4
	quiet := now.Sub(f.grown)
	if quiet > calm && f.acked == f.size && (t.rounds+f.seq)%every != 0 {
		return false
	}
	if f.f == nil && !t.reopen(f) {
		return false
	}
	info, err := f.f.Stat()
	if err != nil {
		t.failed("read", f.path, err)
		return false
	}
	before, size := f.size, info.Size()
	changed := size != f.size || !info.ModTime().Equal(f.mtime)
	if changed {
		f.size, f.mtime, f.grown, quiet = size, info.ModTime(), now, 0
	}
	if changed && (size < f.done || !f.mark.holds(f.f, f.acked)) {
		if t.truncated(f, before) {
			return true // the copy comes first
		}
	}
	settled := !f.pending.IsZero() && now.Sub(f.pending) >= t.cfg.UnfinishedTimeout || f.gone && quiet >= t.cfg.UnfinishedTimeout
	if f.done >= size {
		f.pending = time.Time{}
		if f.gone && quiet >= finishedAfter*t.cfg.UnfinishedTimeout {
			t.finish(f)
		}
		return false
	}
	if !f.pending.IsZero() && t.join(f, now) {
		return true
	}
	if !changed && !settled && !f.pending.IsZero() {
		return false
	}
	return t.read(f, now, settled)
}

// finishedAfter is for how many times the timeout of unfinished lines a rotated file
// is watched after its end.
const finishedAfter = 4

// finish lets go of a rotated file that was read to its end.
func (t *Tailer) finish(f *file) {
	f.close()
	f.finished, t.dirty = true, true
	t.metrics.events.WithLabelValues("finished").Inc()
}

// reopen opens a file that was closed, if there is something to read.
func (t *Tailer) reopen(f *file) bool {
	if f.gone {
		return t.locate(f)
	}
	info, err := os.Stat(f.path)
	if err == nil && info.Size() == f.size && f.acked == f.size && info.ModTime().Equal(f.mtime) {
		return false
	}
	if err == nil {
		err = f.open(f.path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // of which the next scan takes care
		t.failed("open", f.path, err)
	}
	return err == nil
}

// read takes the records of a window into the request.
func (t *Tailer) read(f *file, now time.Time, settled bool) (more bool) {
	n, err := f.f.ReadAt(t.window, f.done)
	if err != nil && !errors.Is(err, io.EOF) {
		t.failed("read", f.path, err)
		return false
	}
	a := &f.source.assembler
	w := window{bytes: t.window[:n], mid: f.mid, more: n == len(t.window), room: max(t.cfg.BatchBytes-len(t.batch), t.cfg.BatchBytes/4)}
	w.settled = settled && !w.more
	consumed, mid := a.run(w)
	if consumed == 0 {
		if f.pending.IsZero() {
			f.pending = now
		}
		return false
	}
	t.take(f, now)
	t.advance(f, int64(consumed), mid)
	if f.done < f.size {
		if rest := n - consumed; rest == 0 || w.more || a.bytes >= w.room {
			return true
		}
		f.pending = now
	}
	return false
}

// take takes the records that the assembler found into the request, as a file's.
func (t *Tailer) take(f *file, now time.Time) {
	a := &f.source.assembler
	t.lines = t.lines[:0]
	for i := range a.records {
		t.lines = f.source.encoder.append(t.lines, &a.records[i], now.UnixNano())
	}
	if len(a.records) > 0 {
		t.batch = appendResourceLogs(t.batch, f.origin.resource, t.lines)
		t.records += len(a.records)
	}
}

// advance moves on by n bytes that are in the request.
func (t *Tailer) advance(f *file, n int64, mid bool) {
	var err error
	f.done, f.mid, f.pending = f.done+n, mid, time.Time{}
	f.doneMark, err = markAt(f.f, f.done, f.doneMark)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) { // it was truncated, which the next visit sees
		t.failed("read", f.path, err)
	}
	t.touched = append(t.touched, f)
}

// flush writes the request and moves the offsets. An error is ctx's: what was not
// acknowledged is read again.
func (t *Tailer) flush(ctx context.Context) error {
	err := t.deliver(ctx)
	for _, f := range t.touched {
		if err != nil {
			f.done, f.mid, f.doneMark = f.acked, f.ackedMid, f.mark
			continue
		}
		t.metrics.bytes.Add(float64(f.done - f.acked))
		f.acked, f.ackedMid, f.mark = f.done, f.mid, f.doneMark
		t.dirty = true
	}
	if err == nil {
		t.metrics.records.Add(float64(t.records))
	}
	t.batch, t.records = t.batch[:0], 0
	clear(t.touched)
	t.touched = t.touched[:0]
	return err
}

// deliver writes the request until it is taken.
func (t *Tailer) deliver(ctx context.Context) error {
	const first, most = 50 * time.Millisecond, 5 * time.Second
	if len(t.batch) == 0 {
		return nil
	}
	for pause := first; ; pause = min(2*pause, most) {
		err := t.write(ctx)
		var partial *door.PartialError
		switch {
		case err == nil:
			t.succeeded("write", "")
			return nil
		case errors.As(err, &partial):
			t.metrics.refused.Inc()
			t.log.Warn("The door refused log records", "refused", partial.Refused, "first", partial.First)
			return nil
		case isFinal(err):
			t.metrics.refused.Inc()
			t.log.Error("The door refused a request of log records for good: they are left out", "records", t.records, "err", err)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		t.failed("write", "", err)
		t.metrics.waiting.Set(1)
		if err := t.pause(ctx, pause); err != nil {
			return err
		}
	}
}

// pause waits, and holds on to files that are rotated meanwhile.
func (t *Tailer) pause(ctx context.Context, d time.Duration) error {
	defer t.metrics.waiting.Set(0)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	if now := time.Now(); !now.Before(t.scanDue) {
		t.scan(now)
	}
	return nil
}

// isFinal reports whether a request is refused whenever it comes.
func isFinal(err error) bool {
	switch code, _ := door.Status(err); code {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType:
		return true
	}
	return false
}

// write writes the request once; when ctx ends it gets some more time, since one
// that is interrupted may have been taken.
func (t *Tailer) write(ctx context.Context) error {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(t.cfg.StopTimeout)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-own.Done():
		}
	})
	defer stop()
	return t.writer(own, t.tenant, buffer.FormatOTLPLogs, t.batch)
}

// failed counts a failure, and logs the first of several of its kind.
func (t *Tailer) failed(at, path string, err error) {
	t.metrics.failures.WithLabelValues(at).Inc()
	level, key := slog.LevelDebug, at+" "+path
	if text := err.Error(); t.told[key] != text {
		const most = 10_000
		if len(t.told) > most {
			clear(t.told)
		}
		t.told[key], level = text, slog.LevelWarn
	}
	t.log.Log(context.Background(), level, "read log files, trying again", "at", at, "path", path, "err", err)
}

// succeeded forgets a failure.
func (t *Tailer) succeeded(at, path string) { delete(t.told, at+" "+path) }
