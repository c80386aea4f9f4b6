package http2

import (
	"bytes"
	"unsafe"

	"github.com/vedette-io/vedette/ebpf/protocol"
)

// Bounds of what is kept of a stream.
const (
	maxPath  = 1024
	maxTrace = 128
	maxFree  = 64
)

// otherMethod stands for a method that is not known.
const otherMethod = "_OTHER"

// stream is a request and its response.
type stream struct {
	asked   bool // the request's header was seen
	ended   bool // the response has ended, before the request was seen
	grpc    bool
	unknown bool // fields of the response are not known
	code    int8 // grpc-status; -1: none

	method     string
	path       []byte
	trace      []byte
	status     [3]byte
	haveStatus bool

	first                       origin // of the request
	end                         origin // of the response, once ended
	requestBytes, responseBytes int64
}

// fields are those of interest of one header block.
type fields struct {
	method        string
	path, trace   []byte
	status        [3]byte
	haveStatus    bool
	grpc, unknown bool
	code          int8
}

// take notes a field.
func (f *fields) take(n name, value []byte, known bool) {
	if !known {
		f.unknown = true
		return
	}
	switch n {
	case methodName:
		f.method = methodOf(value)
	case pathName:
		f.path = append(f.path[:0], value[:min(len(value), maxPath)]...)
	case statusName:
		f.haveStatus = copy(f.status[:], value) == 3
	case contentTypeName:
		f.grpc = f.grpc || bytes.HasPrefix(value, []byte("application/grpc"))
	case grpcStatusName:
		f.grpc, f.code = true, statusCode(value)
	case traceparentName:
		f.trace = append(f.trace[:0], value[:min(len(value), maxTrace)]...)
	}
}

