package buffer

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vedette-io/vedette/internal/vfs"
)

// relaxedJump is how many offsets a log leaves out if it may have handed out
// records that a power failure took back. It only has to be more than can be
// lost.
const relaxedJump = 1 << 32

func randomSalt() uint64 { return rand.Uint64() }

// openTopic opens a topic's partitions and groups; those that are missing are
// made.
func (l *Log) openTopic(name string) (*topic, error) {
	if err := checkName("topic", name); err != nil {
		return nil, err
	}
	t := &topic{
		log:     l,
		name:    name,
		dir:     filepath.Join(l.dir, name),
		logger:  l.logger.With("topic", name),
		metrics: l.metrics.topic(name),
	}
	if err := l.fs.MkdirAll(t.dir); err != nil {
		return nil, err
	}
	names, err := l.fs.List(t.dir)
	if err != nil {
		return nil, err
	}
	want, have := l.cfg.Partitions[name], 0
	for _, n := range names {
		if i, err := strconv.Atoi(n); err == nil && i >= 0 && i < maxPartitions && strconv.Itoa(i) == n {
			have = max(have, i+1)
		}
	}
	if want != 0 && want < have {
		return nil, fmt.Errorf("topic %s has %d partitions, the configuration wants %d: partitions cannot be taken away", name, have, want)
	}
	for i := range max(want, have, 1) {
		p, err := t.openPartition(i)
		if err != nil {
			t.closePartitions()
			return nil, fmt.Errorf("topic %s, partition %d: %w", name, i, err)
		}
		t.partitions = append(t.partitions, p)
	}
	if err := t.openGroups(names); err != nil {
		t.closePartitions()
		return nil, err
	}
	for _, p := range t.partitions {
		p.settle()
		p.trim(false)
	}
	return t, nil
}

// closePartitions undoes an open that failed; nothing was written.
func (t *topic) closePartitions() {
	for _, p := range t.partitions {
		_ = p.close()
	}
}

// openGroups reads the committed offsets of the groups among the files.
func (t *topic) openGroups(names []string) error {
	for _, n := range names {
		name, ok := parseGroupFileName(n)
		if !ok {
			continue
		}
		file := filepath.Join(t.dir, n)
		data, err := vfs.ReadFile(t.log.fs, file)
		if err != nil {
			return fmt.Errorf("read the offsets of group %s: %w", name, err)
		}
		offsets, err := decodeOffsets(data)
		var newer *VersionError
		if errors.As(err, &newer) {
			return fmt.Errorf("decode %s: %w", file, err)
		}
		if err != nil {
			t.metrics.damaged.Inc()
			t.logger.Error("The committed offsets of a group are damaged: it starts at the oldest record", "file", file, "err", err)
			if err := t.setAside(file); err != nil {
				return err
			}
			continue
		}
		g := newGroup(t, name, make([]int64, len(t.partitions)))
		for i, o := range offsets {
			if i < len(t.partitions) {
				g.offsets[i] = o
			}
		}
		t.groups = append(t.groups, g)
	}
	return nil
}

const corruptSuffix = ".corrupt"

func (t *topic) setAside(file string) error {
	if err := t.log.fs.Rename(file, file+corruptSuffix); err != nil {
		return fmt.Errorf("set aside %s: %w", file, err)
	}
	return t.log.fs.SyncDir(filepath.Dir(file))
}

