// Package redis follows connections that speak Redis's protocol, RESP2 or RESP3.
//
//	requests: arrays of strings, or a line ─► queue of commands that await their reply
//	replies:  one each, in order           ─► ends the oldest command
//
// What is pushed (messages of subscriptions, invalidations) is no reply. A
// subscription ends with the confirmation of its last channel.
//
// Lengths lead over the bytes of strings that were not copied. Where more than a
// string is missing, of requests, the replies up to the next request tell how
// many there were, as OTHER; of replies, what waits ends with the last of them
// when the next request comes, for most clients wait for all replies then.
//
// Memory of a connection: 0.5 kB, and 64 bytes for each command that waits, 512
// at most; of 8192 behind those 12 bytes, which are let go when none of these waits.
package redis

import (
	"unsafe"

	"github.com/vedette-io/vedette/ebpf/protocol"
	"github.com/vedette-io/vedette/ebpf/protocol/framing"
)

const (
	maxWaiting   = 512
	summaryBytes = 64
	summaryArgs  = 8 // more are …
	other        = "OTHER"
)

// waiting is a command that awaits its reply.
type waiting struct {
	op      string
	unseen  bool // stands for commands whose bytes were not copied, any number
	confirm bool // ends with confirmations of a subscription, args of them
	args    int32
	origin  framing.Origin
	bytes   int64
}

// Parser follows one connection. It is a protocol.Parser.
type Parser struct {
	framing.Exchange[waiting]
	request protocol.Request // what done is given
	summary [summaryBytes]byte
	done    func(*protocol.Request)
	piece   *protocol.Piece

	requests, replies reader

	further further // what waits behind Queue, when that is full

	repliesLost   bool
	answered      bool  // a reply came since the last request
	replyNanos    int64 // when the last reply's piece came
	responseBytes int64
	subscribed    bool // RESP2: messages come as arrays
	silent        bool // CLIENT REPLY OFF
	skip          int  // commands without a reply: CLIENT REPLY SKIP and the next one
}

var _ protocol.Parser = (*Parser)(nil)

// New gives a parser for one connection.
func New() *Parser {
	p := new(Parser)
	p.requests.inline = true
	p.requests.ended, p.replies.ended = p.command, p.reply
	return p
}

// Held is the memory of commands that wait.
func (p *Parser) Held() int { return p.Queue.Bytes() + p.further.queue.Bytes() }

// Close ends the connection.
func (p *Parser) Close(_ int64, done func(*protocol.Request)) {
	if !p.Over && p.repliesLost {
		p.done = done
		p.settle()
		p.done = nil
	}
	p.End()
	p.further = further{}
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
		p.takeRequests(piece)
	} else {
		p.takeReplies(piece)
	}
	p.piece, p.done = nil, nil
}

// tellSides finds which direction carries requests.
func (p *Parser) tellSides(piece *protocol.Piece) bool {
	b := piece.Data
	switch {
	case beginsCommand(b):
		p.Begin(piece.Direction)
	case beginsReply(b):
		p.Begin(1 - piece.Direction)
	case len(b) > 2 && b[0] == 0x16 && b[1] == 3: // TLS
		p.GiveUp()
		return false
	default:
		return false
	}
	return true
}

// takeRequests follows what the client sends.
func (p *Parser) takeRequests(piece *protocol.Piece) {
	if p.repliesLost || p.answered && !p.replies.inside() && p.hasUnseen() {
		p.settle()
	}
	p.answered = false
	b, offset := piece.Data, 0
	if p.requests.lost {
		if offset = findCommand(b); offset < 0 {
			p.pushUnseen(framing.At(piece, 0))
			return
		}
		p.requests.resume()
		if offset > 0 {
			p.pushUnseen(framing.At(piece, 0))
		}
	}
	p.requests.take(piece, offset)
	if p.requests.lost && !p.Over {
		p.Losses++
		if r := &p.requests; r.broken {
			r.lost = false
			p.command(r) // its words are missing, not its name
			r.lose()
		}
		p.pushUnseen(framing.At(piece, len(piece.Data)))
	}
}

// hasUnseen says whether commands wait whose number is not known.
func (p *Parser) hasUnseen() bool {
	if w := p.further.queue.Last(); w != nil {
		return w.op == unseenCommand
	}
	return p.Queue.Len() > 0 && p.Queue.Last().unseen
}

func (p *Parser) pushUnseen(o framing.Origin) {
	if p.hasUnseen() {
		return
	}
	w := (*waiting)(nil)
	if p.further.queue.Len() == 0 {
		w = p.Queue.Push(maxWaiting)
	}
	switch {
	case w != nil:
		*w = waiting{op: other, unseen: true, origin: o}
	case !p.further.push(unseenCommand, o):
		p.further.queue.Last().op = unseenCommand
	}
}

