// Package postgres follows connections that speak PostgreSQL's protocol, version 3.
//
//	front: Query | Parse Bind Execute … Sync ─► queue of what awaits an answer
//	back:  CommandComplete | ErrorResponse   ─► ends an Execute
//	       ReadyForQuery                     ─► ends a Query, and a cycle up to its Sync
//
// A Query is a request, whatever many statements it has. In the extended protocol
// each Execute is one; a cycle that prepares a statement and executes none is
// one, too, PREPARE. What the server skips after an error, up to the Sync, has no
// answer and is not reported.
//
// Lengths lead over bytes that were not copied. Where the end of a response is
// among them, ReadyForQuery at the end of a read or write is looked for, which
// the server always flushes. Where the end of a request is, answers tell how many
// there were.
//
// Memory of a connection: 2 × 512 bytes for messages that came in pieces, up to
// 128 waiting requests of 112 bytes and 16 summaries of 256, and what 256 prepared
// statements do, 32 of them with a summary: 2 kB for most, 48 kB at most.
package postgres

import (
	"encoding/binary"
	"unsafe"

	"github.com/vedette-io/vedette/ebpf/protocol"
	"github.com/vedette-io/vedette/ebpf/protocol/framing"
	"github.com/vedette-io/vedette/ebpf/protocol/sql"
)

// Bounds of what a connection keeps.
const (
	maxWaiting    = 128
	maxSummaries  = 16
	maxHead       = 512
	maxTarget     = 63 // PostgreSQL's own bound of a name
	maxMessage    = 1 << 30
	readyBytes    = 6 // of ReadyForQuery
	syncBytes     = 5 // of Sync
	executeBytes  = 10
	sqlStateBytes = 5
)

// kind of what waits.
type kind uint8

const (
	query   kind = iota + 1 // ends with ReadyForQuery
	execute                 // ends with its CommandComplete or the like
	prepare                 // a cycle that prepares only; ends with ReadyForQuery
	sync                    // the end of a cycle of the extended protocol
	unseen                  // requests whose bytes were not copied, any number
)

// waiting is a request that awaits its answer.
type waiting struct {
	kind   kind
	failed bool
	sure   bool   // of unseen: it is one at least
	open   bool   // of unseen: some belong to the cycle after those
	cycles int32  // of unseen: ReadyForQuery to come before it is over
	known  int32  // of unseen: requests that were seen, of those cycles
	later  int32  // likewise, of the cycle after those
	rest   string // of unseen: what those do, if they do the same
	op     string
	state  [sqlStateBytes]byte
	coded  bool // state is set
	origin framing.Origin
	bytes  int64
	// The summary, in a buffer that stays with the place in the queue.
	summary []byte
}

// Parser follows one connection. It is a protocol.Parser.
type Parser struct {
	framing.Exchange[waiting]
	request protocol.Request // what done is given
	done    func(*protocol.Request)
	piece   *protocol.Piece

	frontLimits, backLimits   framing.Limits
	onFront, onBack           func(*framing.Message)
	front, back               framing.Reader
	askedTLS                  bool
	copying                   bool  // the client sends rows
	quiet                     bool  // this cycle's rest is skipped by the server, after an error
	seemsFailed               bool  // the place is lost, and what was read last ends as an error does
	answered                  bool  // since the last piece of the client
	answerNanos               int64 // when the last piece of the server came
	responseBytes             int64
	database                  string
	statements                statements
	parsed                    framing.Origin // of the cycle's first Parse
	parsedBytes, pendingBytes int64
	parses, executes          int     // in the cycle that the front is in
	spare                     waiting // takes what is said of a request without a place in the queue
}

var _ protocol.Parser = (*Parser)(nil)

// New gives a parser for one connection.
func New() *Parser {
	p := &Parser{
		frontLimits: framing.Limits{Header: 5, Keep: maxHead, Size: frontSize},
		backLimits:  framing.Limits{Header: 5, Keep: 160, Size: backSize},
	}
	p.onFront, p.onBack = p.fromFront, p.fromBack
	return p
}

// Held is the memory of requests that wait and of prepared statements.
func (p *Parser) Held() int {
	const entry = 64 // of a map
	s := &p.statements
	return p.Queue.Bytes() + (min(p.Queue.Places(), maxSummaries)+s.summaries)*sql.SummaryBytes + (len(s.named)+len(s.portals))*entry
}

