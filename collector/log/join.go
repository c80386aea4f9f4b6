package log

import (
	"slices"
	"time"
)

// Engines divide long lines, and rotate between two parts of one: the end of a line
// is in the next file then. The two ends are read as one window, so that the record
// is whole, and both offsets are moved by one request, so that after a crash it is
// found again or not at all. Only formats of engines are joined: who writes plain
// files may have the old one open for long.

// goesOn says that a rotated file may end within a line that goes on in the next,
// which is not to be read by itself until that is known.
func (t *Tailer) goesOn(f *file, now time.Time) bool {
	const settled = 2 // in timeouts of unfinished lines: read by itself meanwhile
	return f.gone && f.source.assembler.parse != nil && !f.finished && f.done < f.size &&
		now.Sub(f.grown) < settled*t.cfg.UnfinishedTimeout
}

// piece is a part of a window that is read from more than one file.
type piece struct {
	f     *file
	bytes int
}

// chain reads the end of a rotated file into the window, and what came to its path
// after it, of which nothing was read: as many files as fit.
func (t *Tailer) chain(f *file) (pieces []piece, filled int) {
	for _, o := range t.files[slices.Index(t.files, f):] {
		if o != f && o.path != f.path {
			continue
		}
		if o.f == nil || o.source != f.source || o != f && (o.done > 0 || o.finished) {
			break
		}
		info, err := o.f.Stat()
		if err != nil {
			break
		}
		size := info.Size() - o.done
		whole := size <= int64(len(t.window)-filled)
		n, _ := o.f.ReadAt(t.window[filled:], o.done) // an error is met again by a visit
		if whole && int64(n) > size {
			n = int(size) // it has grown meanwhile
		}
		if n > 0 && len(pieces) > 0 {
			// A file is complete once the next one has something in it.
			before := pieces[len(pieces)-1]
			if info, err := before.f.f.Stat(); err != nil || info.Size() != before.f.done+int64(before.bytes) {
				break
			}
		}
		if n > 0 {
			pieces, filled = append(pieces, piece{o, n}), filled+n
		}
		if !whole || int64(n) < size || !o.gone || n > 0 && t.window[filled-1] != '\n' {
			break
		}
	}
	return pieces, filled
}

// join reads the end of a rotated file and what came after it in one window. It
// reports false if that gave nothing.
func (t *Tailer) join(f *file, now time.Time) bool {
	a := &f.source.assembler
	if !f.gone || a.parse == nil || f.size-f.done > int64(len(t.window)/2) {
		return false
	}
	pieces, filled := t.chain(f)
	if len(pieces) < 2 || pieces[0].f != f {
		return false
	}
	consumed, mid := a.run(window{
		bytes: t.window[:filled], mid: f.mid, more: filled == len(t.window),
		room: max(t.cfg.BatchBytes-len(t.batch), t.cfg.BatchBytes/4),
	})
	if consumed == 0 {
		return false
	}
	t.take(f, now)
	for _, p := range pieces {
		n := min(consumed, p.bytes)
		consumed -= n
		t.advance(p.f, int64(n), mid && consumed == 0)
		if n < p.bytes {
			p.f.pending = now
		}
		if consumed == 0 {
			break
		}
	}
	return true
}
