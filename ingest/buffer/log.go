package buffer

import (
	"cmp"
	"context"
	"crypto/rand"
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

	"github.com/vedette-io/vedette/internal/vfs"
)

// Log is the embedded Buffer: segment files in a directory of this process.
// Its bytes are drawn in docs/format/buffer.md.
//
//	Append ──► queue ──► leader: write, fsync ──► published ──┬─► tail (attachments in memory) ─┐
//	Append ──►   │        (one per partition)                 └─► segment files ────────────────┴─► Claim.Next
//	   ▲         └── shared fsync ──┐
//	   └──────── nil or error ◄─────┘
//
// It starts one goroutine in mode "interval", none otherwise; Close ends it.
//
// Lock order: Log.mu, topic.mu, group.commitMu, group.mu, partition.mu.
type Log struct {
	cfg     Config
	fs      vfs.FS
	dir     string
	source  string
	id      [16]byte
	logger  *slog.Logger
	metrics *metrics
	reg     prometheus.Registerer
	lock    io.Closer
	clean   bool // the last run ended with Close
	bytes   atomic.Int64

	positions positions
	closed    atomic.Bool
	appends   sync.WaitGroup // under way; Add happens under mu, while closed is false
	pool      sync.Pool      // of *request

	stopSync  context.CancelFunc
	syncEnded chan struct{}

	mu     sync.RWMutex // guards topics, and the step to closed
	topics map[string]*topic
}

var _ Buffer = (*Log)(nil)

const (
	lockName  = "LOCK"
	logName   = "LOG"
	cleanName = "CLEAN"
)

// Open opens the log in dir, and creates it if there is none. The log owns the
// directory until Close: a second Open fails with vfs.ErrLocked. reg may be nil.
func Open(cfg Config, fsys vfs.FS, dir string, logger *slog.Logger, reg prometheus.Registerer) (*Log, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("open log %s: %w", dir, err)
	}
	l := &Log{
		cfg:     cfg,
		fs:      fsys,
		dir:     dir,
		logger:  cmp.Or(logger, slog.New(slog.DiscardHandler)),
		metrics: newMetrics(),
		topics:  map[string]*topic{},
	}
	l.pool.New = func() any { return &request{wake: make(chan signal, 1)} }
	if err := fsys.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	lock, err := lockDir(fsys, dir)
	if err != nil {
		return nil, fmt.Errorf("open log %s: %w", dir, err)
	}
	l.lock = lock
	if err := l.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open log %s: %w", dir, err), l.closeFiles(), lock.Close())
	}
	if reg != nil {
		if err := reg.Register(l); err != nil {
			return nil, errors.Join(fmt.Errorf("register metrics of log %s: %w", dir, err), l.closeFiles(), lock.Close())
		}
		l.reg = reg
	}
	if cfg.Sync == SyncInterval {
		var ctx context.Context
		ctx, l.stopSync = context.WithCancel(context.Background())
		l.syncEnded = make(chan struct{})
		go l.syncEvery(ctx)
	}
	return l, nil
}

func lockDir(fsys vfs.FS, dir string) (io.Closer, error) {
	lock, err := fsys.Lock(filepath.Join(dir, lockName))
	if errors.Is(err, vfs.ErrLocked) {
		return nil, fmt.Errorf("another process uses this directory, stop it or choose another directory: %w", err)
	}
	return lock, err
}

// Create makes a log that continues another one, whose copy of the data up to
// some offsets comes along: the log has the other one's source, and partition i
// of a topic begins at starts[topic][i]. The directory must not hold a log yet.
func Create(fsys vfs.FS, dir, source string, starts map[string][]int64) error {
	id, err := parseSource(source)
	if err != nil {
		return fmt.Errorf("create log %s: %w", dir, err)
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return fmt.Errorf("create log: %w", err)
	}
	lock, err := lockDir(fsys, dir)
	if err != nil {
		return fmt.Errorf("create log %s: %w", dir, err)
	}
	return errors.Join(createLocked(fsys, dir, source, id, starts), lock.Close())
}