// openPartition finds the segments and cuts the torn tail of the last one.
func (t *topic) openPartition(index int) (*partition, error) {
	l := t.log
	p := &partition{
		joined:  make(chan struct{}, 1),
		log:     l,
		topic:   t,
		index:   index,
		dir:     filepath.Join(t.dir, strconv.Itoa(index)),
		logger:  t.logger.With("partition", index),
		relaxed: l.cfg.Sync != SyncAlways,
		tail:    tail{Tail: Tail{MaxBytes: l.cfg.TailBytes}},
	}
	if err := l.fs.MkdirAll(p.dir); err != nil {
		return nil, err
	}
	names, err := l.fs.List(p.dir)
	if err != nil {
		return nil, err
	}
	aside := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !strings.HasSuffix(n, segmentSuffix+corruptSuffix) })
	names = slices.DeleteFunc(names, func(n string) bool { _, ok := parseSegmentName(n); return !ok })
	for i, name := range names {
		damaged, err := p.addSegment(filepath.Join(p.dir, name), i == len(names)-1)
		if err != nil {
			return nil, err
		}
		if damaged {
			aside = append(aside, name+corruptSuffix)
		}
	}
	if err := p.passAside(aside); err != nil {
		return nil, err
	}
	if n := len(p.segments); n > 0 && p.segments[n-1].base >= p.next {
		if err := p.recoverTail(p.segments[n-1]); err != nil {
			return nil, err
		}
	}
	p.synced = p.next
	for _, seg := range p.segments {
		l.bytes.Add(seg.size)
	}
	return p, nil
}

// addSegment adds the file to p.segments. One whose header is damaged is set
// aside.
func (p *partition) addSegment(path string, last bool) (damaged bool, err error) {
	base, _ := parseSegmentName(filepath.Base(path))
	seg, err := readSegmentHeader(p.log.fs, path)
	if err == nil && (seg.base != base || seg.id != p.log.id || seg.partition != uint32(p.index)) {
		err = fmt.Errorf("%w: header says offset %d of partition %d of log %s, want offset %d of partition %d of log %s",
			ErrCorruption, seg.base, seg.partition, formatSource(seg.id), base, p.index, p.log.source)
	}
	if err == nil {
		p.segments = append(p.segments, seg)
		return false, nil
	}
	if !errors.Is(err, ErrCorruption) {
		return false, fmt.Errorf("open segment %s: %w", path, err)
	}
	if last && seg.size <= segmentHeaderBytes {
		// It was being made when the power failed: nothing was acknowledged in it.
		p.next = base
		return false, errors.Join(p.log.fs.Remove(path), p.log.fs.SyncDir(p.dir))
	}
	p.topic.metrics.damaged.Inc()
	p.logger.Error("A segment's header is damaged: it is set aside", "file", path+corruptSuffix, "err", err)
	return true, p.topic.setAside(path)
}

// passAside makes p.next larger than any offset in the segments that were set
// aside, if they were the last ones: those offsets may have been handed out.
func (p *partition) passAside(names []string) error {
	for _, name := range names {
		base, ok := parseSegmentName(strings.TrimSuffix(name, corruptSuffix))
		if n := len(p.segments); !ok || n > 0 && p.segments[n-1].base > base {
			continue
		}
		info, err := p.log.fs.Stat(filepath.Join(p.dir, name))
		if err != nil {
			return err
		}
		if next := base + info.Size()/recordHeaderBytes + 1; next > p.next {
			p.next, p.jump = next, true
		}
	}
	return nil
}

