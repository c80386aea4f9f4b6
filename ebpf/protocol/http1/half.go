package http1

import (
	"bytes"

	"github.com/vedette-io/vedette/ebpf/protocol"
)

type state uint8

const (
	atStart state = iota
	inHead
	lost
	// In the states from here on, bytes belong to a body.
	inBody
	inChunk
	chunkSize
	inTrailer
	untilClose
	chunkLost // a gap hid where chunks end; the last one's end is looked for
)

// maxLine is how much of a line is looked at; the rest of it is passed over.
const maxLine = 512

// half is one direction of a connection.
type half struct {
	direction protocol.Direction
	state     state
	line      []byte // the beginning of a line that is not complete
	over      bool   // the line is longer than maxLine
	gap       bool   // bytes of this head were not copied

	startNanos int64 // of the message
	hadNanos   int64 // when its first byte had been moved
	seq        uint32

	status    string // of a response; empty: a request
	interim   bool   // 1xx
	unpaired  bool   // a response without a request
	left      int64  // of the body or the chunk
	body      int64  // bytes of it, without framing
	hasLength bool
	chunked   bool
	exchange  *exchange // of a request under way

	piece  *protocol.Piece // being taken
	offset int             // of what is parsed in it
}

// reset makes the half ready for a message.
func (h *half) reset() {
	*h = half{direction: h.direction, line: h.line[:0], piece: h.piece, offset: h.offset}
}

// bodySoFar is how much of the body has passed.
func (h *half) bodySoFar() int64 {
	if h.state == inBody {
		return h.body - h.left
	}
	return h.body
}

// lose gives up until something looks like a message.
func (p *Parser) lose(h *half) {
	if h.state == lost {
		return
	}
	if p.role != unknown {
		p.lost++
	}
	p.reportEnded(h)
	h.line, h.over, h.exchange = h.line[:0], false, nil
	h.state = lost
}

// follow parses bytes that were copied.
func (p *Parser) follow(h *half, b []byte) {
	for len(b) > 0 && !p.dead && h.state != lost {
		n := 0
		switch h.state {
		case inBody, inChunk:
			n = p.passBody(h, len(b))
		case untilClose, chunkLost:
			n = len(b)
			h.body += int64(n)
			p.lastNanos = h.piece.AtNanos
		default:
			if h.state == atStart && len(h.line) == 0 {
				if b[0] == '\r' || b[0] == '\n' {
					h.offset++
					b = b[1:]
					continue
				}
				p.begin(h)
			}
			n = p.takeLine(h, b)
		}
		h.offset += n
		b = b[n:]
	}
}

// begin notes where and when a message begins.
func (p *Parser) begin(h *half) {
	h.startNanos = h.piece.ReadyNanos
	if h.startNanos == 0 {
		h.startNanos = h.piece.AtNanos
	}
	h.hadNanos = h.piece.AtNanos
	if h.seq = h.piece.Seq; h.seq != 0 {
		h.seq += uint32(h.offset)
	}
}

// passBody passes over at most n bytes of a body, and says how many.
func (p *Parser) passBody(h *half, n int) int {
	if int64(n) > h.left {
		n = int(h.left)
	}
	h.left -= int64(n)
	if h.status != "" {
		p.lastNanos = h.piece.AtNanos
	}
	switch {
	case h.left > 0:
	case h.state == inChunk:
		h.state = chunkSize
	default:
		p.messageEnd(h)
	}
	return n
}

// skip passes over n bytes that were not copied.
func (p *Parser) skip(h *half, n int) {
	h.offset += n
	switch h.state {
	case inBody, inChunk:
		passed := p.passBody(h, n)
		if n -= passed; n == 0 {
			return
		}
		if h.state == chunkSize {
			h.state = chunkLost
			h.body += int64(n) // with the framing of its chunks
			return
		}
		p.lose(h) // a message has begun in the gap
	case untilClose, chunkLost:
		h.body += int64(n)
		p.lastNanos = h.piece.AtNanos
	case chunkSize, inTrailer:
		h.line, h.over = h.line[:0], false
		h.state = chunkLost
		h.body += int64(n)
	case inHead:
		h.gap, h.over = true, true // what is left of the line is passed over
	case atStart:
		p.lose(h)
	}
}

// afterGap ends a chunked message whose last chunk ends the piece, where a gap
// has hidden how far its chunks reach.
func (p *Parser) afterGap(h *half, tail []byte) {
	if h.state == chunkLost && (bytes.HasSuffix(tail, []byte("\r\n0\r\n\r\n")) || string(tail) == "0\r\n\r\n") {
		p.messageEnd(h)
	}
}

// takeLine adds to the line under way, handles it when it is complete, and says
// how many bytes of b it took.
func (p *Parser) takeLine(h *half, b []byte) int {
	i := bytes.IndexByte(b, '\n')
	n := i + 1
	part := b[:max(i, 0)]
	if i < 0 {
		n, part = len(b), b
	}
	if i >= 0 && len(h.line) == 0 && !h.over && len(part) <= maxLine {
		p.onLine(h, bytes.TrimSuffix(part, []byte("\r")), true) // without a copy
		return n
	}
	if room := maxLine - len(h.line); !h.over && len(part) > room {
		h.line = append(h.line, part[:room]...)
		h.over = true
		whole := h.state == inHead || p.onLine(h, h.line, false)
		if !whole {
			return n
		}
	} else if !h.over {
		h.line = append(h.line, part...)
	}
	if i < 0 {
		return n
	}
	over := h.over
	line := bytes.TrimSuffix(h.line, []byte("\r"))
	h.line, h.over = h.line[:0], false
	if !over {
		p.onLine(h, line, true)
	}
	return n
}

