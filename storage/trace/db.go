package trace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	tenants "github.com/vedette-io/vedette/internal/tenant"
	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/block"
	"github.com/vedette-io/vedette/storage/trace/rows"
)

// lockFile is held while the store is open. No tenant's name begins with a dot.
const lockFile = ".lock"

// cacheBytes bounds what blocks keep decoded of their dictionaries and shapes.
const cacheBytes = 256 << 20

// Options are what Open needs.
type Options struct {
	Dir        string // created if need be
	FS         vfs.FS // the operating system's if nil
	Config     Config
	Sampler    Sampler               // tail sampling; everything is kept if nil
	Logger     *slog.Logger          // discards if nil
	Registerer prometheus.Registerer // none if nil
	Tracer     trace.Tracer          // of flushes and merges; none if nil
	Now        func() time.Time      // if nil, the time of Open and what has passed since
}

// DB is the trace store. All methods may be called concurrently, but for Close.
type DB struct {
	fs      vfs.FS
	dir     string
	config  Config
	sampler Sampler
	logger  *slog.Logger
	now     func() time.Time
	metrics *dbMetrics
	tracer  trace.Tracer
	lock    io.Closer
	cache   *rows.Cache

	mu      sync.RWMutex
	tenants map[string]*tenant

	appliedMu sync.Mutex
	appliedTo map[block.SourceKey]int64 // offset below which everything is in a head or in blocks

	spans   atomic.Int64 // in heads, those being flushed included
	bytes   atomic.Int64 // of memory that they take
	flushMu sync.Mutex   // one flush or snapshot at a time
	flushC  chan struct{}
	roomMu  sync.Mutex
	room    chan struct{} // closed and renewed after every flush

	decideSpans int // decideSpans, less in tests
}

// Open opens or creates the store in o.Dir.
func Open(o Options) (*DB, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, fmt.Errorf("open trace store: %w", err)
	}
	db := &DB{
		fs: o.FS, dir: o.Dir, config: o.Config, sampler: o.Sampler, logger: o.Logger, now: o.Now, tracer: o.Tracer,
		cache:     rows.NewCache(cacheBytes),
		tenants:   make(map[string]*tenant),
		appliedTo: make(map[block.SourceKey]int64),
		flushC:    make(chan struct{}, 1),
		room:      make(chan struct{}),

		decideSpans: decideSpans,
	}
	if db.fs == nil {
		db.fs = vfs.OS
	}
	if db.logger == nil {
		db.logger = slog.New(slog.DiscardHandler)
	}
	if db.now == nil {
		// A clock that is set anew while the store is open must not delete anything.
		opened := time.Now()
		db.now = func() time.Time { return opened.Add(time.Since(opened)) }
	}
	if db.tracer == nil {
		db.tracer = noop.NewTracerProvider().Tracer("")
	}
	db.metrics = newDBMetrics(o.Registerer, db)
	if err := db.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open trace store %s: %w", o.Dir, err), db.closeFiles())
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
		if !tenants.IsDirectory(name) {
			continue
		}
		if fi, err := db.fs.Stat(filepath.Join(db.dir, name)); err != nil || !fi.IsDir() {
			continue
		}
		t := newTenant(db, name)
		db.tenants[name] = t
		if err := t.open(); err != nil {
			return err
		}
	}
	return nil
}

// tenant returns the tenant called name, made if it does not exist.
func (db *DB) tenant(name string) (*tenant, error) {
	if t := db.lookupTenant(name); t != nil {
		return t, nil
	}
	if !tenants.IsDirectory(name) {
		return nil, fmt.Errorf("append spans: tenant %q cannot be stored", name)
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if t := db.tenants[name]; t != nil {
		return t, nil
	}
	t := newTenant(db, name)
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
	return sortedKeys(db.tenants)
}

// allTenants returns all tenants by name.
func (db *DB) allTenants() []*tenant {
	db.mu.RLock()
	defer db.mu.RUnlock()
	out := make([]*tenant, 0, len(db.tenants))
	for _, t := range db.tenants {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *tenant) int { return strings.Compare(a.name, b.name) })
	return out
}

// applied notes that everything below next of a partition is in heads or
// blocks.
func (db *DB) applied(k block.SourceKey, next int64) {
	db.appliedMu.Lock()
	db.appliedTo[k] = max(db.appliedTo[k], next)
	db.appliedMu.Unlock()
}

// Durable returns the offset below which everything that AppendSpans was given
// of the partition is in durable blocks, or was refused; 0 if it was given
// nothing.
func (db *DB) Durable(source, topic string, partition int32) int64 {
	k := block.SourceKey{Source: source, Topic: topic, Partition: partition}
	// The order matters: what is applied after this reading can only be newer.
	db.appliedMu.Lock()
	next := db.appliedTo[k]
	db.appliedMu.Unlock()
	for _, t := range db.allTenants() {
		if from, ok := t.unflushed(k); ok {
			next = min(next, from)
		}
	}
	return next
}

// Covered returns the highest offset up to which a block says that it holds the
// partition's spans, or held them before its retention ended; 0 if none does.
// Other tenants may hold less.
func (db *DB) Covered(source, topic string, partition int32) int64 {
	k := block.SourceKey{Source: source, Topic: topic, Partition: partition}
	var next int64
	for _, t := range db.allTenants() {
		t.mu.RLock()
		next = max(next, t.covered[k])
		t.mu.RUnlock()
	}
	return next
}

// Close flushes the heads and releases the files. Nothing may use db
// afterwards; Run must have returned and all Views must be closed.
func (db *DB) Close() error {
	err := db.Flush(context.Background())
	return errors.Join(err, db.closeFiles())
}

func (db *DB) closeFiles() error {
	var errs []error
	for _, t := range db.tenants {
		errs = append(errs, t.close())
	}
	if db.lock != nil {
		errs = append(errs, db.lock.Close())
	}
	return errors.Join(errs...)
}