// readSegmentHeader returns the segment as its header describes it. With an
// ErrCorruption, only its size is known.
func readSegmentHeader(fsys vfs.FS, path string) (*segment, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	seg := &segment{path: path, size: info.Size(), newestAppendMs: info.ModTime().UnixMilli()}
	var b [segmentHeaderBytes]byte
	n, err := f.ReadAt(b[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	seg.segmentHeader, err = decodeSegmentHeader(b[:n])
	return seg, err
}

// recoverTail reads the last segment, cuts off what no append has finished and
// sets p.next.
func (p *partition) recoverTail(seg *segment) error {
	f, err := p.log.fs.OpenFile(seg.path, vfs.ReadWrite)
	if err != nil {
		return fmt.Errorf("open segment: %w", err)
	}
	found, err := scanTail(f, seg)
	if err != nil {
		return errors.Join(fmt.Errorf("read segment %s: %w", seg.path, err), f.Close())
	}
	if found.damages > 0 {
		p.topic.metrics.damaged.Add(float64(found.damages))
		p.logger.Error("Damage in a segment: readers pass over it", "file", seg.path, "places", found.damages, "first_byte", found.firstDamage)
	}
	if cut := seg.size - found.end; cut > 0 {
		p.topic.metrics.cutBytes.Add(float64(cut))
		p.logger.Warn("The end of an append that was never acknowledged is cut off", "file", seg.path, "from_byte", found.end, "bytes", cut)
		if err := f.Truncate(found.end); err != nil {
			return errors.Join(fmt.Errorf("cut segment: %w", err), f.Close())
		}
	}
	// What a process that was killed has written may be in memory alone. It is
	// handed out from now on, so it must not go away again.
	if err := f.Sync(); err != nil {
		return errors.Join(fmt.Errorf("fsync segment: %w", err), f.Close())
	}
	seg.size, p.next = found.end, found.next
	p.recoverPositions(found.positions)
	if found.newestAppendMs > 0 {
		seg.newestAppendMs = found.newestAppendMs
	}
	p.file, p.end = f, found.end
	return nil
}

// tailScan is what scanTail has found.
type tailScan struct {
	end            int64 // file position behind the last finished append
	next           int64 // offset behind it
	newestAppendMs int64
	damages        int // places of damage that readers pass over
	firstDamage    int64
	positions      [][]byte // payloads of records of FormatPosition
}

// scanTail finds the end of the last segment. Damage ends it, unless a record
// behind it says that what is damaged had been fsynced.
func scanTail(src io.ReaderAt, seg *segment) (tailScan, error) {
	var (
		found     = tailScan{end: min(segmentHeaderBytes, seg.size), next: seg.base}
		damagedAt = int64(-1)
		places    = 0
		positions [][]byte // of appends that are not known to be finished
		s         scanner
	)
	s.reset(src, seg.seed(), segmentHeaderBytes, seg.size)
	for {
		r, err := s.next(true)
		switch {
		case errors.Is(err, io.EOF):
			return found, nil
		case errors.Is(err, errDamaged):
			if damagedAt < 0 {
				damagedAt = s.pos
			}
			places++
			more, err := s.resync()
			if err != nil {
				return found, err
			}
			if !more {
				return found, nil
			}
			continue
		case err != nil:
			return found, err
		}
		if r.offset < found.next {
			continue // no writer does this: it cannot be told apart from damage
		}
		if r.format == FormatPosition {
			positions = append(positions, slices.Clone(r.payload))
		}
		if damagedAt >= 0 && r.durable > found.next {
			if found.damages == 0 {
				found.firstDamage = damagedAt
			}
			found.damages += places
			damagedAt, places = -1, 0
		}
		if damagedAt < 0 && r.flags&recordLast != 0 {
			found.end, found.next, found.newestAppendMs = s.pos, r.offset+1, r.appendMilli
			found.positions, positions = append(found.positions, positions...), nil
		}
	}
}

// settle decides where a partition goes on, once its groups are known: behind
// everything that was ever handed out, and in a segment of the right kind.
func (p *partition) settle() {
	l := p.log
	if n := len(p.segments); n > 0 && p.segments[n-1].flags&segmentRelaxed != 0 && !l.clean {
		p.next, p.jump = p.next+relaxedJump, true
	}
	for _, g := range p.topic.groups {
		if o := g.offsets[p.index]; o > p.next {
			p.logger.Error("The log ends before the offset that a group has committed: it goes on there", "group", g.name,
				"end", p.next, "committed", o)
			p.next, p.jump = o, true
		}
	}
	p.synced = p.next
	n := len(p.segments)
	rightKind := n > 0 && (p.segments[n-1].flags&segmentRelaxed != 0) == p.relaxed
	if p.file != nil && rightKind && !p.jump {
		return
	}
	if p.file != nil {
		if err := p.file.Close(); err != nil {
			p.logger.Warn("Closing a segment failed", "file", p.file.Name(), "err", err)
		}
		p.file = nil
	}
	if n == 0 && !p.jump && p.next == 0 {
		return // the first append begins the first segment
	}
	if err := p.beginSegment(p.next); err != nil {
		p.logger.Warn("Beginning a segment failed; the next append tries again", "dir", p.dir, "err", err)
	}
}
