// Package kafka follows connections that speak Kafka's protocol.
//
//	request:  size | API key, version, correlation id, client | body ─► queue of what awaits an answer
//	response: size | correlation id | body                          ─► ends the request of that id
//
// A Produce that asks for no acknowledgement has no response; it ends with its
// own last byte. An error is told where a response has one of its own, and for
// what is produced, fetched, listed and committed the first partition's, if it
// stands in the bytes that were copied.
//
// Sizes lead over bytes that were not copied. Where the place is lost it is found
// again at a read or write that begins with a request's header or with the
// correlation id of what waits. Raw SASL tokens are passed over.
//
// Memory of a connection: 2 × 384 bytes for messages that came in pieces, and up
// to 64 waiting requests of 80 bytes with topics of 64: 2 kB for most, 10 kB at
// most.
package kafka

import (
	"encoding/binary"
	"unsafe"

	"github.com/vedette-io/vedette/ebpf/protocol"
	"github.com/vedette-io/vedette/ebpf/protocol/framing"
)

const (
	maxWaiting = 64
	maxHead    = 384
	maxTopic   = 64 // kept of a topic's name, which may have 249
	maxMessage = 1 << 30
	header     = 4
	fixed      = 14 // of a request up to the client's name
	produce    = 0
	fetch      = 1
	listing    = 2
	commit     = 8
	versions   = 18
	creation   = 19
)

// waiting is a request that awaits its response.
type waiting struct {
	id      int32
	key     int16
	version int16
	topic   []byte // stays with the place in the queue
	origin  framing.Origin
	bytes   int64
}

// Parser follows one connection. It is a protocol.Parser.
type Parser struct {
	framing.Exchange[waiting]
	request protocol.Request // what done is given
	done    func(*protocol.Request)
	piece   *protocol.Piece

	frontLimits, backLimits framing.Limits
	onFront, onBack         func(*framing.Message)
	front, back             framing.Reader
	confirmed               bool // a response was that of a request
}

var _ protocol.Parser = (*Parser)(nil)

// New gives a parser for one connection.
func New() *Parser {
	p := &Parser{
		frontLimits: framing.Limits{Header: header, Keep: maxHead, Size: size},
		backLimits:  framing.Limits{Header: header, Keep: maxHead, Size: size},
	}
	p.onFront, p.onBack = p.fromFront, p.fromBack
	return p
}

// size is the length of a message with its size field.
func size(h []byte) int64 {
	n := int64(binary.BigEndian.Uint32(h))
	if n > maxMessage {
		return 0
	}
	return header + n
}

// Held is the memory of requests that wait.
func (p *Parser) Held() int { return p.Queue.Bytes() + p.Queue.Places()*maxTopic }

// Close ends the connection. What waits has got no response and is dropped.
func (p *Parser) Close(int64, func(*protocol.Request)) {
	p.End()
}

// Take follows a piece.
func (p *Parser) Take(piece *protocol.Piece, done func(*protocol.Request)) {
	if p.Over || piece.Len() == 0 {
		return
	}
	if !p.Sided {
		// Some clients and all brokers read the size first, alone; then the header
		// begins with the second piece.
		if !beginsRequest(piece.Data) {
			p.seekHeader(piece)
			if !p.Sided {
				return
			}
		}
		p.Begin(piece.Direction)
	}
	p.piece, p.done = piece, done
	if piece.Direction == p.Asks {
		p.takeFront(piece)
	} else {
		p.takeBack(piece)
	}
	p.piece, p.done = nil, nil
}

// seekHeader looks for a request whose size came in a piece of its own. Both
// directions' readers serve as memory of such sizes until the side is known.
func (p *Parser) seekHeader(piece *protocol.Piece) {
	r := &p.front
	if piece.Direction == protocol.Sent {
		r = &p.back
	}
	b := piece.Data
	if !r.Inside() {
		r.Resume()
		if piece.Len() == header && len(b) == header && size(b) > fixed {
			r.Take(piece, &p.frontLimits, p.onFront)
		}
		return
	}
	if !surely(b) {
		r.Resume()
		return
	}
	if piece.Direction == protocol.Sent {
		p.front, p.back = p.back, p.front
	}
	p.back.Resume()
	p.Sided = true
}

// beginsRequest says whether b begins with a request, its size included.
func beginsRequest(b []byte) bool {
	if len(b) < fixed {
		return false
	}
	n := size(b)
	return n >= fixed && surely(b[header:])
}

// surely is plausible for what may also be a response: of a response the number,
// which counts up from 0, stands where a request has API 0, Produce, and its
// version. That must ask for acknowledgement within some time, then, and name a
// topic, as far as it can be seen.
func surely(b []byte) bool {
	if !plausible(b) || binary.BigEndian.Uint16(b) != produce {
		return plausible(b)
	}
	f := fields{b: b, ok: true}
	f.int16()
	version := f.int16()
	f.int32()
	f.string(false)
	f.flexible = apis[produce].isFlexible(version)
	f.tags()
	if version >= 3 {
		f.string(f.flexible)
	}
	acks, timeout := f.int16(), f.int32()
	if !f.ok || acks < -1 || acks > 1 || timeout < 100 || timeout > 1<<22 {
		return false
	}
	topics := f.array()
	if version > 12 || !f.ok {
		return true
	}
	return topics > 0 && isTopic(f.string(f.flexible))
}

