package buffer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// Dropped is a segment that was removed before its messages were consumed.
type Dropped struct {
	Topic     string
	Partition int
	From, To  int64 // offsets that it covered, To excluded
	Bytes     int64 // on disk
	Unread    error // why not all messages were shown; nil if they were, but for damaged ones
}

// DropOldest removes the segment of the log whose newest message is the oldest,
// whoever still needs it, if that message was appended before the given time; a
// zero time is no condition. see gets every message of it before it is removed;
// their payloads are valid during the call. A segment that cannot be read goes too.
// ok is false if there is nothing to drop. Readers go on behind the gap.
func (l *Log) DropOldest(ctx context.Context, before time.Time, see func(topic string, partition int, m *Message)) (d Dropped, ok bool, err error) {
	for {
		p, seg := l.oldestSegment(before)
		if p == nil {
			return Dropped{}, false, nil
		}
		if err := p.leave(ctx, seg); err != nil {
			return Dropped{}, false, fmt.Errorf("drop the oldest of %s/%d: %w", p.topic.name, p.index, err)
		}
		d, ok, err := p.dropFirst(seg, see)
		if ok || err != nil {
			return d, ok, err
		}
		// A commit has removed it meanwhile.
	}
}

// oldestSegment finds the segment that DropOldest removes.
func (l *Log) oldestSegment(before time.Time) (oldest *partition, seg *segment) {
	var newest int64
	for _, t := range l.openTopics() {
		for _, p := range t.partitions {
			p.mu.Lock()
			for _, s := range p.segments {
				if s.size <= segmentHeaderBytes {
					continue // nothing in it
				}
				if seg == nil || s.newestAppendMs < newest {
					oldest, seg, newest = p, s, s.newestAppendMs
				}
				break
			}
			p.mu.Unlock()
		}
	}
	if seg == nil || !before.IsZero() && newest >= before.UnixMilli() {
		return nil, nil
	}
	return oldest, seg
}

// RollOlder begins a new segment in partitions that still append to one that is
// older, so that it can go when its time has come.
func (l *Log) RollOlder(ctx context.Context, than time.Time) error {
	var errs []error
	for _, t := range l.openTopics() {
		for _, p := range t.partitions {
			p.mu.Lock()
			var last *segment
			if n := len(p.segments); n > 0 && p.segments[n-1].createdMilli < than.UnixMilli() && p.segments[n-1].size > segmentHeaderBytes {
				last = p.segments[n-1]
			}
			p.mu.Unlock()
			if last != nil {
				errs = append(errs, p.leave(ctx, last))
			}
		}
	}
	return errors.Join(errs...)
}

// leave makes appends go to another segment than seg.
func (p *partition) leave(ctx context.Context, seg *segment) error {
	isLast := func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.segments) > 0 && p.segments[len(p.segments)-1] == seg
	}
	if !isLast() {
		return nil
	}
	p.log.mu.RLock()
	if p.log.closed.Load() {
		p.log.mu.RUnlock()
		return ErrClosed
	}
	p.log.appends.Add(1)
	p.log.mu.RUnlock()
	defer p.log.appends.Done()
	var err error
	r := p.log.pool.Get().(*request)
	r.records, r.bytes, r.first, r.err = nil, 0, 0, nil
	r.sums = r.sums[:0]
	r.run = func() {
		if !isLast() {
			return
		}
		p.mu.Lock()
		next := p.next
		p.mu.Unlock()
		if p.file != nil {
			p.finishSegment()
		}
		err = p.beginSegment(next)
	}
	_, appendErr := p.append(ctx, r)
	r.run = nil
	p.log.pool.Put(r)
	return errors.Join(appendErr, err)
}

// dropFirst shows the messages of seg and removes it, if it is still the first
// one that has any and not the one that appends go to.
func (p *partition) dropFirst(seg *segment, see func(string, int, *Message)) (d Dropped, ok bool, err error) {
	f, openErr := p.log.fs.Open(seg.path)
	if openErr == nil {
		defer f.Close()
	}
	p.mu.Lock()
	n := 0 // segments that go: empty ones before it, too
	for n < len(p.segments) && p.segments[n] != seg {
		n++
	}
	if n+1 >= len(p.segments) {
		p.mu.Unlock()
		return d, false, nil
	}
	gone := p.segments[:n+1]
	d = Dropped{Topic: p.topic.name, Partition: p.index, From: gone[0].base, To: p.segments[n+1].base, Bytes: seg.size}
	size := seg.size
	p.mu.Unlock()

	if d.Unread = openErr; openErr == nil {
		d.Unread = showSegment(f, seg, size, d, see)
	}
	p.mu.Lock()
	if len(p.segments) <= len(gone) || p.segments[len(gone)-1] != seg {
		p.mu.Unlock()
		return d, false, nil // it was consumed: nobody misses what was shown
	}
	gone = p.segments[:len(gone)]
	p.segments = append([]*segment(nil), p.segments[len(gone):]...)
	p.mu.Unlock()
	for _, s := range gone {
		p.log.bytes.Add(-s.size)
		p.topic.metrics.removedSegments.Inc()
		if rmErr := p.log.fs.Remove(s.path); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("remove dropped segment: %w", rmErr))
		}
	}
	return d, true, err
}

// showSegment calls see with the messages of a segment.
func showSegment(f io.ReaderAt, seg *segment, size int64, d Dropped, see func(string, int, *Message)) error {
	var s scanner
	s.reset(f, seg.seed(), segmentHeaderBytes, size)
	for at := d.From; ; {
		r, err := s.next(true)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, errDamaged):
			if more, err := s.resync(); err != nil || !more {
				return err
			}
			continue
		case err != nil:
			return err
		}
		if r.offset < at || r.offset >= d.To {
			continue // of an append that failed
		}
		at = r.offset + 1
		see(d.Topic, d.Partition, &Message{Offset: r.offset, Appended: r.appendMilli, Record: Record{
			Tenant: string(r.tenant), Format: r.format, MinTime: r.minTime, MaxTime: r.maxTime, Payload: r.payload,
		}})
	}
}

// SizeBytes returns what the log takes on disk.
func (l *Log) SizeBytes() int64 { return l.bytes.Load() }

// CommittedBy returns the offset at which a group continues. A new group begins at
// the oldest record, and from now on records are kept for it.
func (l *Log) CommittedBy(group, topic string, partition int) (int64, error) {
	t, err := l.topic(topic)
	if err != nil {
		return 0, fmt.Errorf("group %s of %s: %w", group, topic, err)
	}
	g, err := t.group(group)
	if err != nil {
		return 0, fmt.Errorf("group %s of %s: %w", group, topic, err)
	}
	return g.committedAt(partition), nil
}