func createLocked(fsys vfs.FS, dir, source string, id [16]byte, starts map[string][]int64) error {
	logFile := filepath.Join(dir, logName)
	if exists, err := vfs.Exists(fsys, logFile); err != nil || exists {
		return cmp.Or(err, fmt.Errorf("create log %s: %w", dir, fs.ErrExist))
	}
	for _, topic := range slices.Sorted(maps.Keys(starts)) {
		if err := checkName("topic", topic); err != nil {
			return fmt.Errorf("create log %s: %w", dir, err)
		}
		for i, base := range starts[topic] {
			if err := createPartition(fsys, filepath.Join(dir, topic, strconv.Itoa(i)), id, i, base); err != nil {
				return fmt.Errorf("create log: topic %s, partition %d, offset %d: %w", topic, i, base, err)
			}
		}
	}
	if err := vfs.WriteFile(fsys, logFile, encodeIdentity(source)); err != nil {
		return fmt.Errorf("create log: %w", err)
	}
	return nil
}

func createPartition(fsys vfs.FS, dir string, id [16]byte, index int, base int64) error {
	if base < 0 {
		return fs.ErrInvalid
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return err
	}
	seg := &segment{path: filepath.Join(dir, segmentName(base)), segmentHeader: segmentHeader{
		id: id, base: base, createdMilli: time.Now().UnixMilli(), salt: randomSalt(), partition: uint32(index),
	}}
	f, err := createSegment(fsys, seg)
	if err != nil {
		return err
	}
	return f.Close()
}

func newSource() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return formatSource(id)
}

// load reads who the log is and opens the topics that are there or configured.
func (l *Log) load() error {
	if err := l.loadIdentity(); err != nil {
		return err
	}
	if err := l.loadPositions(); err != nil {
		return err
	}
	cleanFile := filepath.Join(l.dir, cleanName)
	var err error
	if l.clean, err = vfs.Exists(l.fs, cleanFile); err != nil {
		return err
	}
	names, err := l.topicDirs()
	if err != nil {
		return err
	}
	names = append(names, slices.Collect(maps.Keys(l.cfg.Partitions))...)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		t, err := l.openTopic(name)
		if err != nil {
			return err
		}
		l.topics[name] = t
	}
	if l.clean {
		if err := l.fs.Remove(cleanFile); err != nil {
			return err
		}
		return l.fs.SyncDir(l.dir)
	}
	return nil
}

func (l *Log) topicDirs() (names []string, err error) {
	all, err := l.fs.List(l.dir)
	if err != nil {
		return nil, err
	}
	for _, name := range all {
		info, err := l.fs.Stat(filepath.Join(l.dir, name))
		if err != nil {
			return nil, err
		}
		if info.IsDir() && checkName("topic", name) == nil {
			names = append(names, name)
		}
	}
	return names, nil
}

func (l *Log) loadIdentity() error {
	file := filepath.Join(l.dir, logName)
	data, err := vfs.ReadFile(l.fs, file)
	if errors.Is(err, fs.ErrNotExist) {
		names, err := l.topicDirs()
		if err != nil {
			return err
		}
		if len(names) > 0 {
			return fmt.Errorf("%w: %s is missing, but there is the topic %s", ErrCorruption, file, names[0])
		}
		data = encodeIdentity(newSource())
		if err := vfs.WriteFile(l.fs, file, data); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	if l.source, err = decodeIdentity(data); err != nil {
		return fmt.Errorf("decode %s: %w", file, err)
	}
	l.id, err = parseSource(l.source)
	return err
}

// Source implements Buffer.
func (l *Log) Source() string { return l.source }

// Partitions implements Buffer. A topic that does not exist yet has as many as
// it would get.
func (l *Log) Partitions(topic string) int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if t := l.topics[topic]; t != nil {
		return len(t.partitions)
	}
	return max(1, l.cfg.Partitions[topic])
}