// isTopic says whether b may be the name of a topic.
func isTopic(b []byte) bool {
	for _, c := range b {
		switch {
		case 'a' <= c|0x20 && c|0x20 <= 'z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return len(b) > 0 && len(b) <= 249
}

// plausible says whether b is the header of a request after its size: a known
// API and version, and the client's name, if it has one, in printable characters.
func plausible(b []byte) bool {
	if len(b) < fixed-header {
		return false
	}
	key, version := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	if int(key) >= len(apis) || int(version) > int(apis[key].max)+2 {
		return false
	}
	n := int(int16(binary.BigEndian.Uint16(b[8:])))
	name := b[10:]
	if n < -1 || n > 255 {
		return false
	}
	for _, c := range name[:min(max(n, 0), len(name))] {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// takeFront follows what the client sends.
func (p *Parser) takeFront(piece *protocol.Piece) {
	if p.front.Lost() {
		if !beginsRequest(piece.Data) {
			return
		}
		p.front.Resume()
	}
	if !p.front.Take(piece, &p.frontLimits, p.onFront) {
		p.Losses++
	}
}

// takeBack follows what the broker sends.
func (p *Parser) takeBack(piece *protocol.Piece) {
	if p.back.Lost() {
		b := piece.Data
		if len(b) < header+4 || p.find(int32(binary.BigEndian.Uint32(b[header:]))) < 0 || size(b) == 0 {
			return
		}
		p.back.Resume()
	}
	if !p.back.Take(piece, &p.backLimits, p.onBack) {
		p.Losses++
	}
}

// find gives the place in the queue of a request, or -1.
func (p *Parser) find(id int32) int {
	for i := range p.Queue.Len() {
		if p.Queue.At(i).id == id {
			return i
		}
	}
	return -1
}

// fromFront is given each request.
func (p *Parser) fromFront(m *framing.Message) {
	if len(m.Head) < fixed || !plausible(m.Head[header:]) {
		return // a SASL token
	}
	if int64(len(m.Head)) >= min(m.Size, maxHead) && !surely(m.Head[header:]) {
		return
	}
	if p.Queue.Len() == maxWaiting {
		p.Queue.Pop()
		p.Losses++
	}
	w := p.Queue.Push(maxWaiting)
	b := fields{b: m.Head[header:], ok: true}
	*w = waiting{
		key: b.int16(), version: b.int16(), id: b.int32(),
		topic: w.topic[:0], origin: m.Origin, bytes: m.Size,
	}
	b.string(false)
	b.flexible = apis[w.key].isFlexible(w.version)
	b.tags()
	switch {
	case w.key == produce:
		if w.produce(&b) {
			if p.confirmed || len(w.topic) > 0 {
				p.end(w, 0, 0)
			}
			p.Queue.Drop()
		}
	case w.key == fetch && w.version <= 12:
		w.fetch(&b)
	}
}

// produce reads the topic of what is produced, and says whether there will be no
// response.
func (w *waiting) produce(b *fields) (silent bool) {
	if w.version >= 3 {
		b.string(b.flexible) // the transaction
	}
	acks := b.int16()
	b.int32()
	silent = b.ok && acks == 0
	if w.version <= 12 && b.array() > 0 {
		w.keepTopic(b.string(b.flexible))
	}
	return silent
}

// fetch reads the topic of what is fetched.
func (w *waiting) fetch(b *fields) {
	b.skip(12)
	if w.version >= 3 {
		b.skip(4)
	}
	if w.version >= 4 {
		b.skip(1)
	}
	if w.version >= 7 {
		b.skip(8)
	}
	if b.array() > 0 {
		w.keepTopic(b.string(b.flexible))
	}
}

func (w *waiting) keepTopic(name []byte) {
	if w.topic == nil && len(name) > 0 {
		w.topic = make([]byte, 0, maxTopic)
	}
	w.topic = append(w.topic, name[:min(len(name), maxTopic)]...)
}

// fromBack is given each response.
func (p *Parser) fromBack(m *framing.Message) {
	if len(m.Head) < header+4 {
		return
	}
	i := p.find(int32(binary.BigEndian.Uint32(m.Head[header:])))
	if i < 0 {
		return // of a request that was not seen, or a SASL token
	}
	for range i {
		p.Queue.Pop() // a broker answers in order: these have got no response
	}
	p.confirmed = true
	w := p.Queue.First()
	p.end(w, w.errorIn(m.Head), m.Size)
	p.Queue.Pop()
}

// end reports a request.
func (p *Parser) end(w *waiting, code int16, bytes int64) {
	p.request = protocol.Request{
		Kind: protocol.Kafka, Server: p.Server(),
		Operation: apis[w.key].name, Target: unsafe.String(unsafe.SliceData(w.topic), len(w.topic)),
		Status: errorName(code), Failed: code != 0,
		Seq: w.origin.Seq, StartNanos: w.origin.StartNanos(p.Server()), EndNanos: p.piece.AtNanos,
		RequestBytes: w.bytes, ResponseBytes: bytes,
	}
	p.done(&p.request)
}
