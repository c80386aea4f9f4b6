// Package mysql follows connections that speak the protocol of MySQL and MariaDB.
//
//	client: packets numbered 0 begin a command ─► queue of what awaits an answer
//	server: OK | ERR | columns, rows, end      ─► ends a command, after its last result
//
// Whether the server ends results with EOF or with OK is seen from the packets,
// so connections older than the probe are followed, too. Compressed and encrypted
// connections and replication are given up on; what is said inside TLS is followed
// where that is seen, from the client's login on.
//
// Lengths lead over bytes that were not copied. Where packets are among them, the
// end of the result is looked for at the end of a read or write; if the next
// command comes first, the answer ended with the last bytes before it.
//
// Memory of a connection: 512 + 128 bytes for packets that came in pieces, up to 16
// waiting commands with summaries of 256 bytes, and what 256 prepared statements
// do, 32 of them with a summary: 2 kB for most, 25 kB at most.
package mysql

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"unsafe"

	"github.com/vedette-io/vedette/ebpf/protocol"
	"github.com/vedette-io/vedette/ebpf/protocol/framing"
	"github.com/vedette-io/vedette/ebpf/protocol/sql"
)

const (
	maxWaiting = 16
	maxHead    = 512
	maxTarget  = 64 // MySQL's own bound of a name
	header     = 4
	maxPacket  = 0xffffff // longer ones go on in the next packet
)

// Capabilities that the client asks for.
const (
	canConnectWithDB = 1 << 3
	canCompress      = 1 << 5
	canProtocol41    = 1 << 9
	canTLS           = 1 << 11
	canAuthLenenc    = 1 << 21
	canSecureAuth    = 1 << 15
	canZstd          = 1 << 26
)

// waiting is a command that awaits its answer.
type waiting struct {
	command byte
	op      string
	summary []byte // stays with the place in the queue
	origin  framing.Origin
	bytes   int64
}

// Parser follows one connection. It is a protocol.Parser.
type Parser struct {
	framing.Exchange[waiting]
	request protocol.Request // what done is given
	status  [8]byte
	done    func(*protocol.Request)
	piece   *protocol.Piece

	frontLimits, backLimits framing.Limits
	onFront, onBack         func(*framing.Message)
	front, back             framing.Reader

	greeted   bool // the handshake is under way
	capable   uint32
	offered   uint32 // by the server
	database  string
	file      bool // the client sends a file, not commands
	frontMore bool // the packet goes on in the next one

	answer        answer
	answerNanos   int64 // when the last piece of the server came
	responseBytes int64
	statements    statements
}

var _ protocol.Parser = (*Parser)(nil)

// New gives a parser for one connection.
func New() *Parser {
	p := &Parser{
		frontLimits: framing.Limits{Header: header, Keep: maxHead, Size: packetSize},
		backLimits:  framing.Limits{Header: header, Keep: 128, Size: packetSize},
	}
	p.onFront, p.onBack = p.fromFront, p.fromBack
	return p
}

// packetSize is the length of a packet with its header.
func packetSize(h []byte) int64 { return header + int64(length(h)) }

func length(h []byte) int { return int(h[0]) | int(h[1])<<8 | int(h[2])<<16 }

// Held is the memory of commands that wait and of prepared statements.
func (p *Parser) Held() int {
	const entry = 64 // of a map
	s := &p.statements
	return p.Queue.Bytes() + (p.Queue.Places()+s.summaries)*sql.SummaryBytes + len(s.byID)*entry
}

// Close ends the connection.
func (p *Parser) Close(_ int64, done func(*protocol.Request)) {
	if !p.Over && p.back.Lost() {
		p.done = done
		p.settle()
		p.done = nil
	}
	p.End()
}

// Take follows a piece.
func (p *Parser) Take(piece *protocol.Piece, done func(*protocol.Request)) {
	if p.Over || piece.Len() == 0 {
		return
	}
	if !p.Sided && !p.tellSides(piece) {
		return
	}
	p.piece, p.done = piece, done
	if piece.Direction == p.Asks {
		p.takeFront(piece)
	} else {
		p.takeBack(piece)
	}
	p.piece, p.done = nil, nil
}