// onLine handles a line. One that is not complete is the beginning of a start
// line that is too long.
func (p *Parser) onLine(h *half, line []byte, complete bool) bool {
	switch h.state {
	case atStart:
		if len(line) == 0 {
			return true
		}
		if !p.startLine(h, line, complete) {
			p.lose(h)
			return false
		}
		if h.state == atStart {
			h.state = inHead
		}
	case inHead:
		if len(line) > 0 {
			p.field(h, line)
		} else {
			p.headEnd(h)
		}
	case chunkSize:
		if !complete || !p.chunkLine(h, line) {
			p.lose(h)
			return false
		}
	case inTrailer:
		if len(line) == 0 {
			p.messageEnd(h)
		}
	}
	return true
}

func (p *Parser) startLine(h *half, line []byte, complete bool) bool {
	if bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return p.statusLine(h, line)
	}
	method, rest, ok := bytes.Cut(line, []byte(" "))
	if !ok || !token(method) {
		return false
	}
	target, version, _ := bytes.Cut(rest, []byte(" "))
	m := methodOf(method)
	if complete {
		if !bytes.HasPrefix(version, []byte("HTTP/1.")) || len(version) != len("HTTP/1.1") {
			return false
		}
	} else if m == otherMethod && p.role == unknown {
		return false
	}
	return p.asked(h, m, target)
}

// token says whether b may be a method.
func token(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c >= 0x7f || bytes.IndexByte([]byte("()<>@,;:\\\"/[]?={}"), c) >= 0 {
			return false
		}
	}
	return len(b) > 0 && len(b) <= 32
}

func (p *Parser) statusLine(h *half, line []byte) bool {
	if len(line) < 12 || line[8] != ' ' || len(line) > 12 && line[12] != ' ' {
		return false
	}
	status := line[9:12]
	for _, c := range status {
		if c < '0' || c > '9' {
			return false
		}
	}
	if status[0] == '0' {
		return false
	}
	settled, want := p.role != unknown, client
	if h.direction == protocol.Sent {
		want = server
	}
	if !p.takeRole(want) {
		return false
	}
	if !settled && want == server {
		return false // older than the probe: its request was not seen
	}
	h.status = string(status)
	h.interim = status[0] == '1' && h.status != "101"
	h.unpaired = !h.interim && !p.answered(h, h.status)
	return true
}

// field looks for what says how long the body is, and for the trace's header.
func (p *Parser) field(h *half, line []byte) {
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok {
		return
	}
	switch len(name) {
	case len("content-length"):
		if bytes.EqualFold(name, []byte("content-length")) {
			h.left, h.hasLength = length(value), true
		}
	case len("transfer-encoding"):
		if bytes.EqualFold(name, []byte("transfer-encoding")) {
			value = bytes.TrimSpace(value)
			h.chunked = len(value) >= 7 && bytes.EqualFold(value[len(value)-7:], []byte("chunked"))
		}
	case len("traceparent"):
		if x := h.exchange; x != nil && bytes.EqualFold(name, []byte("traceparent")) {
			value = bytes.TrimSpace(value)
			x.Traceparent = string(bytes.ToValidUTF8(value[:min(len(value), maxParent)], nil))
		}
	}
}

// length reads digits. What is no number, or one of unbelievable size, is 0.
func length(b []byte) int64 {
	b = bytes.TrimSpace(b)
	b, _, _ = bytes.Cut(b, []byte(","))
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' || n > 1<<56 {
			return 0
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

// headEnd decides how the body ends.
func (p *Parser) headEnd(h *half) {
	if h.status != "" {
		if h.interim {
			h.reset()
			return
		}
		if x := p.current; !h.unpaired && (h.status == "101" || x != nil && x.Operation == "CONNECT" && h.status[0] == '2') {
			p.finish(h.piece.AtNanos)
			p.kill() // what follows is not HTTP
			return
		}
		if x := p.current; h.status == "204" || h.status == "304" || !h.unpaired && x != nil && x.Operation == "HEAD" {
			h.left = 0
			p.messageEnd(h)
			return
		}
	}
	switch {
	case h.chunked:
		h.state, h.left = chunkSize, 0
	case h.hasLength:
		h.body = h.left
		h.state = inBody
		if h.left == 0 {
			p.messageEnd(h)
		}
	case h.gap && h.status != "":
		p.lose(h) // the length was not seen; the next response ends this one
	case h.status != "":
		h.state = untilClose
		p.lastNanos = h.piece.AtNanos
	default:
		p.messageEnd(h)
	}
}

// chunkLine reads a chunk's length.
func (p *Parser) chunkLine(h *half, line []byte) bool {
	var n int64
	i := 0
	for ; i < len(line) && i < 16; i++ {
		c := line[i]
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | int64(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			n = n<<4 | int64(c|0x20-'a'+10)
		default:
			goto end
		}
	}
end:
	if i == 0 || n < 0 || n > 1<<56 {
		return false
	}
	if n == 0 {
		h.state = inTrailer
		return true
	}
	h.body += n
	h.left, h.state = n+2, inChunk
	return true
}

// messageEnd ends a request, or a response and its exchange.
func (p *Parser) messageEnd(h *half) {
	at := h.piece.AtNanos
	if h.status != "" {
		if p.current != nil && !h.unpaired {
			p.current.ResponseBytes = h.body
			p.finish(at)
		}
	} else if x := h.exchange; x != nil {
		x.RequestBytes = h.body
		if x.ended {
			p.report(x)
		}
	}
	h.reset()
}