// pop drops the oldest command.
func (p *Parser) pop() {
	p.Queue.Pop()
	if p.further.queue.Len() > 0 {
		p.further.pop(p.Queue.Push(maxWaiting))
	}
}

// settle ends all that waits, with the last piece of replies: the client would
// not send more otherwise.
func (p *Parser) settle() {
	for w := p.Queue.First(); w != nil; w = p.Queue.First() {
		if p.repliesLost && !w.unseen && p.replyNanos != 0 {
			p.end(w, "", p.replyNanos)
		}
		p.pop()
	}
	p.repliesLost = false
	p.replies.resume()
	p.responseBytes = 0
}

// command is told of each command.
func (p *Parser) command(r *reader) {
	op := commandName(r.words[0].bytes())
	switch op {
	case "":
		op = other
	case "PSYNC", "SYNC", "REPLCONF":
		p.GiveUp() // replication is another protocol
		r.lost = true
		return
	case "CLIENT":
		if isWord(r.words[1].bytes(), "REPLY") {
			switch {
			case isWord(r.words[2].bytes(), "OFF"):
				p.silent = true
			case isWord(r.words[2].bytes(), "ON"):
				p.silent = false
			case isWord(r.words[2].bytes(), "SKIP"):
				p.skip = 2
			}
		}
	case "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE":
		p.subscribed = true
	}
	if p.silent || p.skip > 0 {
		p.skip = max(p.skip-1, 0)
		return
	}
	if p.hasUnseen() {
		return // its reply cannot be told from those
	}
	confirm := false
	switch op {
	case "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE":
		confirm = true
	}
	w := (*waiting)(nil)
	if p.further.queue.Len() == 0 {
		w = p.Queue.Push(maxWaiting)
	}
	if w == nil {
		if confirm || !p.further.push(placeOf(op), r.origin) {
			p.Losses++
			p.pushUnseen(r.origin)
		}
		return
	}
	args := int32(min(max(r.elements-1, 0), 1<<20))
	*w = waiting{op: op, confirm: confirm, args: args, origin: r.origin, bytes: r.size}
}

// takeReplies follows what the server sends.
func (p *Parser) takeReplies(piece *protocol.Piece) {
	p.answered = true
	p.replyNanos = piece.AtNanos
	if p.repliesLost {
		p.responseBytes += int64(piece.Len())
		return
	}
	p.replies.take(piece, 0)
	if p.replies.lost {
		p.Losses++
		p.repliesLost = true
		p.responseBytes += int64(piece.Len())
	}
}

// reply is told of each reply.
func (p *Parser) reply(r *reader) {
	w := p.Queue.First()
	word := r.words[0].bytes()
	pushed := r.kind == '>'
	if pushed || r.kind == '*' && (p.subscribed || w != nil && w.confirm) {
		switch string(word) {
		case "message", "pmessage", "smessage", "invalidate":
			return
		case "subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe":
			p.subscribed = !r.zero
			if w == nil || !w.confirm {
				return // more confirmations than channels were named
			}
			if w.args--; w.args > 0 {
				p.responseBytes += r.size
				return
			}
			w.args = 0
		default:
			if pushed {
				return
			}
		}
	}
	p.responseBytes += r.size
	if w == nil {
		p.responseBytes = 0
		return // of a command that was not seen
	}
	status := ""
	if r.kind == '-' || r.kind == '!' {
		status = errorName(word)
	}
	p.end(w, status, p.piece.AtNanos)
	if !w.unseen {
		p.pop()
	} else {
		w.bytes = 0
	}
}

// end reports a command.
func (p *Parser) end(w *waiting, status string, nanos int64) {
	s := append(p.summary[:0], w.op...)
	for i := int32(0); i < w.args && !w.confirm; i++ {
		if i == summaryArgs {
			s = append(s, " …"...)
			break
		}
		s = append(s, " ?"...)
	}
	p.request = protocol.Request{
		Kind: protocol.Redis, Server: p.Server(),
		Operation: w.op, Summary: unsafe.String(unsafe.SliceData(s), len(s)),
		Status: status, Failed: status != "",
		Seq: w.origin.Seq, StartNanos: w.origin.StartNanos(p.Server()), EndNanos: nanos,
		RequestBytes: w.bytes, ResponseBytes: p.responseBytes,
	}
	p.responseBytes = 0
	p.done(&p.request)
}
