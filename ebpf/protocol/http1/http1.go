package http1

import (
	"bytes"

	"github.com/vedette-io/vedette/ebpf/protocol"
)

const (
	maxQueue  = 128 // pipelined requests whose particulars are kept
	maxTarget = 256
	maxParent = 55  // of version 00; longer ones are cut
	maxMisses = 64  // pieces of a connection that is not HTTP before it is given up
	raceNanos = 1e6 // by how much a response may seem to precede its request
)

type role uint8

const (
	unknown role = iota
	server
	client
)

// exchange is a request and what of its response is known.
type exchange struct {
	protocol.Request
	unknown bool // stands in for a request that was not kept, or not seen yet
	ended   bool // the response has ended, while the request is still being seen
}

// Parser follows one connection. It implements protocol.Parser.
type Parser struct {
	role   role
	half   [2]half // by direction
	dead   bool    // what follows is not HTTP
	misses int
	lost   int

	queue   []*exchange // requests without a response
	beyond  int         // requests after those, of which only the number is known
	current *exchange   // whose response is under way
	orphan  *exchange   // a client's response that was seen before its request

	lastNanos int64 // when the current response last moved
	done      func(*protocol.Request)
}

// New returns a parser of a connection.
func New() *Parser {
	p := &Parser{}
	p.half[protocol.Sent].direction = protocol.Sent
	return p
}

// Lost is how often the parser lost its place.
func (p *Parser) Lost() int { return p.lost }

// Take follows a piece.
func (p *Parser) Take(piece *protocol.Piece, done func(*protocol.Request)) {
	if p.dead || piece.Len() == 0 {
		return
	}
	p.done = done
	h := &p.half[piece.Direction]
	p.resume(h, piece)
	h.piece, h.offset = piece, 0
	p.follow(h, piece.Data)
	if piece.Missed > 0 && !p.dead {
		p.skip(h, piece.Missed)
		p.follow(h, piece.Tail)
		p.afterGap(h, piece.Tail)
	} else {
		p.follow(h, piece.Tail)
	}
	if h.state == lost && p.role == unknown {
		if p.misses++; p.misses > maxMisses {
			p.kill()
		}
	}
	h.piece = nil
	p.done = nil
}

// Close ends what is under way: a response that lasts until the close, and
// requests that have had none.
func (p *Parser) Close(atNanos int64, done func(*protocol.Request)) {
	if p.dead || p.role == unknown {
		p.kill()
		return
	}
	p.done = done
	if p.current != nil {
		h := &p.half[p.responses()]
		p.current.ResponseBytes = h.bodySoFar()
		if h.state == untilClose {
			atNanos = p.lastNanos
		}
		p.finish(atNanos)
	}
	p.reportEnded(&p.half[p.requests()])
	if p.half[protocol.Received].state != lost && p.half[protocol.Sent].state != lost {
		for len(p.queue) > 0 {
			p.current = p.pop()
			p.current.Failed = true
			p.finish(atNanos)
		}
	}
	p.kill()
}

// Open visits the requests that have no whole response yet.
func (p *Parser) Open(visit func(*protocol.Request)) {
	for _, x := range p.queue {
		visit(&x.Request)
	}
	if x := p.current; x != nil && !x.unknown {
		visit(&x.Request)
	}
}

// kill gives the connection up and lets its memory go.
func (p *Parser) kill() {
	*p = Parser{dead: true, lost: p.lost}
}

// requests is the direction of requests, once the role is known.
func (p *Parser) requests() protocol.Direction {
	if p.role == client {
		return protocol.Sent
	}
	return protocol.Received
}

func (p *Parser) responses() protocol.Direction { return 1 - p.requests() }

// resume looks for the beginning of a message where the place was lost, and
// where a message began though the last one's body had not ended: its rest was
// never seen.
func (p *Parser) resume(h *half, piece *protocol.Piece) {
	b := piece.Data
	answers := p.role != unknown && h.direction == p.responses()
	switch {
	case h.state == lost:
		if p.role != unknown && !looksNew(b, answers) {
			return
		}
		if answers {
			p.finish(p.lastNanos)
		}
		h.reset()
	case h.state >= inBody && p.role != unknown && looksNew(b, answers):
		idle := len(p.queue) == 0 && p.current == nil
		if answers {
			idle = len(p.queue) > 0 && h.state != untilClose
		}
		if !idle {
			return
		}
		if answers && p.current != nil {
			p.current.ResponseBytes = h.bodySoFar()
			p.finish(p.lastNanos)
		}
		p.reportEnded(h)
		h.reset()
		p.lost++
	}
}

// looksNew says whether b begins like a message.
func looksNew(b []byte, response bool) bool {
	if response {
		return bytes.HasPrefix(b, []byte("HTTP/1.")) && len(b) >= 12 && b[8] == ' ' && b[9] >= '1' && b[9] <= '9'
	}
	if i := bytes.IndexByte(b[:min(len(b), 8)], ' '); i >= 0 {
		return methodOf(b[:i]) != otherMethod
	}
	return len(b) < 8 && len(b) > 0 && b[0] >= 'A' && b[0] <= 'Z'
}

