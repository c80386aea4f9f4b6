package postgres

import (
	"encoding/binary"

	"github.com/vedette-io/vedette/ebpf/protocol"
	"github.com/vedette-io/vedette/ebpf/protocol/framing"
	"github.com/vedette-io/vedette/ebpf/protocol/sql"
)

// takeBack follows what the server sends.
func (p *Parser) takeBack(piece *protocol.Piece) {
	p.answered, p.answerNanos = true, piece.AtNanos
	if p.askedTLS {
		p.askedTLS = false
		if len(piece.Data) > 0 && (piece.Data[0] == 'S' || piece.Data[0] == 'G') {
			p.GiveUp()
			return
		}
		if len(piece.Data) > 0 && piece.Data[0] == 'N' {
			return // one byte, and the server waits
		}
	}
	if p.back.Lost() && !beginsError(piece) {
		p.responseBytes += int64(piece.Len())
		p.seekReady(piece)
		return
	}
	if p.back.Lost() {
		p.back.Resume()
	}
	if !p.back.Take(piece, &p.backLimits, p.onBack) {
		p.Losses++
		p.responseBytes += int64(piece.Len())
		p.seekReady(piece)
	}
}

// seekReady looks for ReadyForQuery at the end of a piece in which the place was
// lost.
func (p *Parser) seekReady(piece *protocol.Piece) {
	b := piece.Tail
	if len(b) == 0 {
		b = piece.Data
	}
	n := len(b) - readyBytes
	if n < 0 || b[n] != 'Z' || binary.BigEndian.Uint32(b[n+1:]) != 5 || !isState(b[n+5]) {
		p.seemsFailed = endsWithError(b)
		return
	}
	p.back.Resume()
	// A server flushes an error, too, and after that ReadyForQuery alone.
	seemed := p.seemsFailed && n == 0
	p.seemsFailed = false
	// A server flushes at each ReadyForQuery, so this is the only one in its write.
	// A client may have read several at once: how many is not known.
	if !p.Server() && p.cycles() > 1 {
		p.Losses++
		p.Queue.Clear()
		p.responseBytes = 0
		return
	}
	tag, failed := lastOf(b[:n])
	p.ready(true, tag, failed || seemed)
}

// settle ends what waits when the place in the answers was lost and the client
// asks for more: it has got its answers then, but for clients that do not wait.
func (p *Parser) settle() {
	for p.Queue.Len() > 0 {
		p.ready(true, nil, false)
	}
	p.back.Resume()
}

func isState(c byte) bool { return c == 'I' || c == 'T' || c == 'E' }

// cycles is how many ReadyForQuery are awaited.
func (p *Parser) cycles() (n int) {
	for i := range p.Queue.Len() {
		switch w := p.Queue.At(i); w.kind {
		case query, sync:
			n++
		case unseen:
			n += int(w.cycles)
		}
	}
	return n
}

// lastOf tells what the message before ReadyForQuery was: a CommandComplete, with
// its tag, or an ErrorResponse, whose last field ends with two NUL.
func lastOf(b []byte) (tag []byte, failed bool) {
	for i := 0; i+5 <= len(b); i++ {
		if b[i] == 'C' && int(binary.BigEndian.Uint32(b[i+1:])) == len(b)-i-1 {
			return b[i+5:], false
		}
	}
	return nil, endsWithError(b)
}

// endsWithError looks for the last field of an ErrorResponse, which names a
// function of the server.
func endsWithError(b []byte) bool {
	i := len(b) - 3
	if i < 0 || b[i+1] != 0 || b[i+2] != 0 {
		return false
	}
	for i > 0 && (b[i] == '_' || '0' <= b[i] && b[i] <= '9' || 'a' <= b[i]|0x20 && b[i]|0x20 <= 'z') {
		i--
	}
	return i < len(b)-4 && (b[i] == 0 && b[i+1] == 'R' || i == 0)
}

// beginsError says whether a piece is an ErrorResponse, from its first byte.
func beginsError(piece *protocol.Piece) bool {
	b := piece.Data
	return len(b) > 6 && b[0] == 'E' && b[5] == 'S' && backSize(b) > 0 && backSize(b) <= int64(piece.Len())
}

// fromBack is given each message of the server.
func (p *Parser) fromBack(m *framing.Message) {
	p.responseBytes += m.Size
	w := p.Queue.First()
	switch m.Head[0] {
	case 'Z':
		p.ready(false, nil, false)
	case 'C', 'I', 's':
		if w == nil {
			return
		}
		tagged(w, m.Head[5:])
		switch w.kind {
		case execute:
			p.end(w)
			p.Queue.Pop()
		case unseen:
			p.endUnseen(w)
		}
	case 'G':
		p.copying = true
	case 'E':
		if w != nil {
			p.failure(w, m.Head[5:])
		}
	case 'W':
		p.GiveUp() // replication
	}
}

// tagged names a request by the tag of CommandComplete if its text was not
// understood.
func tagged(w *waiting, tag []byte) {
	if w.op == sql.Other {
		w.op = sql.Operation(tag)
	}
}

