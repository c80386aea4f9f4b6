package log

import (
	"bytes"
	"regexp"
	"slices"
)

// assembler finds records in a window of a file. It keeps nothing from one window
// to the next but memory.
type assembler struct {
	parse    func(line []byte) (part, bool) // nil for plain lines
	format   string
	charset  charset
	start    *regexp.Regexp // of the first lines of records; nil if there are none
	last     *regexp.Regexp // of the last lines
	maxLines int
	maxBytes int
	countBad func(format string)
	parts    [numStreams]open // lines of which the end is missing
	groups   [numStreams]open // records that may go on
	records  []record
	bytes    int // of texts of records
}

// open is a record under construction.
type open struct {
	record
	lines int // 0 if there is none
	owned bool
}

// window is what is read of a file at once.
type window struct {
	bytes []byte
	// mid says that the window begins within a line of which the beginning has been
	// written already.
	mid bool
	// more says that the file goes on behind the window.
	more bool
	// settled says that what is not finished now will not be.
	settled bool
	// room is how many bytes of records are wanted, about.
	room int
}

const recordOverhead = 48 // bytes of a record beside its text

// run finds the records of a window and returns how many bytes of it they take;
// what is behind has to come again. mid is as in window, for what is behind.
// The records are valid until the next run, as long as the window is.
func (a *assembler) run(w window) (consumed int, mid bool) {
	a.records, a.bytes = a.records[:0], 0
	a.parts, a.groups = [numStreams]open{}, [numStreams]open{}
	b, i := w.bytes, 0
	mid = w.mid
	full := w.more
	for i < len(b) {
		if a.bytes >= w.room && !a.openAt(0) { // else nothing before it could be taken but by breaking it off
			full = true
			break
		}
		if b[i] == 0 && !mid { // a hole, as a writer leaves it whose file was truncated
			i = len(b) - len(bytes.TrimLeft(b[i:], "\x00"))
			continue
		}
		n := bytes.IndexByte(b[i:], '\n')
		if n < 0 && len(b)-i <= a.maxBytes && !w.settled {
			break
		}
		next := i + n + 1
		if n < 0 {
			n, next = len(b)-i, len(b)
		}
		if n > a.maxBytes {
			k := a.charset.boundary(b[i:], a.maxBytes)
			a.piece(b[i:i+k], i, i+k)
			mid = true
			i += k
			continue
		}
		line := bytes.TrimSuffix(b[i:i+n], []byte{'\r'})
		if mid {
			a.piece(line, i, next)
			mid = false
		} else {
			a.line(line, i, next)
		}
		i = next
	}
	if w.settled && i == len(b) {
		a.finishAll()
		return i, mid
	}
	c := a.settledUpTo(i)
	if c == 0 && i > 0 && full {
		// What belongs together is larger than a window.
		a.finishAll()
		return i, mid
	}
	if c < i {
		a.records = slices.DeleteFunc(a.records, func(r record) bool { return r.begin >= c })
		mid = c == 0 && w.mid
	}
	return c, mid
}

// openAt says whether something whose end is missing begins at an offset.
func (a *assembler) openAt(offset int) bool {
	for s := range numStreams {
		if a.parts[s].lines > 0 && a.parts[s].begin == offset || a.groups[s].lines > 0 && a.groups[s].begin == offset {
			return true
		}
	}
	return false
}

// settledUpTo returns the largest offset, at most end, which lies within no record.
func (a *assembler) settledUpTo(end int) int {
	c := end
	for s := range numStreams {
		for _, o := range []*open{&a.parts[s], &a.groups[s]} {
			if o.lines > 0 {
				c = min(c, o.begin)
			}
		}
	}
	for again := true; again; {
		again = false
		for i := len(a.records) - 1; i >= 0; i-- {
			if r := &a.records[i]; r.begin < c && r.end > c {
				c, again = r.begin, true
			}
		}
	}
	return c
}

// piece emits a part of a line that is too long.
func (a *assembler) piece(text []byte, begin, end int) {
	a.finishAll()
	a.emit(record{begin: begin, end: end, text: text, split: true})
}

// line takes a physical line.
func (a *assembler) line(line []byte, begin, end int) {
	p := part{text: line}
	if a.parse != nil && len(line) > 0 {
		var ok bool
		if p, ok = a.parse(line); !ok {
			a.countBad(a.format)
			p = part{text: line}
		}
	}
	o := &a.parts[p.stream]
	if o.lines == 0 && !p.partial {
		a.whole(record{begin: begin, end: end, text: p.text, time: p.time, stream: p.stream})
		return
	}
	if o.lines == 0 {
		*o = open{record: record{begin: begin, time: p.time, stream: p.stream}}
	}
	o.add(p.text, nil)
	o.end = end
	switch {
	case !p.partial:
		r := o.record
		*o = open{}
		a.whole(r)
	case len(o.text) >= a.maxBytes: // the rest follows as another one
		r := o.record
		r.split = true
		*o = open{}
		a.finish(&a.groups[r.stream])
		a.emit(r)
	}
}

// add joins a text to the record.
func (o *open) add(text, between []byte) {
	o.lines++
	if o.lines == 1 {
		o.text = text
		return
	}
	if !o.owned {
		o.text = slices.Clone(o.text)
		o.owned = true
	}
	o.text = append(append(o.text, between...), text...)
}

var newline = []byte{'\n'}

// whole takes a line of which all parts are there.
func (a *assembler) whole(r record) {
	if a.start == nil && a.last == nil {
		a.emit(r)
		return
	}
	g := &a.groups[r.stream]
	text, _ := a.charset.text(r.text)
	if g.lines > 0 && (a.start != nil && a.start.Match(text) || g.lines >= a.maxLines || len(g.text)+len(r.text) >= a.maxBytes) {
		a.finish(g)
	}
	if g.lines == 0 {
		*g = open{record: record{begin: r.begin, time: r.time, stream: r.stream}}
	}
	g.add(r.text, newline)
	g.end = r.end
	if a.last != nil && a.last.Match(text) {
		a.finish(g)
	}
}

// finish emits a record that may have gone on.
func (a *assembler) finish(o *open) {
	if o.lines > 0 {
		r := o.record
		*o = open{}
		a.emit(r)
	}
}

// finishAll ends everything that is open, in order.
func (a *assembler) finishAll() {
	for s := range a.parts {
		if o := &a.parts[s]; o.lines > 0 {
			r := o.record
			*o = open{}
			a.whole(r)
		}
	}
	first := len(a.records)
	for s := range a.groups {
		a.finish(&a.groups[s])
	}
	slices.SortFunc(a.records[first:], func(x, y record) int { return x.begin - y.begin })
}

// emit adds a record, unless it is empty.
func (a *assembler) emit(r record) {
	if len(r.text) == 0 {
		return
	}
	a.bytes += len(r.text) + recordOverhead
	a.records = append(a.records, r)
}