// tellSides finds which direction carries commands.
func (p *Parser) tellSides(piece *protocol.Piece) bool {
	switch {
	case beginsGreeting(piece):
		p.Begin(1 - piece.Direction)
	case beginsLogin(piece.Data, piece.Len()):
		p.Begin(piece.Direction)
		p.greeted, p.offered = true, 1<<32-1 // the offer came before TLS
	case beginsCommand(piece):
		p.Begin(piece.Direction)
	default:
		return false
	}
	return true
}

// beginsGreeting: a connection's first packet, of the server.
func beginsGreeting(piece *protocol.Piece) bool {
	b := piece.Data
	return len(b) > 20 && length(b)+header == piece.Len() && b[3] == 0 && b[4] == 10 && b[5] >= '0' && b[5] <= '9' &&
		bytes.IndexByte(b[5:], 0) > 0
}

// Begins says whether the first bytes of a piece of n bytes are those with which a
// client begins inside TLS, or ask something, on a connection that is older than the
// probe.
func Begins(b []byte, n int) bool {
	if beginsLogin(b, n) {
		return true
	}
	return len(b) > header+1 && b[3] == 0 && (b[header] == comQuery || b[header] == comPrepare) &&
		length(b)+header == n && sql.Operation(text(b[header+1:])) != sql.Other
}

// beginsLogin: a client's first packet inside TLS, which repeats what it has said
// before it and goes on.
func beginsLogin(b []byte, n int) bool {
	const whole, wanted = header + 32, canProtocol41 | canTLS
	if len(b) < whole || b[3] != 2 || length(b)+header != n {
		return false
	}
	for _, c := range b[header+9 : header+28] {
		if c != 0 {
			return false
		}
	}
	return binary.LittleEndian.Uint32(b[header:])&wanted == wanted
}

// beginsCommand: a packet numbered 0 that holds a command.
func beginsCommand(piece *protocol.Piece) bool {
	b := piece.Data
	return len(b) > header && b[3] == 0 && commandOf(b[header]) != "" && length(b) > 0 &&
		(length(b)+header == piece.Len() || length(b) == maxPacket || b[header] == comPrepare && length(b)+header < piece.Len())
}

// takeFront follows what the client sends.
func (p *Parser) takeFront(piece *protocol.Piece) {
	if p.front.Lost() {
		if !beginsCommand(piece) {
			return
		}
		p.file, p.frontMore = false, false
		p.front.Resume()
	}
	if !p.front.Take(piece, &p.frontLimits, p.onFront) && !p.Over {
		p.Losses++
	}
}

// fromFront is given each packet of the client.
func (p *Parser) fromFront(m *framing.Message) {
	payload := m.Head[header:]
	switch more := m.Size == header+maxPacket; {
	case p.file:
		p.addBytes(m.Size)
		p.file = m.Size > header // an empty packet is the end of the file
		return
	case p.frontMore:
		p.frontMore = more
		p.addBytes(m.Size)
		return
	case m.Head[3] != 0:
		if p.greeted {
			p.handshake(m.Head[3], payload)
		}
		return
	default:
		p.frontMore = more
	}
	if len(payload) == 0 {
		return
	}
	if p.back.Lost() {
		p.settle()
	}
	p.greeted = false
	p.command(m, payload)
}

// addBytes adds to the size of the newest command.
func (p *Parser) addBytes(n int64) {
	if w := p.Queue.Last(); w != nil {
		w.bytes += n
	}
}

// settle ends what waits, with the last bytes of the server: a client does not
// ask again before it has got all of an answer.
func (p *Parser) settle() {
	for i := 0; p.Queue.Len() > 0; i++ {
		if i == 0 && p.answerNanos != 0 {
			p.end(p.Queue.First(), 0, p.answerNanos)
		}
		p.Queue.Pop()
	}
	p.back.Resume()
	p.answer = answer{}
	p.responseBytes = 0
}