func (l *Log) openTopics() []*topic {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.SortedFunc(maps.Values(l.topics), func(a, b *topic) int { return cmp.Compare(a.name, b.name) })
}

// topic returns the topic, which is made if it does not exist.
func (l *Log) topic(name string) (*topic, error) {
	l.mu.RLock()
	t, closed := l.topics[name], l.closed.Load()
	l.mu.RUnlock()
	if closed {
		return nil, ErrClosed
	}
	if t != nil {
		return t, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed.Load() {
		return nil, ErrClosed
	}
	if t := l.topics[name]; t != nil {
		return t, nil
	}
	t, err := l.openTopic(name)
	if err != nil {
		return nil, err
	}
	l.topics[name] = t
	return t, nil
}

// Append implements Buffer.
func (l *Log) Append(ctx context.Context, topic string, partition int, records []Record) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	t, err := l.topic(topic)
	if err != nil {
		return 0, fmt.Errorf("append to %s: %w", topic, err)
	}
	if partition < 0 || partition >= len(t.partitions) {
		return 0, fmt.Errorf("append to %s: got partition %d, want 0 to %d", topic, partition, len(t.partitions)-1)
	}
	p := t.partitions[partition]
	bytes, err := l.checkRecords(records)
	if err != nil {
		return 0, fmt.Errorf("append to %s/%d: %w", topic, partition, err)
	}
	if len(records) == 0 {
		return p.stats().next, nil
	}
	l.mu.RLock()
	if l.closed.Load() {
		l.mu.RUnlock()
		return 0, fmt.Errorf("append to %s/%d: %w", topic, partition, ErrClosed)
	}
	l.appends.Add(1)
	l.mu.RUnlock()
	defer l.appends.Done()

	if err := l.reserve(p, bytes); err != nil {
		return 0, err
	}
	r := l.pool.Get().(*request)
	r.records, r.bytes, r.first, r.err = records, bytes, 0, nil
	r.sums = r.sums[:0]
	for i := range records {
		r.sums = append(r.sums, checksum(records[i].Payload))
	}
	first, err := p.append(ctx, r)
	r.records = nil
	l.pool.Put(r)
	return first, err
}

func (l *Log) checkRecords(records []Record) (bytes int64, err error) {
	for i := range records {
		r := &records[i]
		if int64(len(r.Payload)) > l.cfg.MaxRecordBytes {
			return 0, fmt.Errorf("record %d: payload of %d bytes, want at most %d: %w", i, len(r.Payload), l.cfg.MaxRecordBytes, ErrTooLarge)
		}
		if len(r.Tenant) > maxTenantBytes {
			return 0, fmt.Errorf("record %d: tenant of %d bytes, want at most %d: %w", i, len(r.Tenant), maxTenantBytes, ErrTooLarge)
		}
		bytes += recordHeaderBytes + int64(len(r.Tenant)) + int64(len(r.Payload))
	}
	if most := max(l.cfg.SegmentBytes, l.cfg.MaxRecordBytes+recordHeaderBytes+maxTenantBytes+maxPositionBytes); bytes > most {
		return 0, fmt.Errorf("%d records of %d bytes together, want at most %d: %w", len(records), bytes, most, ErrTooLarge)
	}
	return bytes, nil
}

// reserve counts bytes against the log's limit.
func (l *Log) reserve(p *partition, bytes int64) error {
	total := l.bytes.Add(bytes)
	if l.cfg.MaxBytes == 0 || total <= l.cfg.MaxBytes {
		return nil
	}
	// What is kept though nobody needs it makes room first.
	p.rollConsumed(0)
	for _, t := range l.openTopics() {
		for _, o := range t.partitions {
			o.trim(true)
		}
	}
	if l.bytes.Load() <= l.cfg.MaxBytes {
		return nil
	}
	l.bytes.Add(-bytes)
	p.topic.metrics.limitReached.Inc()
	return &FullError{
		Reason:     fmt.Sprintf("the backlog has reached max_bytes (%d): the store does not keep up", l.cfg.MaxBytes),
		RetryAfter: fullRetryAfter,
	}
}

