// Package http2 follows HTTP/2 connections, and tells gRPC from the rest.
//
//	Piece ─► frames ─► header blocks ─► HPACK ─► streams ─► Request
//
// A connection may be joined late and may have gaps. Frames are found again where
// a piece begins like one. The dynamic table of HPACK is rebuilt from what is
// inserted after that: an entry that was inserted before is not known, which is
// told apart from all that is known, so that a name is right or absent. A request
// whose method is not known is counted as _OTHER.
//
// Invariants: memory is bounded, by streams, header block and dynamic table; in
// steady state nothing is allocated.
package http2

import (
	"encoding/binary"

	"github.com/vedette-io/vedette/ebpf/protocol"
)

// Bounds of what a connection may keep.
const (
	maxStreams = 2048
	maxBlock   = 64 << 10 // bytes of one header block
)

// Types of frames.
const (
	frameData         = 0
	frameHeaders      = 1
	framePriority     = 2
	frameReset        = 3
	frameSettings     = 4
	framePush         = 5
	framePing         = 6
	frameGoAway       = 7
	frameWindow       = 8
	frameContinuation = 9
)

// Flags of frames.
const (
	flagEndStream  = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// role is what the process is to the connection.
type role uint8

const (
	unknownRole role = iota
	clientRole
	serverRole
)

// Parser follows one connection.
type Parser struct {
	half    [2]half
	role    role
	streams map[uint32]*stream
	free    []*stream
	highest uint32 // of the streams whose request was seen
	early   int    // streams whose response was seen before the request
	lost    int

	done    func(*protocol.Request) // during Take and Close
	request protocol.Request
	decoder decoder
	fields  fields
	field   func(n name, value []byte, known bool) // fields.take, made once
}

// half is one direction.
type half struct {
	synced bool // the next byte is where header and left say
	found  bool // has been synced before
	header [9]byte
	have   int // bytes of header

	// The frame under way, once its header is whole.
	inFrame     bool
	kind, flags byte
	id          uint32
	left        int // bytes of its payload to come
	payload     []byte
	partial     bool // bytes of the payload are missing
	skip        int  // bytes of the preface to come

	// The header block under way.
	block       []byte
	blockID     uint32
	blockFlags  byte
	blockFirst  origin
	blockBroken bool
	inBlock     bool

	table dynamicTable

	// Where the bytes of the frame under way came from.
	first origin
}

// origin is where and when a byte was seen.
type origin struct {
	seq                 uint32
	readyNanos, atNanos int64
}

// New returns a parser that has seen nothing.
func New() *Parser {
	p := &Parser{streams: make(map[uint32]*stream)}
	p.field = p.fields.take
	return p
}

// Lost is how often the parser lost its place since the connection began.
func (p *Parser) Lost() int { return p.lost }

// Take follows a piece.
func (p *Parser) Take(piece *protocol.Piece, done func(*protocol.Request)) {
	p.done = done
	d := piece.Direction & 1
	h := &p.half[d]
	at := origin{piece.Seq, piece.ReadyNanos, piece.AtNanos}
	if !h.synced && !p.find(d, piece.Data) {
		return
	}
	p.bytes(d, piece.Data, at)
	if piece.Missed > 0 {
		at.seq = piece.Seq + uint32(len(piece.Data))
		p.gap(d, piece.Missed, at)
	}
	if len(piece.Tail) > 0 && h.synced {
		at.seq = piece.Seq + uint32(len(piece.Data)+piece.Missed)
		p.bytes(d, piece.Tail, at)
	}
}

// find looks whether frames begin where b begins.
func (p *Parser) find(d protocol.Direction, b []byte) bool {
	h := &p.half[d]
	switch {
	case len(b) > 0 && len(b) <= len(preface) && string(b) == preface[:len(b)],
		len(b) > len(preface) && string(b[:len(preface)]) == preface:
		h.reset()
		h.skip = len(preface)
		p.setRole(d)
	case plausible(b), !h.found && len(b) < len(h.header):
		h.reset()
	default:
		return false
	}
	h.synced, h.found = true, true
	return true
}

// setRole notes that requests go in direction d.
func (p *Parser) setRole(d protocol.Direction) {
	if p.role == unknownRole {
		if p.role = serverRole; d == protocol.Sent {
			p.role = clientRole
		}
	}
}

// asks is the direction of requests.
func (p *Parser) asks() protocol.Direction {
	if p.role == clientRole {
		return protocol.Sent
	}
	return protocol.Received
}

// plausible says whether b begins with frames, as far as it goes.
func plausible(b []byte) bool {
	for n := 0; len(b) >= 9; n++ {
		length := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
		if !sound(length, b[3], b[4], binary.BigEndian.Uint32(b[5:])) || length > 1<<20 || b[4]&^usualFlags(b[3]) != 0 {
			return false
		}
		if 9+length >= len(b) || n == 3 {
			return true
		}
		b = b[9+length:]
	}
	return false
}

// usualFlags are those that a frame of a kind may have. Others are to be ignored,
// but nobody sets them.
func usualFlags(kind byte) byte {
	switch kind {
	case frameData:
		return flagEndStream | flagPadded
	case frameHeaders:
		return flagEndStream | flagEndHeaders | flagPadded | flagPriority
	case frameSettings, framePing:
		return 1
	case framePush:
		return flagEndHeaders | flagPadded
	case frameContinuation:
		return flagEndHeaders
	}
	return 0
}

// sound says whether a frame may have such a header.
func sound(length int, kind, flags byte, id uint32) bool {
	if id>>31 != 0 {
		return false
	}
	switch kind {
	case frameData, frameHeaders, frameContinuation, framePush:
		return id != 0 && length < 1<<24
	case framePriority:
		return length == 5 && id != 0
	case frameReset:
		return length == 4 && id != 0
	case frameSettings:
		return id == 0 && length%6 == 0 && length <= 6*64 && flags <= 1
	case framePing:
		return id == 0 && length == 8
	case frameGoAway:
		return id == 0 && length >= 8 && length <= 64<<10
	case frameWindow:
		return length == 4
	}
	return kind <= 0x10 && length <= 1<<16
}

// reset forgets the frame under way.
func (h *half) reset() {
	h.synced, h.have, h.inFrame, h.left, h.skip, h.inBlock = false, 0, false, 0, 0, false
	h.payload, h.partial = h.payload[:0], false
}

// lose gives up a direction until frames are found again. Header blocks may have
// gone by: what the dynamic table holds is no longer where it was.
func (p *Parser) lose(d protocol.Direction) {
	p.half[d].reset()
	p.half[d].table.forget()
	p.lost++
}

// bytes follows bytes that were seen.
func (p *Parser) bytes(d protocol.Direction, b []byte, at origin) {
	h := &p.half[d]
	for len(b) > 0 && h.synced {
		n := len(b)
		switch {
		case h.skip > 0:
			n = min(n, h.skip)
			h.skip -= n
		case !h.inFrame:
			if h.have == 0 {
				h.first = at
			}
			n = copy(h.header[h.have:], b)
			if h.have += n; h.have == len(h.header) {
				p.begin(d, at)
			}
		default:
			n = min(n, h.left)
			if h.wanted() {
				if len(h.payload) == 0 && n == h.left && !h.partial {
					// all of it is here: nothing need be kept
					h.left = 0
					p.end(d, b[:n], at)
					b, at.seq = b[n:], at.seq+uint32(n)
					continue
				}
				if h.kind == frameData {
					h.payload = append(h.payload, b[0])
				} else if len(h.payload)+n <= maxBlock {
					h.payload = append(h.payload, b[:n]...)
				} else {
					h.partial = true
				}
			}
			if h.left -= n; h.left == 0 {
				p.end(d, h.payload, at)
			}
		}
		b, at.seq = b[n:], at.seq+uint32(n)
	}
}

// wanted says whether the payload of the frame under way is looked at.
func (h *half) wanted() bool {
	switch h.kind {
	case frameHeaders, frameContinuation, frameReset, frameGoAway, framePush:
		return true
	case frameData:
		return h.flags&flagPadded != 0 && len(h.payload) == 0 // its first byte
	}
	return false
}

// gap follows n bytes that were not seen.
func (p *Parser) gap(d protocol.Direction, n int, at origin) {
	h := &p.half[d]
	if !h.synced {
		return
	}
	if h.skip >= n {
		h.skip -= n
		return
	}
	if h.skip > 0 || !h.inFrame || n > h.left {
		p.lose(d)
		return
	}
	h.partial = true
	if h.left -= n; h.left == 0 {
		p.end(d, h.payload, at)
	}
}

// begin takes a frame's header, which is whole.
func (p *Parser) begin(d protocol.Direction, at origin) {
	h := &p.half[d]
	b := &h.header
	h.have = 0
	h.kind, h.flags, h.id = b[3], b[4], binary.BigEndian.Uint32(b[5:])
	h.left = int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	h.payload, h.partial = h.payload[:0], false
	if !sound(h.left, h.kind, h.flags, h.id) || h.inBlock != (h.kind == frameContinuation) {
		p.lose(d)
		return
	}
	h.inFrame = true
	if h.kind == frameData {
		p.data(d, h.left)
	}
	if h.left == 0 {
		p.end(d, nil, at)
	}
}

// end takes a frame whose last byte has come.
func (p *Parser) end(d protocol.Direction, payload []byte, at origin) {
	h := &p.half[d]
	h.inFrame = false
	switch h.kind {
	case frameData:
		if h.flags&flagPadded != 0 && len(payload) > 0 {
			p.data(d, -1-int(payload[0]))
		}
		if h.flags&flagEndStream != 0 {
			p.endStream(d, h.id, at)
		}
	case frameHeaders, framePush:
		p.headers(d, payload, at)
	case frameContinuation:
		p.appendBlock(d, payload, at)
	case frameReset:
		if len(payload) == 4 {
			p.resetStream(d, h.id, binary.BigEndian.Uint32(payload), at)
		}
	case frameGoAway:
		if len(payload) >= 4 && d != p.asks() {
			p.goAway(binary.BigEndian.Uint32(payload) &^ (1 << 31))
		}
	}
	if cap(h.payload) > 16<<10 {
		h.payload = nil
	} else {
		h.payload = h.payload[:0]
	}
}

// headers takes a HEADERS or PUSH_PROMISE frame.
func (p *Parser) headers(d protocol.Direction, payload []byte, at origin) {
	h := &p.half[d]
	h.block, h.inBlock = h.block[:0], true
	h.blockID, h.blockFlags, h.blockFirst, h.blockBroken = h.id, h.flags, h.first, h.partial
	if h.kind == framePush {
		h.blockID = 0 // the promised request is of no interest, but its fields may be inserted
		h.blockFlags &^= flagPriority
	}
	padding, skip := 0, 0
	if h.flags&flagPadded != 0 && len(payload) > 0 {
		padding, skip = int(payload[0]), 1
	}
	if h.kind == framePush {
		skip += 4
	} else if h.flags&flagPriority != 0 {
		skip += 5
	}
	if skip+padding > len(payload) {
		h.blockBroken = true
		payload = nil
	} else {
		payload = payload[skip : len(payload)-padding]
	}
	if h.flags&flagEndHeaders != 0 {
		h.inBlock = false
		p.headerBlock(d, payload, at)
		return
	}
	h.block = append(h.block, payload...)
}

// appendBlock takes a CONTINUATION frame.
func (p *Parser) appendBlock(d protocol.Direction, payload []byte, at origin) {
	h := &p.half[d]
	if h.partial || len(h.block)+len(payload) > maxBlock {
		h.blockBroken = true
	} else {
		h.block = append(h.block, payload...)
	}
	if h.flags&flagEndHeaders == 0 {
		return
	}
	h.inBlock = false
	p.headerBlock(d, h.block, at)
	if cap(h.block) > 16<<10 {
		h.block = nil
	}
}
