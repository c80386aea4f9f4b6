package log

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	scanInterval  = time.Second
	pruneInterval = time.Minute

	// copyPatience is how long a file that looks like a copy under way is left to
	// grow.
	copyPatience = 10 * time.Second
)

// scan looks for new files, and for what has become of those that are known.
func (t *Tailer) scan(now time.Time) {
	t.scanDue = now.Add(max(t.scanEvery, t.cfg.PollInterval))
	seen := map[string]bool{}
	for _, s := range t.sources {
		for _, pattern := range s.Include {
			for _, path := range expand(pattern) {
				if !seen[path] && !s.excludes(path) {
					seen[path] = t.look(s, path, now)
				}
			}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(t.live)) {
		if !seen[path] {
			t.rotated(t.live[path], now)
		}
	}
	for _, s := range t.sources {
		s.start = false
		if !slices.Contains(t.known, s.key) {
			t.known, t.dirty = append(t.known, s.key), true
		}
	}
	if now.Sub(t.pruned) >= pruneInterval {
		t.prune()
		t.pruned = now
	}
	t.closeIdle(now)
	t.report()
}

// look deals with a path that a source wants; it reports whether there is a file.
func (t *Tailer) look(s *source, path string, now time.Time) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	id, ok := idOf(info)
	if !ok {
		return false
	}
	have := t.live[path]
	if have != nil && have.id == id {
		return true
	}
	if f := t.byID[id]; f != nil {
		if t.moved(f, path, info, now) {
			if have != nil && have != f {
				t.rotated(have, now)
			}
			return true
		}
		t.forget(f) // the inode is another file's now
		have = t.live[path]
	}
	if have != nil && t.renumbered(have, path, id) {
		return true
	}
	if have != nil {
		t.rotated(have, now)
	}
	t.found(s, path, id, info, now)
	return true
}

// moved deals with a file that is known and now stands at path; it reports false
// if it is not the same one.
func (t *Tailer) moved(f *file, path string, info fs.FileInfo, now time.Time) bool {
	if f.f == nil { // otherwise its inode cannot have become another's
		if info.Size() == f.acked && f.finished && info.ModTime().Equal(f.mtime) {
			return true
		}
		if !f.sameAt(path) {
			return false
		}
	}
	f.place = real(path)
	if f.path == path {
		f.gone, f.finished = false, false
		t.live[path] = f
		t.dirty = true
	} else if f.finished && info.Size() > f.acked {
		f.finished, t.dirty = false, true // somebody has written to it late
	}
	if t.live[f.path] == f && f.path != path { // of two names, the path of its records counts while it leads here
		if at, err := os.Stat(f.path); err != nil {
			t.rotated(f, now)
		} else if id, ok := idOf(at); !ok || id != f.id {
			t.rotated(f, now)
		}
	}
	return true
}

// sameAt reports whether what stands at path has the content that was read.
func (f *file) sameAt(path string) bool {
	h, err := openRegular(path)
	if err != nil {
		return false
	}
	defer h.Close() //nolint:errcheck // it was read only
	return f.mark.holds(h, f.acked)
}

// renumbered takes a file whose device has another number since a restart of the
// machine for the same one.
func (t *Tailer) renumbered(f *file, path string, id fileID) bool {
	if f.f != nil || f.id.Ino != id.Ino || f.acked == 0 || !f.sameAt(path) {
		return false
	}
	delete(t.byID, f.id)
	f.id = id
	t.byID[id] = f
	t.dirty = true
	return true
}

// found begins a new file.
func (t *Tailer) found(s *source, path string, id fileID, info fs.FileInfo, now time.Time) {
	if !t.between(s, path, id) {
		return // until the next scan
	}
	f := t.newFile(s, path, id)
	f.grown = now
	if err := f.open(path); err != nil {
		t.failed("open", path, err)
		t.forget(f) // until the next scan
		return
	}
	if wait, copied := t.copyOf(f, info, now); copied {
		return
	} else if wait {
		t.forget(f)
		return
	}
	t.live[path] = f
	t.dirty = true
	t.metrics.events.WithLabelValues("found").Inc()
	if !s.start || s.Start == StartBeginning {
		return
	}
	end, err := lineEnd(f.f, info.Size(), int64(t.cfg.MaxLineBytes))
	if err == nil {
		f.mark, err = markAt(f.f, end, mark{})
	}
	if err != nil {
		t.failed("read", path, err)
		t.forget(f)
		return
	}
	f.done, f.doneMark, f.acked = end, f.mark, end
}

// lineEnd returns where the last whole line ends, of the bytes below size.
func lineEnd(r io.ReaderAt, size, atMost int64) (int64, error) {
	const chunk = 4 << 10
	var buf [chunk]byte
	for end := size; end > 0 && size-end < atMost; {
		begin := max(0, end-chunk)
		b := buf[:end-begin]
		if _, err := r.ReadAt(b, begin); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		for i := len(b) - 1; i >= 0; i-- {
			if b[i] == '\n' {
				return begin + int64(i) + 1, nil
			}
		}
		if end = begin; end == 0 {
			return 0, nil
		}
	}
	return size, nil
}

