package redis

import (
	"bytes"

	"github.com/vedette-io/vedette/ebpf/protocol"
	"github.com/vedette-io/vedette/ebpf/protocol/framing"
)

const (
	maxDepth = 16 // of arrays in arrays
	maxLine  = 64 // kept of a line
	maxWords = 3  // kept of what is told
	wordSize = 24
)

// word is the beginning of a string.
type word struct {
	n uint8
	b [wordSize]byte
}

func (w *word) bytes() []byte { return w.b[:w.n] }

func (w *word) add(b []byte) { w.n += uint8(copy(w.b[w.n:], b)) }

// level is an array that has begun.
type level struct {
	left      int64
	attribute bool // says something of the element that follows it
}

// reader cuts one direction into elements: commands, or replies.
type reader struct {
	inline bool // a line that begins with a letter is a command
	ended  func(*reader)

	// Of the element at hand, for ended.
	kind     byte  // its first byte
	elements int64 // of a command: its words
	words    [maxWords]word
	zero     bool // the last number in it was 0
	origin   framing.Origin
	size     int64

	lost    bool
	broken  bool // ... within a command whose name is known
	line    [maxLine]byte
	lineLen int   // of the line so far, which may be more than is kept
	skip    int64 // bytes of a string yet to come, with its line end
	body    int64 // of them, those that are text
	nth     int   // the word that the string at hand is, or -1
	levels  [maxDepth]level
	depth   int
}

func (r *reader) inside() bool { return r.size > 0 }

// begin makes ready for the next element.
func (r *reader) begin() {
	r.kind, r.elements, r.zero, r.size, r.broken = 0, 0, false, 0, false
	r.lineLen, r.skip, r.body, r.depth, r.nth = 0, 0, 0, 0, -1
	for i := range r.words {
		r.words[i].n = 0
	}
}

// resume says that the next byte begins an element.
func (r *reader) resume() {
	r.begin()
	r.lost = false
}

func (r *reader) lose() {
	r.begin()
	r.lost = true
}

// take follows a piece from an offset in its data.
func (r *reader) take(p *protocol.Piece, offset int) {
	r.bytes(p, p.Data[offset:], offset)
	r.gap(p.Missed)
	r.bytes(p, p.Tail, len(p.Data)+p.Missed)
}

func (r *reader) gap(n int) {
	if n == 0 || r.lost {
		return
	}
	if int64(n) > r.skip {
		r.broken = r.inline && r.depth > 0 && r.words[0].n > 0
		r.lost = true // what is known of a command serves; resume forgets it
		return
	}
	r.size += int64(n)
	r.skip -= int64(n)
	r.body = max(r.body-int64(n), 0)
	r.nth = -1
	if r.skip == 0 {
		r.element()
	}
}

func (r *reader) bytes(p *protocol.Piece, b []byte, offset int) {
	for len(b) > 0 && !r.lost {
		if r.size == 0 {
			r.begin()
			r.origin = framing.At(p, offset)
		}
		n := len(b)
		if r.skip > 0 {
			n = int(min(int64(n), r.skip))
			r.text(b[:n])
			r.size += int64(n)
			if r.skip -= int64(n); r.skip == 0 {
				r.element()
			}
		} else {
			i := bytes.IndexByte(b, '\n')
			if i >= 0 {
				n = i + 1
			}
			if r.lineLen < maxLine {
				copy(r.line[r.lineLen:], b[:n])
			}
			r.lineLen += n
			r.size += int64(n)
			if i >= 0 {
				line := r.line[:min(r.lineLen, maxLine)]
				r.lineLen = 0
				r.header(bytes.TrimRight(line, "\r\n"))
			}
		}
		b, offset = b[n:], offset+n
	}
}

// text takes bytes of a string.
func (r *reader) text(b []byte) {
	n := min(int64(len(b)), r.body)
	if r.nth >= 0 {
		r.words[r.nth].add(b[:n])
	}
	r.body -= n
}

// header takes a line.
func (r *reader) header(line []byte) {
	if len(line) == 0 {
		if r.inline && r.depth == 0 {
			r.begin() // an empty command is none
			return
		}
		r.lose()
		return
	}
	c := line[0]
	if r.kind == 0 {
		r.kind = c
	}
	switch c {
	case '+', '_', '#', ',', '(', ':', '-':
		if r.inline {
			r.lose()
			return
		}
		r.zero = c == ':' && len(line) == 2 && line[1] == '0'
		if c == '-' && r.depth == 0 {
			first, _, _ := bytes.Cut(line[1:], []byte(" "))
			r.words[0].add(first)
		}
		r.element()
	case '$', '=', '!':
		r.str(line)
	case '*', '~', '>', '%', '|':
		r.array(line)
	default:
		r.inlineCommand(line)
	}
}

