package buffer

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/vedette-io/vedette/internal/vfs"
)

// partition is an ordered log in segment files.
//
// Appends form a queue. Whoever finds nobody at work leads: it takes the whole
// queue, writes it, fsyncs once and tells every append its result; appends
// that arrive meanwhile queue up, and the first of them leads the next round.
// If the round before had to do with several senders, the leader gives them up to
// gatherWait to join: an fsync costs about as much CPU as the rest of a small
// request.
// Nothing is published to consumers before it is as durable as the sync mode
// makes it.
//
// A failed write is cut off again. After a failed fsync nobody knows what the
// disk holds, and a later fsync that succeeds says nothing about it: the round
// fails, the segment is finished where it was last known to be durable, and a
// new one begins.
type partition struct {
	log     *Log
	topic   *topic
	index   int
	dir     string
	logger  *slog.Logger
	relaxed bool // appends are acknowledged before they are fsynced

	mu       sync.Mutex // guards what follows; held for no I/O
	queue    []*request
	busy     bool       // someone leads, and owns the fields at the end
	wanted   int        // length of the queue that a leader waits for; 0 if none does
	segments []*segment // oldest first; appends go to the last one
	next     int64      // offset of the next record; those below may be read
	synced   int64      // offset below which all is known to be fsynced
	lostUpTo int64      // offset below which missing records have been counted
	unsynced vfs.File   // file with writes that the background sync has to fsync
	badSync  bool       // the background sync failed on the last segment
	claims   []*claim
	tail     tail
	jump     bool // offsets between the last segment and next were left out on purpose

	joined chan struct{} // has room: the queue has the length that the leader wants

	// Of the leader.
	senders int      // appends that the last round took or left in the queue
	file    vfs.File // of the last segment; nil if the next append has to begin one
	end     int64    // where the next write goes
	taken   []*request
	buf     []byte

	hasPositions bool // records of FormatPosition are in the last segment
}

// segment is one file of the log.
type segment struct {
	segmentHeader
	path           string
	size           int64 // up to here it may be read
	newestAppendMs int64
}

// request is an append on its way.
type request struct {
	records []Record
	sums    []uint32 // of the payloads
	bytes   int64
	first   int64
	err     error
	wake    chan signal
	run     func() // if set, called by the leader once the round is written
}

// signal tells a waiting append what happened to it.
type signal uint8

const (
	signalDone signal = iota // first and err are set
	signalLead               // it leads the next round
)

const (
	// payloads from this size on are written from where they are, smaller ones
	// are gathered first.
	gatherBelow = 32 << 10
	maxGather   = 256 << 10

	fullRetryAfter = 5 * time.Second

	// gatherWait is how long a round waits for the senders of the round before.
	gatherWait = time.Millisecond
)

// gather waits until as many appends are in the queue as there were senders in
// the last round, but not for long.
func (p *partition) gather() {
	if p.senders < 2 || p.relaxed {
		return
	}
	p.mu.Lock()
	if len(p.queue) >= p.senders {
		p.mu.Unlock()
		return
	}
	p.wanted = p.senders
	p.mu.Unlock()
	timer := time.NewTimer(gatherWait)
	defer timer.Stop()
	select {
	case <-p.joined:
		return
	case <-timer.C:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wanted == 0 { // the last one joined at this moment
		<-p.joined
	}
	p.wanted = 0
}

// lead does one round for the appends in the queue. The caller has made the
// partition busy.
func (p *partition) lead() {
	p.gather()
	p.mu.Lock()
	batch := p.queue
	p.queue = p.taken[:0]
	first, durable := p.next, p.synced
	p.mu.Unlock()

	next, err := p.write(batch, first, durable)
	now := time.Now().UnixMilli()

	var discarded []any
	p.mu.Lock()
	if err == nil {
		seg := p.segments[len(p.segments)-1]
		seg.size = p.end
		if next > first {
			seg.newestAppendMs = now
		}
		p.next = next
		if p.relaxed {
			p.unsynced = p.file
		} else {
			p.synced = next
		}
		offset := first
		for _, r := range batch {
			r.first = offset
			for i := range r.records {
				if a := r.records[i].Attachment; a != nil && !p.tail.push(offset, &r.records[i]) {
					discarded = append(discarded, a)
				}
				offset++
			}
		}
		for _, c := range p.claims {
			c.notify()
		}
	}
	p.senders = len(batch) + len(p.queue)
	p.mu.Unlock()
	p.discard(discarded)
	if err == nil {
		for _, r := range batch { // all, before anything begins another segment
			p.notePositions(r.records)
		}
		for _, r := range batch {
			if r.run != nil {
				r.run()
			}
		}
	}

	p.count(batch, err)
	for i, r := range batch {
		r.err = err
		batch[i] = nil
		r.wake <- signalDone
	}
	p.taken = batch
}

// handOver ends the caller's lead: the oldest waiting append leads next.
func (p *partition) handOver() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		p.busy = false
		return
	}
	p.queue[0].wake <- signalLead
}

