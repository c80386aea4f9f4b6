package metric

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	tenants "github.com/vedette-io/vedette/internal/tenant"
	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/block"
)

const (
	// metricsDir holds a tenant's windows, beside what other signals may keep.
	metricsDir = "metrics"
	// lockFile is held while the store is open. No tenant's name begins with a dot.
	lockFile = ".lock"
)

// Options are what Open needs.
type Options struct {
	Dir        string // created if need be
	FS         vfs.FS // the operating system's if nil
	Config     Config
	Logger     *slog.Logger          // discards if nil
	Registerer prometheus.Registerer // none if nil
	Tracer     trace.Tracer          // of flushes and merges; none if nil
	Now        func() time.Time      // time.Now if nil
}

// DB is the metric store. All methods may be called concurrently, but for
// Close.
type DB struct {
	fs           vfs.FS
	dir          string
	config       Config
	outOfOrderMs int64
	logger       *slog.Logger
	now          func() time.Time
	retention    *retentionClock
	metrics      *dbMetrics
	tracer       trace.Tracer
	lock         io.Closer

	mu      sync.RWMutex
	tenants map[string]*tenant

	appliedMu sync.Mutex
	appliedTo map[block.SourceKey]int64 // offset below which everything is in a head or in blocks

	buffered atomic.Int64 // samples in tables, those being flushed included
	flushMu  sync.Mutex   // one flush, deletion or snapshot at a time
	flushC   chan struct{}
	roomMu   sync.Mutex
	room     chan struct{} // closed and renewed after every flush
}

// tenant is one tenant's windows.
type tenant struct {
	db   *DB
	name string
	dir  string

	// appendMu is held by an append for as long as it may add to windows, and by a
	// flush while it freezes their tables, so that a flush cuts between batches.
	// It comes before every lock of a window.
	appendMu sync.Mutex

	mu           sync.RWMutex
	windows      []*window // by start; replaced, never changed
	newestWindow *window   // guarded by appendMu

	metadataMu sync.RWMutex
	metadata   *metadataSet
}

// Open opens or creates the store in o.Dir.
func Open(o Options) (*DB, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, fmt.Errorf("open metric store: %w", err)
	}
	db := &DB{
		fs: o.FS, dir: o.Dir, config: o.Config, logger: o.Logger, now: o.Now, tracer: o.Tracer,
		outOfOrderMs: o.Config.OutOfOrderWindow.Milliseconds(),
		tenants:      make(map[string]*tenant),
		appliedTo:    make(map[block.SourceKey]int64),
		flushC:       make(chan struct{}, 1),
		room:         make(chan struct{}),
	}
	if db.fs == nil {
		db.fs = vfs.OS
	}
	if db.logger == nil {
		db.logger = slog.New(slog.DiscardHandler)
	}
	db.retention = newRetentionClock(db.now)
	if db.now == nil {
		db.now = time.Now
	}
	if db.tracer == nil {
		db.tracer = noop.NewTracerProvider().Tracer("")
	}
	db.metrics = newDBMetrics(o.Registerer, db)
	if err := db.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open metric store %s: %w", o.Dir, err), db.closeFiles())
	}
	return db, nil
}

// Lock takes the store in dir, as Open does, for a tool that works on its files.
// The error is vfs.ErrLocked while a server has it.
func Lock(fs vfs.FS, dir string) (io.Closer, error) {
	return fs.Lock(filepath.Join(dir, lockFile))
}

func (db *DB) open() error {
	if err := db.fs.MkdirAll(db.dir); err != nil {
		return err
	}
	lock, err := Lock(db.fs, db.dir)
	if err != nil {
		return err
	}
	db.lock = lock
	names, err := db.fs.List(db.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if fi, err := db.fs.Stat(filepath.Join(db.dir, name, metricsDir)); err != nil || !fi.IsDir() {
			continue
		}
		t, err := db.openTenant(name)
		if err != nil {
			return err
		}
		db.tenants[name] = t
		if w := t.newestWindow; w != nil {
			db.retention.notBefore(time.UnixMilli(w.start))
		}
	}
	return nil
}