const otherMethod = "_OTHER"

func methodOf(b []byte) string {
	switch string(b) {
	case "GET":
		return "GET"
	case "HEAD":
		return "HEAD"
	case "POST":
		return "POST"
	case "PUT":
		return "PUT"
	case "DELETE":
		return "DELETE"
	case "CONNECT":
		return "CONNECT"
	case "OPTIONS":
		return "OPTIONS"
	case "TRACE":
		return "TRACE"
	case "PATCH":
		return "PATCH"
	}
	return otherMethod
}

// takeRole settles which end this is; false: the connection has the other one.
func (p *Parser) takeRole(r role) bool {
	if p.role == unknown {
		p.role = r
	}
	return p.role == r
}

// asked opens the exchange of a request whose start line was read.
func (p *Parser) asked(h *half, method string, target []byte) bool {
	want := server
	if h.direction == protocol.Sent {
		want = client
	}
	if !p.takeRole(want) {
		return false
	}
	if o := p.orphan; o != nil {
		p.orphan = nil
		by := int64(raceNanos)
		if h.piece.ReadyNanos != 0 {
			by = 1 // when the call to write began is known, so there is no doubt
		}
		if h.startNanos-o.StartNanos < by {
			p.adopt(h, o, method, target)
			return true
		}
		p.lost++ // the answer of a request that was not seen
		if p.current == o {
			p.current = nil
			p.half[p.responses()].unpaired = true
		}
	}
	if len(p.queue) >= maxQueue || p.beyond > 0 {
		p.beyond++
		p.lost++
		return true
	}
	x := &exchange{}
	p.describe(h, x, method, target)
	p.queue = append(p.queue, x)
	h.exchange = x
	return true
}

func (p *Parser) describe(h *half, x *exchange, method string, target []byte) {
	x.Kind, x.Server = protocol.HTTP1, p.role == server
	x.Operation, x.Target = method, pathOf(target)
	x.Seq, x.StartNanos = h.seq, h.startNanos
	if x.Server {
		x.HadNanos = h.hadNanos
	}
	x.unknown = false
}

// adopt gives a response that was seen first its request.
func (p *Parser) adopt(h *half, o *exchange, method string, target []byte) {
	p.describe(h, o, method, target)
	h.exchange = o
	if p.current != o {
		o.ended = true // it is reported when its head and body have been seen
	} else if method == "HEAD" {
		p.finish(p.lastNanos)
		p.half[p.responses()].reset()
	}
}

// pathOf is a request's target without its query, and without scheme and host.
func pathOf(target []byte) string {
	if i := bytes.Index(target, []byte("://")); i >= 0 && bytes.IndexByte(target[:i], '/') < 0 {
		target = target[i+3:]
		i := bytes.IndexByte(target, '/')
		if i < 0 {
			return "/"
		}
		target = target[i:]
	}
	if i := bytes.IndexAny(target, "?#"); i >= 0 {
		target = target[:i]
	}
	return string(bytes.ToValidUTF8(target[:min(len(target), maxTarget)], nil))
}

func (p *Parser) pop() *exchange {
	x := p.queue[0]
	p.queue[0] = nil
	if p.queue = p.queue[1:]; len(p.queue) == 0 {
		p.queue = nil
	}
	return x
}

// answered pairs a final response that has begun with the oldest request. False:
// there is none, and the response is skipped.
func (p *Parser) answered(h *half, status string) bool {
	if p.current != nil {
		p.finish(p.lastNanos)
	}
	p.lastNanos = h.piece.AtNanos
	switch {
	case len(p.queue) > 0:
		p.current = p.pop()
	case p.beyond > 0:
		p.beyond--
		p.current = &exchange{Request: protocol.Request{
			Kind: protocol.HTTP1, Server: p.role == server, Operation: otherMethod, StartNanos: h.startNanos,
		}}
	case p.role == client && p.orphan == nil:
		p.current = &exchange{Request: protocol.Request{StartNanos: h.startNanos}, unknown: true}
		p.orphan = p.current
	default:
		p.lost++
		return false
	}
	p.current.Status = status
	p.current.Failed = status[0] == '5' || p.role == client && status[0] == '4'
	return true
}

// finish reports the exchange whose response is under way, if there is one. The
// one whose request is still to be seen waits for it.
func (p *Parser) finish(atNanos int64) {
	x := p.current
	if x == nil {
		return
	}
	p.current = nil
	x.EndNanos = max(atNanos, x.StartNanos)
	if !x.unknown {
		p.report(x)
	}
}

// reportEnded reports the request that is being seen, if its response has ended.
func (p *Parser) reportEnded(h *half) {
	if h.exchange != nil && h.exchange.ended {
		p.report(h.exchange)
	}
}

func (p *Parser) report(x *exchange) {
	if x.EndNanos < x.StartNanos {
		x.EndNanos = x.StartNanos
	}
	if h := &p.half[p.requests()]; h.exchange == x {
		x.RequestBytes = h.bodySoFar()
		h.exchange = nil
	}
	p.done(&x.Request)
}