// between finds the files that were at path after the last one that is known of
// it and before the new one: rotated away so fast that no scan has met them. They
// are its neighbours with names of generations that are younger. It reports false
// if generations are being renamed, so that their order cannot be told.
func (t *Tailer) between(s *source, path string, id fileID) bool {
	var last *file
	for _, f := range t.files {
		if f.path == path && f.gone {
			last = f
		}
	}
	if last == nil {
		return true
	}
	if last.f != nil {
		if info, err := last.f.Stat(); err == nil {
			last.mtime = info.ModTime()
		}
	}
	var missed []neighbour
	dir, base := filepath.Split(real(path))
	all, ok := settledNeighbours(dir, path, id)
	if !ok {
		return false
	}
	for _, n := range all {
		if n.id != id && isGeneration(filepath.Base(n.path), base) && !s.excludes(n.path) && !n.info.ModTime().Before(last.mtime) && !t.knows(n) {
			missed = append(missed, n)
		}
	}
	slices.SortFunc(missed, older)
	for _, n := range missed {
		f := t.newFile(s, path, n.id)
		f.gone, f.grown = true, time.Now()
		if err := f.open(n.path); err != nil {
			t.failed("open", n.path, err)
			t.forget(f)
			continue
		}
		t.dirty = true
		t.metrics.events.WithLabelValues("rotated").Inc()
	}
	return true
}

// settledNeighbours lists a directory in which nothing is renamed meanwhile: twice
// the same, and path leads to the file with the given id all the while.
func settledNeighbours(dir, path string, id fileID) (list []neighbour, ok bool) {
	const tries = 5
	same := func(a, b neighbour) bool { return a.path == b.path && a.id == b.id }
	before := neighbours(dir)
	for range tries {
		list = neighbours(dir)
		if slices.EqualFunc(before, list, same) {
			info, err := os.Stat(path)
			if err != nil {
				return nil, false
			}
			at, regular := idOf(info)
			return list, regular && at == id
		}
		before = list
	}
	return nil, false
}

// knows reports whether a neighbour is one of the files; one whose inode it has
// taken over is forgotten.
func (t *Tailer) knows(n neighbour) bool {
	f := t.byID[n.id]
	if f == nil {
		return false
	}
	if f.f != nil || t.moved(f, n.path, n.info, time.Now()) {
		return true
	}
	t.forget(f)
	return false
}

// older orders generations of a file. Clocks of file systems are coarse: of those
// with one time, a higher number is the older one.
func older(a, b neighbour) int {
	if c := a.info.ModTime().Compare(b.info.ModTime()); c != 0 {
		return c
	}
	number := func(n neighbour) int {
		k, err := strconv.Atoi(strings.TrimPrefix(filepath.Ext(n.path), "."))
		if err != nil {
			return -1
		}
		return k
	}
	return cmp.Or(cmp.Compare(number(b), number(a)), cmp.Compare(a.path, b.path))
}

// copyOf looks whether a new file is a copy that a rotation makes of a known one
// before it truncates that: what was read of the one is not read again of the other.
// wait says that the copy is not complete.
func (t *Tailer) copyOf(f *file, info fs.FileInfo, now time.Time) (wait, copied bool) {
	for _, o := range t.files {
		if o == f || o.gone || o.done == 0 || filepath.Dir(o.place) != filepath.Dir(f.place) ||
			!isGeneration(filepath.Base(f.place), filepath.Base(o.place)) || !o.doneMark.begins(f.f) {
			continue
		}
		if info.Size() < o.done {
			return now.Sub(info.ModTime()) < copyPatience, false
		}
		if !o.doneMark.holds(f.f, o.done) {
			return false, false
		}
		t.adopt(f, o)
		return false, true
	}
	return false, false
}

// adopt makes a copy of o go on where o is, in front of it.
func (t *Tailer) adopt(f, o *file) {
	f.source, f.path, f.origin = o.source, o.path, o.origin
	f.done, f.mid, f.doneMark, f.acked, f.ackedMid, f.mark = o.done, o.mid, o.doneMark, o.acked, o.ackedMid, o.mark
	if slices.Contains(t.touched, o) {
		t.touched = append(t.touched, f)
	}
	f.gone, f.grown = true, time.Now()
	f.seq, o.seq = o.seq, f.seq
	t.sortFiles()
	t.dirty = true
	t.metrics.events.WithLabelValues("copied").Inc()
}

// rotated notes that a file's path leads elsewhere, and holds it open until it was
// read to its end.
func (t *Tailer) rotated(f *file, now time.Time) {
	f.gone, f.grown = true, now
	if t.live[f.path] == f {
		delete(t.live, f.path)
	}
	t.dirty = true
	t.metrics.events.WithLabelValues("rotated").Inc()
	if f.f == nil {
		t.locate(f)
	}
}