// handshake reads the client's side of the connection's beginning.
func (p *Parser) handshake(number byte, b []byte) {
	if number > 2 || len(b) < 32 {
		return // of the exchange that proves who it is
	}
	p.capable = binary.LittleEndian.Uint32(b) & (p.offered | canTLS)
	switch {
	case len(b) == 32 && p.capable&canTLS != 0, p.capable&(canCompress|canZstd) != 0:
		p.GiveUp()
		return
	}
	_, rest, ok := bytes.Cut(b[32:], []byte{0}) // the user
	if !ok || p.capable&canConnectWithDB == 0 {
		return
	}
	var n int
	switch {
	case len(rest) == 0:
		return
	case p.capable&(canAuthLenenc|canSecureAuth) != 0:
		n = 1 + int(rest[0]) // proofs are shorter than 251 bytes
	default:
		n = bytes.IndexByte(rest, 0) + 1
	}
	if n > 0 && n < len(rest) {
		name, _, _ := bytes.Cut(rest[n:], []byte{0})
		p.database = string(name[:min(len(name), maxTarget)])
	}
}

// command takes a packet that begins a command.
func (p *Parser) command(m *framing.Message, b []byte) {
	c := b[0]
	op := commandOf(c)
	switch c {
	case comQuit, comSendLongData, comStmtClose:
		if c == comStmtClose && len(b) >= 5 {
			p.statements.forget(binary.LittleEndian.Uint32(b[1:]))
		}
		return // has no answer
	case comBinlogDump, comBinlogDumpGTID, comRegisterReplica, comTableDump, comDaemon:
		p.GiveUp()
		return
	}
	if op == "" {
		p.Losses++
		p.front.Lose()
		return
	}
	w := p.Queue.Push(maxWaiting)
	if w == nil {
		p.Losses++
		return
	}
	if w.summary == nil {
		w.summary = make([]byte, 0, sql.SummaryBytes)
	}
	*w = waiting{command: c, op: op, origin: m.Origin, bytes: m.Size, summary: w.summary[:0]}
	switch c {
	case comQuery, comPrepare:
		text := text(b[1:])
		if c == comQuery {
			w.op = sql.Operation(text)
		}
		w.summary = sql.AppendSummary(w.summary, text, sql.MySQL)
		if c == comPrepare {
			p.statements.last = sql.Operation(text)
		}
	case comExecute, comBulkExecute, comStmtFetch:
		if len(b) >= 5 && c != comStmtFetch {
			p.statements.describe(binary.LittleEndian.Uint32(b[1:]), w)
		}
	case comInitDB:
		if name := b[1:min(len(b), 1+maxTarget)]; string(name) != p.database {
			p.database = string(name)
		}
	}
}

// text gives the text of a query. Clients that may send attributes tell their
// number before it; the values of those are not looked at.
func text(b []byte) []byte {
	switch {
	case len(b) < 2 || b[1] != 1 || b[0] > 8:
		return b
	case b[0] == 0:
		return b[2:]
	}
	return nil
}

// end reports a command. code is the number of the server's error, 0 if there is
// none.
func (p *Parser) end(w *waiting, code int, nanos int64) {
	p.request = protocol.Request{
		Kind: protocol.MySQL, Server: p.Server(),
		Operation: w.op, Target: p.database, Failed: code != 0,
		Summary: unsafe.String(unsafe.SliceData(w.summary), len(w.summary)),
		Seq:     w.origin.Seq, StartNanos: w.origin.StartNanos(p.Server()), EndNanos: nanos,
		RequestBytes: w.bytes, ResponseBytes: p.responseBytes,
	}
	if code != 0 {
		s := strconv.AppendInt(p.status[:0], int64(code), 10)
		p.request.Status = unsafe.String(&s[0], len(s))
	}
	p.responseBytes = 0
	p.done(&p.request)
}