// tryLead makes the caller the leader if there is none.
func (p *partition) tryLead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy {
		return false
	}
	p.busy = true
	return true
}

func (p *partition) count(batch []*request, err error) {
	var records, bytes int64
	for _, r := range batch {
		records += int64(len(r.records))
		bytes += r.bytes
	}
	m := p.topic.metrics
	if err == nil {
		m.appendedRecords.Add(float64(records))
		m.appendedBytes.Add(float64(bytes))
		return
	}
	p.log.bytes.Add(-bytes)
	var full *FullError
	if errors.As(err, &full) {
		m.diskFull.Add(float64(len(batch)))
	}
}

// write writes and fsyncs the batch, whose first record gets the offset first,
// and returns the offset behind it. On an error nothing of it is left.
func (p *partition) write(batch []*request, first, durable int64) (next int64, err error) {
	var bytes int64
	for _, r := range batch {
		bytes += r.bytes
	}
	if err := p.ensureSegment(bytes, first); err != nil {
		return 0, p.mediumError("begin a segment of", err)
	}
	start := p.end
	next, err = p.writeRecords(batch, first, durable)
	if err != nil {
		p.end = start
		if cutErr := p.file.Truncate(start); cutErr != nil {
			p.logger.Warn("A write failed and could not be cut off: a new segment begins", "file", p.file.Name(), "err", cutErr)
			p.abandon()
		}
		return 0, p.mediumError("write to", err)
	}
	if p.relaxed {
		return next, nil
	}
	begin := time.Now()
	if err := p.file.Sync(); err != nil {
		p.log.metrics.fsyncFailures.Inc()
		p.logger.Error("An fsync failed: its appends are refused and a new segment begins", "file", p.file.Name(), "err", err)
		p.abandon()
		return 0, p.mediumError("fsync", err)
	}
	p.log.metrics.fsyncSeconds.Observe(time.Since(begin).Seconds())
	p.log.metrics.appendsPerFsync.Observe(float64(len(batch)))
	return next, nil
}

func (p *partition) writeRecords(batch []*request, first, durable int64) (int64, error) {
	p.mu.Lock()
	seed := p.segments[len(p.segments)-1].seed()
	p.mu.Unlock()
	h := recordHeader{offset: first, durable: durable, appendMilli: time.Now().UnixMilli()}
	buf := p.buf[:0]
	flush := func(b []byte) error {
		n, err := p.file.WriteAt(b, p.end)
		p.end += int64(n)
		return err
	}
	for _, r := range batch {
		for i := range r.records {
			rec := &r.records[i]
			h.minTime, h.maxTime = rec.MinTime, rec.MaxTime
			h.payloadLen, h.payloadSum = uint32(len(rec.Payload)), r.sums[i]
			h.tenantLen = uint16(len(rec.Tenant))
			h.format, h.flags = rec.Format, 0
			if i == len(r.records)-1 {
				h.flags = recordLast
			}
			buf = h.appendTo(buf, seed, rec.Tenant)
			h.offset++
			big := len(rec.Payload) >= gatherBelow
			if !big {
				buf = append(buf, rec.Payload...)
			}
			if !big && len(buf) < maxGather {
				continue
			}
			if err := flush(buf); err != nil {
				return 0, err
			}
			buf = buf[:0]
			if big {
				if err := flush(rec.Payload); err != nil {
					return 0, err
				}
			}
		}
	}
	p.buf = buf[:0]
	if len(buf) == 0 {
		return h.offset, nil
	}
	return h.offset, flush(buf)
}

// ensureSegment makes p.file the segment into which the next bytes go.
func (p *partition) ensureSegment(bytes, first int64) error {
	p.mu.Lock()
	bad := p.badSync
	p.badSync = false
	p.mu.Unlock()
	if bad {
		p.abandon()
	}
	if p.file != nil && p.end > segmentHeaderBytes && p.end+bytes > p.log.cfg.SegmentBytes {
		p.finishSegment()
	}
	if p.file != nil {
		return nil
	}
	return p.beginSegment(first)
}

