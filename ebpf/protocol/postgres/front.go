package postgres

import (
	"bytes"
	"encoding/binary"

	"github.com/vedette-io/vedette/ebpf/protocol"
	"github.com/vedette-io/vedette/ebpf/protocol/framing"
	"github.com/vedette-io/vedette/ebpf/protocol/sql"
)

// Codes in the place of the protocol's version.
const (
	cancelRequest = 80877102
	tlsRequest    = 80877103
	gssRequest    = 80877104
)

// takeFront follows what the client sends.
func (p *Parser) takeFront(piece *protocol.Piece) {
	if p.back.Lost() && p.answered {
		p.settle()
	}
	p.answered = false
	if p.front.Lost() {
		// The client begins a message with each write, as a rule.
		if sideOf(piece) != isFront {
			p.seekSync(piece)
			return
		}
		p.front.Resume()
	}
	if !p.front.Take(piece, &p.frontLimits, p.onFront) && !p.Over {
		p.Losses++
		p.seekSync(piece)
	}
}

// seekSync looks for a Sync at the end of a piece in which the place was lost.
// What lies before it is an unknown number of requests.
func (p *Parser) seekSync(piece *protocol.Piece) {
	b := piece.Tail
	if len(b) == 0 {
		b = piece.Data
	}
	if p.copying {
		p.seekCopyDone(b, piece.Len())
		return
	}
	origin := framing.At(piece, 0)
	if p.parsed != (framing.Origin{}) { // none since an Execute
		origin = p.parsed
	}
	synced := endsWithSync(b)
	if last := p.Queue.Last(); last == nil || last.kind != unseen {
		w := p.push(unseen, origin, p.pendingBytes+int64(piece.Len()))
		w.op = sql.Other
		if p.parses > 0 && p.executes == 0 {
			p.statements.describeLast(w)
		}
	} else {
		last.bytes += int64(piece.Len())
		last.open = true
	}
	p.pendingBytes = 0
	if synced {
		w := p.Queue.Last()
		w.sure = w.sure || endsWithExecute(b[:len(b)-syncBytes])
		p.push(sync, origin, 0)
		p.endCycle()
		p.front.Resume()
	}
}

// seekCopyDone looks for the end of the rows of a COPY at the end of n bytes in
// which the place was lost.
func (p *Parser) seekCopyDone(b []byte, n int) {
	if w := p.Queue.First(); w != nil {
		w.bytes += int64(n)
	}
	synced := endsWithSync(b)
	if synced {
		b = b[:len(b)-syncBytes]
	}
	if i := len(b) - syncBytes; i < 0 || b[i] != 'c' || binary.BigEndian.Uint32(b[i+1:]) != 4 {
		return
	}
	if synced {
		p.copySync()
	}
	p.copying = false
	p.front.Resume()
}

// copySync takes the Sync behind the rows of a COPY. The one behind its Execute,
// if there is one, the server passes over.
func (p *Parser) copySync() {
	if p.cycles() == 0 {
		p.push(sync, framing.Origin{}, 0)
	}
}

func endsWithSync(b []byte) bool {
	n := len(b) - syncBytes
	return n >= 0 && b[n] == 'S' && binary.BigEndian.Uint32(b[n+1:]) == 4
}

// endsWithExecute looks for an Execute of the portal without a name.
func endsWithExecute(b []byte) bool {
	n := len(b) - executeBytes
	return n >= 0 && b[n] == 'E' && binary.BigEndian.Uint32(b[n+1:]) == 9 && b[n+5] == 0
}

// endCycle forgets what belongs to a cycle of the front.
func (p *Parser) endCycle() {
	p.parses, p.executes, p.parsedBytes, p.pendingBytes = 0, 0, 0, 0
}

// fromFront is given each message of the client.
func (p *Parser) fromFront(m *framing.Message) {
	body := m.Head[min(len(m.Head), 5):]
	copied := p.copying
	p.copying = m.Head[0] == 'd' || copied && (m.Head[0] == 'c' || m.Head[0] == 'f')
	switch m.Head[0] {
	case 0:
		p.startup(m)
	case 'Q':
		p.push(query, m.Origin, m.Size).describe(body)
		p.endCycle()
	case 'P':
		p.parse(m, body)
	case 'B':
		p.pendingBytes += m.Size
		p.first(m)
		if portal, rest, ok := cutString(body); ok {
			if name, _, ok := cutString(rest); ok {
				p.statements.bind(portal, name)
			}
		}
	case 'E':
		p.first(m)
		w := p.push(execute, p.parsed, p.pendingBytes+m.Size)
		p.executes++
		p.pendingBytes = 0
		p.parsed = framing.Origin{}
		portal, _, _ := cutString(body)
		p.statements.describePortal(portal, w)
	case 'F':
		p.push(query, m.Origin, m.Size).op = "CALL"
	case 'D', 'H':
		p.first(m)
		p.pendingBytes += m.Size
	case 'C':
		p.pendingBytes += m.Size
		if len(body) > 1 && body[0] == 'S' {
			name, _, _ := cutString(body[1:])
			p.statements.forget(name)
		}
	case 'S':
		if copied {
			p.copySync()
			return
		}
		if p.parses > 0 && p.executes == 0 {
			p.first(m)
			w := p.push(prepare, p.parsed, p.pendingBytes+m.Size)
			p.statements.describeLast(w)
			w.op = "PREPARE"
		}
		p.push(sync, m.Origin, 0)
		p.endCycle()
		p.parsed = framing.Origin{}
	case 'd', 'c', 'f':
		if w := p.Queue.First(); w != nil {
			w.bytes += m.Size
		}
	}
}

// first remembers where the messages began that lead to an Execute.
func (p *Parser) first(m *framing.Message) {
	if p.parsed == (framing.Origin{}) {
		p.parsed = m.Origin
	}
}

func (p *Parser) parse(m *framing.Message, body []byte) {
	p.parses++
	p.pendingBytes += m.Size
	p.first(m)
	if name, text, ok := cutString(body); ok {
		p.statements.parse(name, text)
	}
}

// startup reads a message of a connection's beginning.
func (p *Parser) startup(m *framing.Message) {
	if len(m.Head) < 8 {
		return
	}
	switch code := binary.BigEndian.Uint32(m.Head[4:]); {
	case code == tlsRequest, code == gssRequest:
		p.askedTLS = true
	case code == cancelRequest:
		p.End() // the server closes without an answer
	case code>>16 == 3:
		p.Queue.Clear()
		p.database = ""
		var user []byte
		for rest := m.Head[8:]; ; {
			key, more, ok := cutString(rest)
			if !ok || len(key) == 0 {
				break
			}
			value, more, ok := cutString(more)
			if !ok {
				break
			}
			switch string(key) {
			case "user":
				user = value
			case "database":
				p.database = string(value[:min(len(value), maxTarget)])
			case "replication":
				if s := string(value); s != "false" && s != "off" && s != "no" && s != "0" {
					p.GiveUp()
				}
			}
			rest = more
		}
		if p.database == "" {
			p.database = string(user[:min(len(user), maxTarget)])
		}
	default:
		p.GiveUp()
	}
}

// cutString takes a string that ends with NUL.
func cutString(b []byte) (s, rest []byte, ok bool) {
	i := bytes.IndexByte(b, 0)
	if i < 0 {
		return b, nil, false
	}
	return b[:i], b[i+1:], true
}
