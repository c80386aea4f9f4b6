package mysql

import (
	"encoding/binary"

	"github.com/vedette-io/vedette/ebpf/protocol"
	"github.com/vedette-io/vedette/ebpf/protocol/framing"
	"github.com/vedette-io/vedette/ebpf/protocol/sql"
)

// First bytes of the server's packets.
const (
	packetOK    = 0x00
	packetFile  = 0xfb
	packetEnd   = 0xfe
	packetError = 0xff
)

// Flags of the server's status.
const (
	moreResults  = 0x0008
	cursorExists = 0x0040
)

// phase of an answer.
type phase uint8

const (
	begins  phase = iota
	columns       // definitions of columns come
	rows
	prepared // definitions of a prepared statement come
)

// answer is how far the answer to the oldest command has come.
type answer struct {
	phase phase
	left  int  // definitions
	more  bool // the packet goes on in the next one
	next  byte // its number
	known bool // next is known
}

// takeBack follows what the server sends.
func (p *Parser) takeBack(piece *protocol.Piece) {
	p.answerNanos = piece.AtNanos
	lost := p.back.Lost()
	if !lost && p.back.Take(piece, &p.backLimits, p.onBack) || p.Over {
		return
	}
	if !lost {
		p.Losses++
	}
	p.responseBytes += int64(piece.Len())
	p.seekEnd(piece)
}

// seekEnd looks for the end of a result at the end of a piece in which the place
// was lost.
func (p *Parser) seekEnd(piece *protocol.Piece) {
	b := piece.Tail
	if len(b) == 0 {
		b = piece.Data
	}
	w := p.Queue.First()
	if w == nil {
		p.back.Resume() // nothing is asked; what comes next is an answer
		p.answer = answer{}
		return
	}
	for i := max(0, len(b)-64); i+header < len(b); i++ {
		if length(b[i:])+header != len(b)-i {
			continue
		}
		payload := b[i+header:]
		switch payload[0] {
		case packetError:
			if code, ok := errorCode(payload); ok {
				p.back.Resume()
				p.finish(w, code)
				return
			}
		case packetEnd:
			status, ok := endStatus(payload)
			if !ok {
				continue
			}
			p.back.Resume()
			p.answer = answer{}
			if status&moreResults == 0 {
				p.finish(w, 0)
			}
			return
		}
	}
}

// errorCode reads an ERR packet. MariaDB reports progress in ones numbered 65535.
func errorCode(b []byte) (code int, ok bool) {
	if len(b) < 3 {
		return 0, false
	}
	code = int(binary.LittleEndian.Uint16(b[1:]))
	return code, code != 0xffff && code != 0
}

// endStatus reads the status of an EOF packet, or of the OK packet that is sent
// in its place.
func endStatus(b []byte) (status uint16, ok bool) {
	if len(b) == 5 {
		return binary.LittleEndian.Uint16(b[3:]), true
	}
	return okStatus(b)
}

// okStatus reads the status of an OK packet.
func okStatus(b []byte) (status uint16, ok bool) {
	rest := b[1:]
	for range 2 { // rows, and the last id
		n := lenencSize(rest)
		if n == 0 || len(rest) < n {
			return 0, false
		}
		rest = rest[n:]
	}
	if len(rest) < 2 {
		return 0, false
	}
	return binary.LittleEndian.Uint16(rest), true
}

// lenencSize is how long the number is that b begins with, 0 if there is none.
func lenencSize(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	switch c := b[0]; {
	case c < 0xfb:
		return 1
	case c == 0xfc:
		return 3
	case c == 0xfd:
		return 4
	case c == 0xfe:
		return 9
	}
	return 0
}

// fromBack is given each packet of the server.
func (p *Parser) fromBack(m *framing.Message) {
	payload := m.Head[header:]
	a := &p.answer
	if a.more {
		a.more = m.Size == header+maxPacket
		a.next++
		p.responseBytes += m.Size
		return
	}
	if m.Head[3] == 0 && len(payload) > 20 && payload[0] == 10 && p.Queue.Len() == 0 {
		p.greet(payload)
		return
	}
	w := p.Queue.First()
	if w == nil {
		return // of the handshake, or the end of what was told already
	}
	p.responseBytes += m.Size
	if a.known && m.Head[3] != a.next {
		p.back.Lose()
		return
	}
	a.next, a.known = m.Head[3]+1, true
	a.more = m.Size == header+maxPacket
	if len(payload) == 0 {
		if a.phase == rows { // a row of nothing
			return
		}
		p.back.Lose()
		return
	}
	p.packet(w, m, payload)
}