func (db *DB) openTenant(name string) (*tenant, error) {
	t := &tenant{db: db, name: name, dir: filepath.Join(db.dir, name, metricsDir), metadata: newMetadataSet()}
	names, err := db.fs.List(t.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, n := range names {
		start, err := strconv.ParseInt(n, 10, 64)
		if err != nil {
			continue
		}
		w, err := openWindow(db.fs, filepath.Join(t.dir, n), start, db.windowMs(), db.logger)
		if err != nil {
			return nil, err
		}
		for _, b := range w.blocks {
			if b.meta.WindowMs != db.windowMs() {
				return nil, errors.Join(fmt.Errorf("block %s has a window of %s, the configuration says %s: the window of existing data cannot change", b.Dir(), time.Duration(b.meta.WindowMs)*time.Millisecond, db.config.Window), w.close())
			}
			md, err := b.readMetadata()
			if err != nil {
				db.logger.Error("read metadata of a block", "block", b.Dir(), "err", err)
			}
			t.metadata.add(md...)
		}
		t.windows = append(t.windows, w)
	}
	slices.SortFunc(t.windows, func(a, b *window) int { return cmp.Compare(a.start, b.start) })
	if n := len(t.windows); n > 0 {
		t.newestWindow = t.windows[n-1]
	}
	return t, nil
}

func (db *DB) windowMs() int64 { return db.config.Window.Milliseconds() }

// tenant returns the tenant called name, made if it does not exist.
func (db *DB) tenant(name string) (*tenant, error) {
	db.mu.RLock()
	t := db.tenants[name]
	db.mu.RUnlock()
	if t != nil {
		return t, nil
	}
	if !tenants.IsDirectory(name) {
		return nil, fmt.Errorf("append metrics: tenant %q cannot be stored", name)
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if t := db.tenants[name]; t != nil {
		return t, nil
	}
	t = &tenant{db: db, name: name, dir: filepath.Join(db.dir, name, metricsDir), metadata: newMetadataSet()}
	if err := db.fs.MkdirAll(t.dir); err != nil {
		return nil, fmt.Errorf("create tenant %s: %w", name, err)
	}
	db.tenants[name] = t
	return t, nil
}

// lookupTenant returns the tenant called name, or nil.
func (db *DB) lookupTenant(name string) *tenant {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.tenants[name]
}

// Tenants returns the names of all tenants, sorted.
func (db *DB) Tenants() []string {
	db.mu.RLock()
	defer db.mu.RUnlock()
	out := make([]string, 0, len(db.tenants))
	for name := range db.tenants {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func (db *DB) eachTenant(f func(*tenant) error) error {
	for _, name := range db.Tenants() {
		if t := db.lookupTenant(name); t != nil {
			if err := f(t); err != nil {
				return err
			}
		}
	}
	return nil
}

// window returns the window of a time, made if it does not exist.
func (t *tenant) window(time int64) (*window, error) {
	length := t.db.windowMs()
	start := time - (time%length+length)%length
	t.mu.RLock()
	i, ok := slices.BinarySearchFunc(t.windows, start, func(w *window, s int64) int { return cmp.Compare(w.start, s) })
	if ok {
		w := t.windows[i]
		t.mu.RUnlock()
		return w, nil
	}
	t.mu.RUnlock()
	w, err := openWindow(t.db.fs, filepath.Join(t.dir, strconv.FormatInt(start, 10)), start, length, t.db.logger)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	i, _ = slices.BinarySearchFunc(t.windows, start, func(w *window, s int64) int { return cmp.Compare(w.start, s) })
	t.windows = slices.Insert(slices.Clone(t.windows), i, w)
	t.newestWindow = t.windows[len(t.windows)-1]
	return w, nil
}

// overlapping returns the windows that touch [minTime, maxTime].
func (t *tenant) overlapping(minTime, maxTime int64) []*window {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var out []*window
	for _, w := range t.windows {
		if w.start <= maxTime && w.end > minTime {
			out = append(out, w)
		}
	}
	return out
}

// all returns the windows.
func (t *tenant) all() []*window {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.windows
}

// applied notes that everything below next of a partition is in heads or
// blocks.
func (db *DB) applied(k block.SourceKey, next int64) {
	db.appliedMu.Lock()
	db.appliedTo[k] = max(db.appliedTo[k], next)
	db.appliedMu.Unlock()
}

// Durable returns the offset below which everything that AppendMetrics was
// given of the partition is in durable blocks, or was refused; 0 if it was
// given nothing.
func (db *DB) Durable(source, topic string, partition int32) int64 {
	k := block.SourceKey{Source: source, Topic: topic, Partition: partition}
	// The order matters: what is applied after this reading can only be newer.
	db.appliedMu.Lock()
	next := db.appliedTo[k]
	db.appliedMu.Unlock()
	_ = db.eachTenant(func(t *tenant) error {
		for _, w := range t.all() {
			w.mu.RLock()
			for _, tb := range []*table{w.table, w.flushing} {
				if tb == nil {
					continue
				}
				if from, ok := tb.sources[k]; ok {
					next = min(next, from)
				}
			}
			w.mu.RUnlock()
		}
		return nil
	})
	return next
}

// Covered returns the highest offset up to which a block says that it holds the
// partition's data; 0 if none does. Other windows may hold less.
func (db *DB) Covered(source, topic string, partition int32) int64 {
	k := block.SourceKey{Source: source, Topic: topic, Partition: partition}
	var next int64
	_ = db.eachTenant(func(t *tenant) error {
		for _, w := range t.all() {
			w.mu.RLock()
			next = max(next, w.durable[k])
			w.mu.RUnlock()
		}
		return nil
	})
	return next
}

// waitForRoom waits while heads hold twice what they should.
func (db *DB) waitForRoom(ctx context.Context) error {
	for db.buffered.Load() >= 2*int64(db.config.FlushSamples) {
		db.roomMu.Lock()
		room := db.room
		db.roomMu.Unlock()
		if db.buffered.Load() < 2*int64(db.config.FlushSamples) {
			return nil
		}
		db.wakeFlush()
		select {
		case <-ctx.Done():
			return fmt.Errorf("append metrics: wait for a flush: %w", ctx.Err())
		case <-room:
		}
	}
	return nil
}

func (db *DB) wakeFlush() {
	select {
	case db.flushC <- struct{}{}:
	default:
	}
}

// Flush writes the heads of all tenants as blocks. When it returns nil,
// everything that was appended before the call is durable.
func (db *DB) Flush(ctx context.Context) error {
	db.flushMu.Lock()
	defer db.flushMu.Unlock()
	return db.flushLocked(ctx)
}

func (db *DB) flushLocked(ctx context.Context) error {
	return db.eachFlush(func(t *tenant) error { return t.flush(ctx) })
}

// eachFlush calls flush for every tenant, and wakes whoever waits for room.
func (db *DB) eachFlush(flush func(*tenant) error) error {
	begin := time.Now()
	var errs []error
	_ = db.eachTenant(func(t *tenant) error {
		errs = append(errs, flush(t))
		return nil
	})
	db.roomMu.Lock()
	close(db.room)
	db.room = make(chan struct{})
	db.roomMu.Unlock()
	err := errors.Join(errs...)
	db.metrics.flushed(time.Since(begin), err)
	return err
}

// flush writes the tables that an earlier flush did not get rid of, and then those
// of now. The caller holds the store's flushMu.
func (t *tenant) flush(ctx context.Context) error {
	err := t.write(ctx, t.all())
	t.appendMu.Lock()
	windows := t.freezeLocked()
	t.appendMu.Unlock()
	return errors.Join(err, t.write(ctx, windows))
}

// freezeLocked freezes the tables of the windows that have one and are not being
// flushed, and returns these windows. The caller holds appendMu: the cut is between
// batches.
func (t *tenant) freezeLocked() []*window {
	t.db.appliedMu.Lock()
	applied := maps.Clone(t.db.appliedTo)
	t.db.appliedMu.Unlock()
	var windows []*window
	for _, w := range t.all() {
		if w.freeze(applied) {
			windows = append(windows, w)
		}
	}
	return windows
}

// freezeAll freezes the tables of all tenants at one moment, so that their blocks
// hold the same part of every log. Nothing of theirs is being flushed.
func (db *DB) freezeAll() {
	db.mu.RLock()
	defer db.mu.RUnlock()
	for _, t := range db.tenants {
		t.appendMu.Lock()
		defer t.appendMu.Unlock()
	}
	for _, t := range db.tenants {
		t.freezeLocked()
	}
}

// write flushes the frozen tables of windows.
func (t *tenant) write(ctx context.Context, windows []*window) error {
	var errs []error
	for _, w := range windows {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		errs = append(errs, t.writeWindow(ctx, w))
	}
	return errors.Join(errs...)
}

func (t *tenant) writeWindow(ctx context.Context, w *window) error {
	w.flushMu.Lock() // the window is not dropped meanwhile
	defer w.flushMu.Unlock()
	w.mu.RLock()
	frozen := w.flushing
	w.mu.RUnlock()
	if frozen == nil {
		return nil
	}
	rows := frozen.rows()
	_, span := t.db.tracer.Start(ctx, "store flush", trace.WithAttributes(
		attribute.String("window", w.dir), attribute.Int("samples", rows)))
	err := w.flush(frozen)
	endSpan(span, err)
	if err != nil {
		return fmt.Errorf("flush window %s: %w", w.dir, err)
	}
	t.db.buffered.Add(-int64(rows))
	return nil
}

func endSpan(span trace.Span, err error) {
	if err != nil {
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// Close flushes the heads and releases the files. Nothing may use db
// afterwards; Run must have returned.
func (db *DB) Close() error {
	err := db.Flush(context.Background())
	return errors.Join(err, db.closeFiles())
}

func (db *DB) closeFiles() error {
	var errs []error
	for _, t := range db.tenants {
		for _, w := range t.windows {
			errs = append(errs, w.close())
		}
	}
	if db.lock != nil {
		errs = append(errs, db.lock.Close())
	}
	return errors.Join(errs...)
}