// append queues r and waits for its result.
func (p *partition) append(ctx context.Context, r *request) (int64, error) {
	p.mu.Lock()
	p.queue = append(p.queue, r)
	if p.wanted > 0 && len(p.queue) >= p.wanted {
		p.wanted = 0
		p.joined <- struct{}{}
	}
	lead := !p.busy
	p.busy = true
	p.mu.Unlock()
	if lead {
		p.lead()
		p.handOver()
	}
	ended := ctx.Done()
	for {
		select {
		case s := <-r.wake:
			if s == signalDone {
				return r.first, r.err
			}
			p.lead()
			p.handOver()
		case <-ended:
			if p.withdraw(r) {
				p.log.bytes.Add(-r.bytes)
				return 0, ctx.Err()
			}
			ended = nil // it is being written: the result comes soon, and the payload is in use
		}
	}
}

// withdraw takes r out of the queue, if it is still there.
func (p *partition) withdraw(r *request) bool {
	p.mu.Lock()
	i := slices.Index(p.queue, r)
	if i < 0 {
		p.mu.Unlock()
		return false
	}
	p.queue = slices.Delete(p.queue, i, i+1)
	p.mu.Unlock()
	select {
	case <-r.wake: // it was to lead: the next one does
		p.handOver()
	default:
	}
	return true
}

// Consume implements Buffer.
func (l *Log) Consume(ctx context.Context, group, topic string, handle func(ctx context.Context, c Claim) error) error {
	t, err := l.topic(topic)
	if err != nil {
		return fmt.Errorf("consume %s: %w", topic, err)
	}
	g, err := t.group(group)
	if err != nil {
		return fmt.Errorf("consume %s: %w", topic, err)
	}
	return g.consume(ctx, handle)
}

// Close implements Buffer.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed.Swap(true) {
		l.mu.Unlock()
		return nil
	}
	l.mu.Unlock()
	l.appends.Wait()
	if l.stopSync != nil {
		l.stopSync()
		<-l.syncEnded
	}
	err := l.closeFiles()
	if err == nil && l.cfg.Sync != SyncAlways && !l.jumpPending() {
		err = vfs.WriteFile(l.fs, filepath.Join(l.dir, cleanName), nil)
	}
	if l.reg != nil {
		l.reg.Unregister(l)
	}
	if err = errors.Join(err, l.lock.Close()); err != nil {
		return fmt.Errorf("close log %s: %w", l.dir, err)
	}
	return nil
}

// closeFiles makes durable what is not yet and closes the segments.
func (l *Log) closeFiles() error {
	var errs []error
	for _, t := range l.topics {
		for _, p := range t.partitions {
			errs = append(errs, p.close())
		}
	}
	return errors.Join(errs...)
}

// jumpPending says whether a partition still has to leave out offsets, which
// the next Open would not know after a clean stop.
func (l *Log) jumpPending() bool {
	for _, t := range l.topics {
		for _, p := range t.partitions {
			if p.jump {
				return true
			}
		}
	}
	return false
}

func (p *partition) close() error {
	p.mu.Lock()
	for _, c := range p.claims {
		c.notify()
	}
	p.mu.Unlock()
	if p.file == nil {
		return nil
	}
	var err error
	if p.relaxed {
		err = p.file.Sync()
	}
	err = errors.Join(err, p.file.Close())
	p.file = nil
	return err
}

func (l *Log) syncEvery(ctx context.Context) {
	defer close(l.syncEnded)
	tick := time.NewTicker(l.cfg.SyncInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, t := range l.openTopics() {
				for _, p := range t.partitions {
					p.syncBackground()
				}
			}
		}
	}
}