// endUnseen reports one of a number of requests whose bytes were not copied.
func (p *Parser) endUnseen(w *waiting) {
	p.fold()
	p.end(w)
	w.sure, w.op, w.summary, w.bytes = false, sql.Other, w.summary[:0], 0
	if w.rest != "" {
		w.op = w.rest
	}
	if w.known > 0 {
		w.known--
	} else if w.later > 0 {
		w.later--
	}
	w.failed, w.coded = false, false
}

// failure takes an ErrorResponse.
func (p *Parser) failure(w *waiting, fields []byte) {
	if w.kind == sync || p.quiet {
		return // of the commit at the end of the cycle: what was executed is reported
	}
	w.failed = true
	for len(fields) > 1 {
		field := fields[0]
		value, rest, ok := cutString(fields[1:])
		if !ok {
			break
		}
		if field == 'C' && len(value) == sqlStateBytes {
			copy(w.state[:], value)
			w.coded = true
		}
		fields = rest
	}
	switch w.kind {
	case execute:
		p.end(w)
		p.Queue.Pop()
		p.quiet = true
	case unseen:
		p.endUnseen(w)
		p.quiet = true
	}
}

// ready ends the oldest cycle. unsure says that messages before it were not seen;
// then tag and failed are what the last of them said.
func (p *Parser) ready(unsure bool, tag []byte, failed bool) {
	for w := p.Queue.First(); w != nil; w = p.Queue.First() {
		k := w.kind
		if k == unseen && w.cycles > 0 {
			p.readyUnseen(w, unsure, tag, failed)
			break
		}
		next := kind(0)
		if p.Queue.Len() > 1 {
			next = p.Queue.At(1).kind
		}
		if unsure && !p.quiet && (next == 0 || next == sync || k == query) {
			// The last of the cycle.
			w.failed = w.failed || failed
			if tag != nil {
				tagged(w, tag)
			}
		}
		switch {
		case k == query, k == prepare && !p.quiet, k == execute && unsure && !p.quiet, k == unseen && w.sure && unsure && w.later == 0:
			p.end(w)
		case k == unseen && unsure:
			for range w.later {
				p.endUnseen(w)
			}
		}
		p.Queue.Pop()
		if k == query || k == sync {
			break
		}
	}
	p.quiet = false
	p.responseBytes = 0
	if p.Queue.Len() == 0 && p.front.Lost() {
		p.front.Resume() // the client has got all it asked for
	}
}

// readyUnseen ends the oldest of the cycles that one request stands for. If what
// answered it was not seen, the requests that were are taken to be divided evenly.
func (p *Parser) readyUnseen(w *waiting, unsure bool, tag []byte, failed bool) {
	n := int32(0)
	if unsure && !p.quiet {
		n = (w.known + w.cycles - 1) / w.cycles
		if n == 0 && (tag != nil || failed) {
			n = 1
		}
	}
	for i := range n {
		if i == n-1 {
			w.failed = failed
			tagged(w, tag)
		}
		p.endUnseen(w)
	}
	if w.cycles--; w.cycles > 0 {
		return
	}
	w.known = 0
	if !w.open {
		p.Queue.Pop()
	}
}

// The sides that a piece can be of.
type side uint8

const (
	isUnknown side = iota
	isFront
	isBack
	isTLS
)

// sideOf tells by the first message of a piece who sent it.
func sideOf(piece *protocol.Piece) side {
	b := piece.Data
	if len(b) >= 3 && b[0] == 0x16 && b[1] == 3 {
		return isTLS
	}
	if len(b) < 5 {
		return isUnknown
	}
	n := int(binary.BigEndian.Uint32(b[1:]))
	whole := n+1 <= len(b)
	body := b[5:]
	if n >= 4 && whole {
		body = b[5 : 1+n]
	}
	switch b[0] {
	case 0:
		if len(b) >= 8 && frontSize(b) > 0 {
			if code := binary.BigEndian.Uint32(b[4:]); code>>16 == 3 || code >= cancelRequest && code <= gssRequest {
				return isFront
			}
		}
		return isUnknown
	case 'Q', 'P', 'B', 'F', 'f', 'p', 'X':
		if frontSize(b) > 0 {
			return isFront
		}
	case 'S', 'H':
		if n == 4 {
			return isFront
		}
		return back(b)
	case 'E':
		switch portal, rest, ok := cutString(body); {
		case ok && whole && len(portal)+5 == len(body) && len(rest) == 4:
			return isFront
		case len(body) > 0 && body[0] == 'S':
			return back(b)
		}
	case 'D', 'C':
		named, _, ok := cutString(body[min(1, len(body)):])
		described := len(body) > 1 && (body[0] == 'S' || body[0] == 'P') && ok && whole && len(named)+2 == len(body)
		if !described || b[0] == 'C' && sql.Operation(body) != sql.Other {
			return back(b)
		}
		return isFront
	case 'd', 'c':
	default:
		return back(b)
	}
	return isUnknown
}

func back(b []byte) side {
	if backSize(b) > 0 {
		return isBack
	}
	return isUnknown
}