// methodOf gives a method that lasts.
func methodOf(b []byte) string {
	switch string(b) {
	case "GET":
		return "GET"
	case "POST":
		return "POST"
	case "HEAD":
		return "HEAD"
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

// headerBlock takes a whole header block.
func (p *Parser) headerBlock(d protocol.Direction, block []byte, at origin) {
	h := &p.half[d]
	f := &p.fields
	*f = fields{path: f.path[:0], trace: f.trace[:0], code: -1}
	if h.blockBroken || !p.decoder.decode(&h.table, block, p.field) {
		h.table.forget()
		f.unknown = true
		p.lost++
	}
	id := h.blockID
	if id == 0 {
		return
	}
	switch {
	case f.method != "":
		p.setRole(d)
	case f.haveStatus:
		p.setRole(1 - d)
	}
	end := h.blockFlags&flagEndStream != 0
	switch {
	case p.role == unknownRole:
	case d == p.asks():
		p.requested(id, f, h.blockFirst)
	default:
		p.responded(id, f, end, at)
	}
}

// requested takes the header of a request, or its trailer.
func (p *Parser) requested(id uint32, f *fields, first origin) {
	s := p.streams[id]
	if f.haveStatus || s != nil && s.asked || s == nil && id <= p.highest {
		return // a trailer
	}
	if p.early > 0 {
		p.dropEarly(id)
	}
	p.highest = max(p.highest, id)
	if s == nil {
		if s = p.open(id); s == nil {
			return
		}
	} else {
		p.early--
	}
	s.asked, s.first = true, first
	s.method = f.method
	s.path = append(s.path[:0], f.path...)
	s.trace = append(s.trace[:0], f.trace...)
	s.grpc = s.grpc || f.grpc
	if s.ended {
		p.finish(id, s, s.end)
	}
}

// responded takes the header of a response, or its trailer.
func (p *Parser) responded(id uint32, f *fields, end bool, at origin) {
	s := p.streams[id]
	if s == nil {
		// On a client the thread that reads may be faster than the one that wrote.
		if p.role != clientRole || id <= p.highest || id&1 == 0 {
			return
		}
		if s = p.open(id); s == nil {
			return
		}
		p.early++
	}
	if f.haveStatus && f.status[0] == '1' {
		return
	}
	if f.haveStatus {
		s.status, s.haveStatus = f.status, true
	}
	s.grpc = s.grpc || f.grpc
	s.unknown = s.unknown || f.unknown
	if f.code >= 0 {
		s.code = f.code
	}
	if end {
		p.finish(id, s, at)
	}
}

// open begins a stream; nil: there are too many.
func (p *Parser) open(id uint32) *stream {
	if len(p.streams) >= maxStreams {
		p.lost++
		return nil
	}
	var s *stream
	if n := len(p.free); n > 0 {
		s, p.free = p.free[n-1], p.free[:n-1]
		*s = stream{path: s.path[:0], trace: s.trace[:0]}
	} else {
		s = new(stream)
	}
	s.code = -1
	p.streams[id] = s
	return s
}

func (p *Parser) drop(id uint32, s *stream) {
	if !s.asked {
		p.early--
	}
	delete(p.streams, id)
	if len(p.free) < maxFree {
		p.free = append(p.free, s)
	}
}

// dropEarly gives up the responses whose requests will not be seen any more:
// streams are opened in order.
func (p *Parser) dropEarly(before uint32) {
	for id, s := range p.streams {
		if !s.asked && id < before {
			p.drop(id, s)
		}
	}
}

// data counts bytes of a body.
func (p *Parser) data(d protocol.Direction, n int) {
	s := p.streams[p.half[d].id]
	if s == nil || p.role == unknownRole {
		return
	}
	if d == p.asks() {
		s.requestBytes += int64(n)
	} else {
		s.responseBytes += int64(n)
	}
}

// endStream takes the end of a body.
func (p *Parser) endStream(d protocol.Direction, id uint32, at origin) {
	if s := p.streams[id]; s != nil && d != p.asks() {
		p.finish(id, s, at)
	}
}

// resetStream takes a RST_STREAM.
func (p *Parser) resetStream(d protocol.Direction, id uint32, code uint32, at origin) {
	s := p.streams[id]
	switch {
	case s == nil:
		return
	case !s.asked:
		p.drop(id, s)
		return
	case s.code < 0 && (d == p.asks() || code != 0):
		s.code = resetStatus(code)
	}
	p.finish(id, s, at)
}

// goAway takes the number of the last stream that the server will answer.
func (p *Parser) goAway(last uint32) {
	for id, s := range p.streams {
		if id > last && id&1 == 1 {
			p.drop(id, s)
		}
	}
}

// Close ends the connection. The requests under way were not answered.
func (p *Parser) Close(atNanos int64, done func(*protocol.Request)) {
	p.done = done
	for id, s := range p.streams {
		if !s.asked {
			continue
		}
		if s.code < 0 {
			if s.code = unavailable; p.role == serverRole {
				s.code = cancelled
			}
		}
		p.finish(id, s, origin{atNanos: atNanos})
	}
	clear(p.streams)
	p.early = 0
}

// finish reports a stream that has ended.
func (p *Parser) finish(id uint32, s *stream, at origin) {
	if !s.asked {
		s.ended, s.end = true, at
		return
	}
	r := p.describe(s)
	r.EndNanos = max(at.atNanos, r.StartNanos)
	r.RequestBytes, r.ResponseBytes = max(s.requestBytes, 0), max(s.responseBytes, 0)
	if s.grpc {
		s.describeRPC(r)
	} else {
		s.describeHTTP(r)
	}
	p.done(r)
	p.drop(id, s)
}

// describe gives what is known of a request since it was asked.
func (p *Parser) describe(s *stream) *protocol.Request {
	r := &p.request
	*r = protocol.Request{
		Kind: protocol.HTTP2, GRPC: s.grpc, Server: p.role == serverRole,
		Seq: s.first.seq, StartNanos: s.first.atNanos, Traceparent: view(s.trace),
	}
	// A client's has begun when its writing did, where that is known.
	if s.first.readyNanos != 0 {
		r.StartNanos = s.first.readyNanos
	}
	if r.Server {
		r.HadNanos = s.first.atNanos
	}
	return r
}

// Open visits the requests that have no whole response yet.
func (p *Parser) Open(visit func(*protocol.Request)) {
	for _, s := range p.streams {
		if s.asked {
			visit(p.describe(s))
		}
	}
}

func (s *stream) describeHTTP(r *protocol.Request) {
	if r.Operation = s.method; s.method == "" {
		r.Operation = otherMethod
	}
	path, _, _ := bytes.Cut(s.path, []byte("?"))
	r.Target = view(path)
	if s.haveStatus {
		r.Status = view(s.status[:])
	}
	r.Failed = !s.haveStatus && !s.unknown || s.haveStatus && (s.status[0] >= '5' || !r.Server && s.status[0] == '4')
}

func (s *stream) describeRPC(r *protocol.Request) {
	r.Operation = otherMethod
	if slash := bytes.LastIndexByte(s.path, '/'); slash > 0 && slash+1 < len(s.path) && len(s.path) < maxPath {
		r.Target, r.Operation = view(s.path[1:slash]), view(s.path[slash+1:])
	}
	code := s.code
	if code < 0 {
		if s.unknown {
			return // grpc-status may have been among what is not known
		}
		code = httpStatus(s.status, s.haveStatus)
	}
	r.Status = codeNames[code]
	r.Failed = code != 0
	if r.Server {
		r.Failed = failsServer(code)
	}
}

// view gives bytes that stay as they are during a call as a string.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