// Close ends the connection. What waits has got no answer and is dropped.
func (p *Parser) Close(int64, func(*protocol.Request)) {
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

// tellSides finds which direction carries requests.
func (p *Parser) tellSides(piece *protocol.Piece) bool {
	switch sideOf(piece) {
	case isFront:
		p.Begin(piece.Direction)
	case isBack:
		p.Begin(1 - piece.Direction)
	case isTLS:
		p.GiveUp()
		return false
	default:
		return false
	}
	return true
}

// push adds to the queue. If there is no room, the newest stands for it, too.
func (p *Parser) push(k kind, o framing.Origin, bytes int64) *waiting {
	p.fold()
	w := p.Queue.Push(maxWaiting)
	if w == nil {
		p.Losses++
		p.Queue.Last().merge(k)
		p.spare = waiting{kind: k, op: sql.Other}
		return &p.spare
	}
	summary := w.summary
	if p.Queue.Len() <= maxSummaries && summary == nil && k != sync {
		summary = make([]byte, 0, sql.SummaryBytes)
	}
	*w = waiting{kind: k, op: sql.Other, origin: o, bytes: bytes, summary: summary[:0]}
	return w
}

// fold tells the request that stands for others what the last of them does.
func (p *Parser) fold() {
	w, k := p.Queue.Last(), p.spare.kind
	p.spare.kind = 0
	if w == nil || w.kind != unseen || k != execute && k != query {
		return
	}
	if w.rest == "" {
		w.rest = p.spare.op
	} else if w.rest != p.spare.op {
		w.rest = sql.Other
	}
}

// merge lets a request stand for one more, which answers tell of.
func (w *waiting) merge(k kind) {
	switch w.kind {
	case query:
		w.cycles, w.known = 1, 1
	case sync:
		w.cycles = 1
	case execute:
		w.later = 1
	}
	w.kind = unseen
	switch k {
	case execute, query:
		w.later++
	}
	w.open = k != query && k != sync
	if !w.open {
		w.cycles++
		w.known += w.later
		w.later = 0
	}
}

// describe sets what a statement does from its text.
func (w *waiting) describe(text []byte) {
	w.op = sql.Operation(text)
	if cap(w.summary) > 0 {
		w.summary = sql.AppendSummary(w.summary[:0], text, sql.PostgreSQL)
	}
}

// end reports a request with what has been read of its answer.
func (p *Parser) end(w *waiting) {
	p.request = protocol.Request{
		Kind: protocol.PostgreSQL, Server: p.Server(),
		Operation: w.op, Target: p.database, Failed: w.failed,
		Summary:      unsafe.String(unsafe.SliceData(w.summary), len(w.summary)),
		Seq:          w.origin.Seq,
		StartNanos:   w.origin.StartNanos(p.Server()),
		EndNanos:     p.answerNanos,
		RequestBytes: w.bytes, ResponseBytes: p.responseBytes,
	}
	if w.coded {
		p.request.Status = unsafe.String(&w.state[0], sqlStateBytes)
	}
	p.responseBytes = 0
	p.done(&p.request)
}

// frontSize is the length of a message of the client. The first one of a
// connection has no type, its length begins with 0.
func frontSize(h []byte) int64 {
	n := int64(binary.BigEndian.Uint32(h[1:]))
	switch h[0] {
	case 0:
		if n = int64(binary.BigEndian.Uint32(h)); n < 8 || n > 1<<16 {
			return 0
		}
		return n
	case 'Q', 'P', 'B', 'E', 'D', 'C', 'S', 'H', 'F', 'X', 'd', 'c', 'f', 'p':
		if n < 4 || n > maxMessage {
			return 0
		}
		return 1 + n
	}
	return 0
}

// backSize is the length of a message of the server.
func backSize(h []byte) int64 {
	n := int64(binary.BigEndian.Uint32(h[1:]))
	switch h[0] {
	case 'R', 'S', 'K', 'Z', 'T', 'D', 'C', 'E', 'N', 'A', 'I', 'n', 't', 's', '1', '2', '3', 'G', 'H', 'W', 'd', 'c', 'V', 'v':
		if n >= 4 && n <= maxMessage {
			return 1 + n
		}
	}
	return 0
}