// finishSegment closes the segment that was appended to. In every mode it is
// fsynced first, so that only the last segment of a log can be torn.
func (p *partition) finishSegment() {
	if p.relaxed {
		p.mu.Lock()
		upTo := p.next
		p.mu.Unlock()
		if err := p.sync(p.file, upTo); err != nil {
			p.abandon()
			return
		}
	}
	f := p.file
	p.file = nil
	p.mu.Lock()
	p.unsynced = nil
	p.mu.Unlock()
	if err := f.Close(); err != nil {
		p.logger.Warn("Closing a finished segment failed", "file", f.Name(), "err", err)
	}
}

// abandon ends the last segment where it may be read. What lies beyond is cut
// off if the disk lets us; if not, readers pass over it.
func (p *partition) abandon() {
	f := p.file
	if f == nil {
		return
	}
	p.file = nil
	p.mu.Lock()
	p.unsynced = nil
	size := p.segments[len(p.segments)-1].size
	p.mu.Unlock()
	err := f.Truncate(size)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		p.logger.Warn("Cutting the end of an abandoned segment failed; readers pass over it", "file", f.Name(), "size", size, "err", err)
	}
}

// beginSegment makes the file whose first record will have the offset base.
func (p *partition) beginSegment(base int64) error {
	if err := p.keepPositions(); err != nil {
		return err
	}
	seg := &segment{
		segmentHeader: segmentHeader{
			id:           p.log.id,
			base:         base,
			createdMilli: time.Now().UnixMilli(),
			salt:         randomSalt(),
			partition:    uint32(p.index),
		},
		path: filepath.Join(p.dir, segmentName(base)),
		size: segmentHeaderBytes,
	}
	seg.newestAppendMs = seg.createdMilli
	if p.relaxed {
		seg.flags |= segmentRelaxed
	}
	p.mu.Lock()
	if p.jump {
		seg.flags |= segmentJump
	}
	p.mu.Unlock()
	p.dropEmptySegment(base)
	f, err := createSegment(p.log.fs, seg)
	if err != nil {
		return err
	}
	p.file, p.end = f, segmentHeaderBytes
	p.log.bytes.Add(segmentHeaderBytes)
	p.mu.Lock()
	p.jump = false
	p.segments = append(p.segments, seg)
	p.mu.Unlock()
	return nil
}

// dropEmptySegment forgets the last segment if it begins at base too: it has
// no records, and its file must not be written to again.
func (p *partition) dropEmptySegment(base int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.segments); n > 0 && p.segments[n-1].base == base {
		p.log.bytes.Add(-p.segments[n-1].size)
		p.segments = p.segments[:n-1]
	}
}

// createSegment makes the file with its header, durably, in place of one of
// that name.
func createSegment(fsys vfs.FS, seg *segment) (f vfs.File, err error) {
	if err := fsys.Remove(seg.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if f, err = fsys.OpenFile(seg.path, vfs.CreateNew); err != nil {
		return nil, err
	}
	_, err = f.WriteAt(seg.encode(), 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = fsys.SyncDir(filepath.Dir(seg.path))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), fsys.Remove(seg.path))
	}
	return f, nil
}

// syncBackground fsyncs what was appended in mode "interval". It runs beside
// the leader.
func (p *partition) syncBackground() {
	p.mu.Lock()
	f, upTo := p.unsynced, p.next
	p.unsynced = nil
	p.mu.Unlock()
	if f == nil {
		return
	}
	err := p.sync(f, upTo)
	if err == nil || errors.Is(err, fs.ErrClosed) { // finished meanwhile, by a leader that fsynced it
		return
	}
	p.mu.Lock()
	p.badSync = true
	p.mu.Unlock()
}

func (p *partition) sync(f vfs.File, upTo int64) error {
	begin := time.Now()
	if err := f.Sync(); err != nil {
		if !errors.Is(err, fs.ErrClosed) {
			p.log.metrics.fsyncFailures.Inc()
			p.logger.Error("An fsync failed: acknowledged data may be lost if the power fails; a new segment begins", "file", f.Name(), "err", err)
		}
		return err
	}
	p.log.metrics.fsyncSeconds.Observe(time.Since(begin).Seconds())
	p.mu.Lock()
	p.synced = max(p.synced, upTo)
	p.mu.Unlock()
	return nil
}