// str takes the header of a string.
func (r *reader) str(line []byte) {
	n, ok := number(line[1:])
	switch {
	case !ok, n > 1<<32:
		r.lose()
	case n < 0:
		r.element()
	default:
		r.skip, r.body, r.nth = n+2, n, -1
		switch {
		case r.depth == 0 && line[0] == '!':
			r.nth = 0
		case r.depth == 1 && !r.levels[0].attribute:
			if i := r.elements - r.levels[0].left; i < maxWords {
				r.nth = int(i)
			}
		}
	}
}

// array takes the header of an array, a set, a map, a push or attributes.
func (r *reader) array(line []byte) {
	n, ok := number(line[1:])
	if line[0] == '%' || line[0] == '|' {
		n *= 2
	}
	switch {
	case !ok, n > 1<<32, r.depth == maxDepth, r.inline && r.depth > 0:
		r.lose()
	case n <= 0 && line[0] == '|':
		// says nothing of what follows
	case n <= 0 && r.inline:
		r.begin()
	case n <= 0:
		r.element()
	default:
		attribute := line[0] == '|'
		if r.depth == 0 && attribute {
			r.kind = 0 // that of what follows it
		}
		if r.depth == 0 {
			r.elements = n
		}
		r.levels[r.depth] = level{left: n, attribute: attribute}
		r.depth++
	}
}

// element ends an element, and with it the arrays that it is the last of.
func (r *reader) element() {
	for r.depth > 0 {
		l := &r.levels[r.depth-1]
		if l.left--; l.left > 0 {
			return
		}
		r.depth--
		if l.attribute {
			return
		}
	}
	r.ended(r)
	if !r.lost {
		r.begin()
	}
}

// inlineCommand takes a command that is a line.
func (r *reader) inlineCommand(line []byte) {
	if !r.inline || r.depth > 0 || line[0] < ' ' || line[0] > '~' {
		r.lose()
		return
	}
	for len(line) > 0 {
		var w []byte
		w, line, _ = bytes.Cut(line, []byte(" "))
		if len(w) == 0 {
			continue
		}
		if r.elements < maxWords {
			r.words[r.elements].add(w)
		}
		r.elements++
	}
	r.ended(r)
	if !r.lost {
		r.begin()
	}
}

// number reads a length. What streams in parts has ? for it and is not followed.
func number(b []byte) (n int64, ok bool) {
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 15 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	if negative {
		n = -n
	}
	return n, true
}

// beginsCommand says whether b begins with a command that is known.
func beginsCommand(b []byte) bool {
	if len(b) > 0 && (b[0]|0x20) >= 'a' && (b[0]|0x20) <= 'z' {
		line, _, found := bytes.Cut(b, []byte("\r\n"))
		name, _, _ := bytes.Cut(line, []byte(" "))
		return found && commandName(name) != ""
	}
	if len(b) == 0 || b[0] != '*' {
		return false
	}
	count, rest, ok := bytes.Cut(b[1:], []byte("\r\n"))
	if n, isNumber := number(count); !ok || !isNumber || n <= 0 || len(rest) == 0 || rest[0] != '$' {
		return false
	}
	length, rest, ok := bytes.Cut(rest[1:], []byte("\r\n"))
	n, isNumber := number(length)
	return ok && isNumber && n > 0 && n <= wordSize && int64(len(rest)) >= n && commandName(rest[:n]) != ""
}

// findCommand gives where the first command that is known begins, or -1.
func findCommand(b []byte) int {
	if beginsCommand(b) {
		return 0
	}
	for i := 0; ; {
		j := bytes.Index(b[i:], []byte("\r\n*"))
		if j < 0 {
			return -1
		}
		i += j + 2
		if beginsCommand(b[i:]) {
			return i
		}
	}
}

// beginsReply says whether b begins with what only a server sends.
func beginsReply(b []byte) bool {
	line, _, found := bytes.Cut(b[:min(len(b), 512)], []byte("\r\n"))
	if !found || len(line) == 0 {
		return false
	}
	switch line[0] {
	case '+', '-':
		return len(line) > 1
	case ':', '$', '%', '~', '>':
		_, ok := number(line[1:])
		return ok
	}
	return false
}