// packet takes a packet of the answer to w.
func (p *Parser) packet(w *waiting, m *framing.Message, b []byte) {
	a := &p.answer
	if b[0] == packetError {
		if code, ok := errorCode(b); ok {
			p.finish(w, code)
		}
		return
	}
	isEnd := b[0] == packetEnd && m.Size < header+maxPacket
	switch a.phase {
	case begins:
		p.first(w, m, b)
	case columns:
		if !isEnd {
			if a.left--; a.left <= 0 {
				a.phase, a.left = rows, 0
			}
		}
	case prepared:
		if !isEnd {
			a.left--
		}
		if a.left <= 0 {
			p.finish(w, 0)
		}
	case rows:
		if !isEnd {
			return
		}
		status, ok := endStatus(b)
		switch {
		case !ok:
			return // a row
		case status&moreResults != 0 && len(b) != 5, status&moreResults != 0 && a.left < 0:
			*a = answer{next: a.next, known: true}
		case len(b) == 5 && a.left == 0 && w.command != comStmtFetch && status&cursorExists == 0:
			a.left = -1 // the end of the columns
		default:
			p.finish(w, 0)
		}
	}
}

// first takes the first packet of an answer, or of a further result.
func (p *Parser) first(w *waiting, m *framing.Message, b []byte) {
	a := &p.answer
	switch {
	case w.command == comStatistics:
		p.finish(w, 0)
	case w.command == comChangeUser && b[0] != packetOK:
		// Goes on with the client's proof.
		a.known = false
	case w.command == comStmtFetch:
		a.phase, a.left = rows, -1
		p.packet(w, m, b)
	case w.command == comFieldList:
		if b[0] == packetEnd {
			p.finish(w, 0)
		}
	case w.command == comPrepare && b[0] == packetOK && len(b) >= 9:
		p.prepared(w, b)
	case b[0] == packetOK:
		if status, ok := okStatus(b); ok && status&moreResults != 0 {
			return
		}
		p.finish(w, 0)
	case b[0] == packetFile:
		p.file = true
		a.known = false
	case b[0] == packetEnd:
		p.finish(w, 0) // of a command that is answered by EOF
	default:
		p.resultSet(b, m.Size)
	}
}

// prepared takes the answer to PREPARE.
func (p *Parser) prepared(w *waiting, b []byte) {
	id := binary.LittleEndian.Uint32(b[1:])
	// The summary is that of the text; the operation is found in it again.
	p.statements.prepared(id, sql.Operation(w.summary), w.summary)
	n := int(binary.LittleEndian.Uint16(b[5:])) + int(binary.LittleEndian.Uint16(b[7:]))
	if n == 0 {
		p.finish(w, 0)
		return
	}
	p.answer.phase, p.answer.left = prepared, n
}

// resultSet takes the number of columns. A byte behind it says whether their
// definitions follow, if the client keeps those.
func (p *Parser) resultSet(b []byte, size int64) {
	a := &p.answer
	n := lenencSize(b)
	if n == 0 || n > len(b) || size > header+10 {
		p.back.Lose()
		return
	}
	count := int(b[0])
	if n == 3 {
		count = int(binary.LittleEndian.Uint16(b[1:]))
	}
	a.phase, a.left = columns, count
	if len(b) == n+1 && b[n] == 0 {
		a.phase, a.left = rows, 0
	}
}

// finish ends the oldest command.
func (p *Parser) finish(w *waiting, code int) {
	p.end(w, code, p.piece.AtNanos)
	p.Queue.Pop()
	p.answer = answer{}
	p.file = false
}

// greet takes the server's first packet.
func (p *Parser) greet(b []byte) {
	p.greeted = true
	p.offered, p.capable = 0xffffffff, 0
	for i, c := range b[1:] {
		if c != 0 {
			continue
		}
		// Behind the version: thread 4, proof 8, filler 1, capabilities 2, character
		// set 1, status 2, capabilities 2.
		if rest := b[i+2:]; len(rest) >= 20 {
			p.offered = uint32(binary.LittleEndian.Uint16(rest[13:])) | uint32(binary.LittleEndian.Uint16(rest[18:]))<<16
		}
		break
	}
}