// mediumError wraps an error of the disk; one of want of room becomes a
// FullError.
func (p *partition) mediumError(verb string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return &FullError{Reason: "no space left for " + p.dir, RetryAfter: fullRetryAfter, Err: err}
	}
	return fmt.Errorf("%s %s/%d: %w", verb, p.topic.name, p.index, err)
}

// trim removes segments whose records every known group has committed, as
// retention says, or whatever it says if force is set.
func (p *partition) trim(force bool) {
	committed, known := p.topic.committed(p.index)
	if !known {
		return
	}
	keep := p.log.cfg.retentionOf(p.topic.name)
	if force {
		keep = Retention{}
	}
	now := time.Now().UnixMilli()
	var removed []*segment
	p.mu.Lock()
	var consumed int64 // bytes of consumed segments
	n := 0
	for ; n+1 < len(p.segments) && p.segments[n+1].base <= committed; n++ {
		consumed += p.segments[n].size
	}
	for len(removed) < n {
		seg := p.segments[0]
		young := keep.Time == 0 || now-seg.newestAppendMs < keep.Time.Milliseconds()
		fits := keep.Bytes == 0 || consumed <= keep.Bytes
		if keep != (Retention{}) && young && fits {
			break
		}
		consumed -= seg.size
		removed = append(removed, seg)
		p.segments = p.segments[1:]
	}
	if len(removed) > 0 {
		p.segments = slices.Clone(p.segments) // let go of the removed ones
	}
	p.mu.Unlock()
	for _, seg := range removed {
		p.log.bytes.Add(-seg.size)
		p.topic.metrics.removedSegments.Inc()
		if err := p.log.fs.Remove(seg.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			p.logger.Warn("Removing a consumed segment failed", "file", seg.path, "err", err)
		}
	}
}

// rollConsumed begins a new segment if every group has committed all of the
// last one and it is larger than atLeast, so that the file can go.
func (p *partition) rollConsumed(atLeast int64) {
	if !p.tryLead() {
		return // appends are coming in; there will be a next time
	}
	defer p.handOver()
	committed, known := p.topic.committed(p.index)
	p.mu.Lock()
	next := p.next
	p.mu.Unlock()
	if !known || committed < next || p.file == nil || p.end <= max(atLeast, segmentHeaderBytes) {
		return
	}
	p.finishSegment()
	if err := p.beginSegment(next); err != nil {
		p.logger.Warn("Beginning a new segment after the old one was consumed failed", "dir", p.dir, "err", err)
	}
}

// lost counts and logs records that are missing from [from, to), once.
func (p *partition) lost(seg *segment, from, to int64) {
	p.mu.Lock()
	from = max(from, p.lostUpTo)
	p.lostUpTo = max(p.lostUpTo, to)
	p.mu.Unlock()
	if from >= to {
		return
	}
	p.topic.metrics.lostRecords.Add(float64(to - from))
	p.logger.Error("Records are missing", "file", seg.path, "from_offset", from, "to_offset", to-1)
}

// damage counts and logs bytes that are no valid record, once; offset is that
// of the record which was expected there.
func (p *partition) damage(seg *segment, from, to, offset int64) {
	p.mu.Lock()
	known := offset < p.lostUpTo
	p.mu.Unlock()
	if known {
		return
	}
	p.topic.metrics.damaged.Inc()
	p.logger.Error("Damage in a segment: reading goes on behind it", "file", seg.path, "from_byte", from, "to_byte", to, "offset", offset)
}

// has says whether the segment is still part of the log.
func (p *partition) has(seg *segment) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.segments, seg)
}

// discard tells attachments that nobody will get them.
func (p *partition) discard(attachments []any) {
	for _, a := range attachments {
		p.topic.metrics.discarded.Inc()
		if d, ok := a.(Discarder); ok {
			d.Discard()
		}
	}
}

// partitionStats is what the metrics say of a partition.
type partitionStats struct {
	bytes        int64
	segments     int
	oldest, next int64
}

func (p *partition) stats() partitionStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := partitionStats{segments: len(p.segments), oldest: p.oldestLocked(), next: p.next}
	for _, seg := range p.segments {
		s.bytes += seg.size
	}
	return s
}

// oldestLocked returns the offset from which records are kept.
func (p *partition) oldestLocked() int64 {
	if len(p.segments) == 0 {
		return p.next
	}
	return p.segments[0].base
}