// locate opens a rotated file wherever it is; one that is nowhere is given up.
func (t *Tailer) locate(f *file) bool {
	if f.open(f.place) == nil && f.mark.holds(f.f, f.acked) {
		return true
	}
	f.close()
	for _, n := range neighbours(filepath.Dir(f.place)) {
		if n.id == f.id && f.open(n.path) == nil {
			if f.mark.holds(f.f, f.acked) {
				return true
			}
			f.close()
		}
	}
	t.lost(f, "it is not there any more")
	t.forget(f)
	return false
}

// lost says that something of a file may not have been read.
func (t *Tailer) lost(f *file, why string) {
	t.metrics.events.WithLabelValues("lost").Inc()
	t.log.Warn("The rest of a log file cannot be read", "path", f.path, "offset", f.acked, "why", why)
}

// truncated begins a file anew whose content is not what was read, after the copy
// that was made of it, if there is one and it is not known yet.
func (t *Tailer) truncated(f *file, before int64) (found bool) {
	t.metrics.events.WithLabelValues("truncated").Inc()
	t.dirty = true
	copied := f.acked == 0
	for _, o := range t.files { // a scan may have found the copy
		copied = copied || o != f && o.path == f.path && o.gone && o.acked >= f.acked && o.mark.Head == f.mark.Head
	}
	for _, n := range neighbours(filepath.Dir(f.place)) {
		if copied || n.info.Size() < f.acked || !isGeneration(filepath.Base(n.path), filepath.Base(f.place)) || t.knows(n) {
			continue
		}
		c := t.newFile(f.source, n.path, n.id)
		if c.open(n.path) == nil && f.mark.holds(c.f, f.acked) {
			t.adopt(c, f)
			copied, found = true, true
			continue
		}
		t.forget(c)
	}
	if !copied && before > f.acked {
		t.lost(f, "it was truncated, and there is no copy")
	}
	f.done, f.mid, f.doneMark, f.pending = 0, false, mark{}, time.Time{}
	f.acked, f.ackedMid, f.mark = 0, false, mark{}
	return found
}

// prune forgets files that were read to their end and do not exist any more.
func (t *Tailer) prune() {
	there := map[string]map[fileID]bool{} // by directory
	for _, f := range slices.Clone(t.files) {
		if !f.finished {
			continue
		}
		dir := filepath.Dir(f.place)
		if there[dir] == nil {
			there[dir] = map[fileID]bool{}
			for _, n := range neighbours(dir) {
				there[dir][n.id] = true
			}
		}
		if !there[dir][f.id] {
			t.forget(f)
		}
	}
}

// closeIdle closes files that can be opened again by their path.
func (t *Tailer) closeIdle(now time.Time) {
	const idle, briefly = 5 * time.Minute, 5 * time.Second
	n := 0
	for _, f := range t.files {
		if f.f != nil {
			n++
		}
	}
	for _, f := range t.files {
		quiet := now.Sub(f.grown)
		if f.f == nil || f.gone || f.origin.waits() || f.acked != f.size || quiet < briefly || n <= t.cfg.MaxOpenFiles && quiet < idle {
			continue
		}
		f.close()
		n--
	}
}

// report updates the gauges.
func (t *Tailer) report() {
	var live, rotated, open, unread float64
	for _, f := range t.files {
		switch {
		case f.finished:
			continue
		case f.gone:
			rotated++
		default:
			live++
		}
		if f.f != nil {
			open++
		}
		size := f.size
		if f.f != nil && f.origin.waits() { // nobody has looked
			if info, err := f.f.Stat(); err == nil {
				size = info.Size()
			}
		}
		unread += float64(max(0, size-f.acked))
	}
	t.metrics.files.WithLabelValues("live").Set(live)
	t.metrics.files.WithLabelValues("rotated").Set(rotated)
	t.metrics.files.WithLabelValues("open").Set(open)
	t.metrics.lag.Set(unread)
}

// newFile adds a file, the last one to be read.
func (t *Tailer) newFile(s *source, path string, id fileID) *file {
	t.seq++
	f := &file{source: s, path: path, place: path, id: id, seq: t.seq, origin: s.originOf(path, t.host)}
	t.files = append(t.files, f)
	t.byID[id] = f
	return f
}

// forget removes a file.
func (t *Tailer) forget(f *file) {
	f.close()
	f.finished = true // whoever still holds it
	if t.byID[f.id] == f {
		delete(t.byID, f.id)
	}
	if t.live[f.path] == f {
		delete(t.live, f.path)
	}
	t.files = slices.DeleteFunc(t.files, func(o *file) bool { return o == f })
	t.dirty = true
}

func (t *Tailer) sortFiles() {
	slices.SortFunc(t.files, func(a, b *file) int { return a.seq - b.seq })
}
