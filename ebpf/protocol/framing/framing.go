// Package framing cuts one direction of a connection into messages that carry
// their own length, though of each read or write only the beginning and the end
// were copied.
//
//	Piece: Data | Missed bytes | Tail  ─► Reader ─► Message: its first bytes, its size, where it began
//
// A length field leads over bytes that were not copied. Where a message's header
// itself was not copied the place is lost: Reader says so, and its owner decides
// at which later piece a message surely begins again.
//
// Invariants: a message is told once, when its last byte has passed; the memory
// of a Reader is Limits.Keep bytes, allocated when a message is first split.
package framing

import "github.com/vedette-io/vedette/ebpf/protocol"

// Limits says how a Reader cuts and what it keeps.
type Limits struct {
	// Header is how many bytes Size needs.
	Header int
	// Keep is how many bytes of a message are kept, the header among them.
	Keep int
	// Size gives a message's whole length from its first Header bytes; less than
	// Header: this is no header, the place is lost.
	Size func(header []byte) int64
}

// Origin is where and when a message began.
type Origin struct {
	Seq                 uint32
	ReadyNanos, AtNanos int64
}

// StartNanos is when it began for the side: on a server when it arrived, else
// when it was written.
func (o Origin) StartNanos(server bool) int64 {
	if server && o.ReadyNanos != 0 {
		return o.ReadyNanos
	}
	return o.AtNanos
}

// At gives the origin of the byte at an offset of a piece.
func At(p *protocol.Piece, offset int) Origin {
	return Origin{Seq: p.Seq + uint32(offset), ReadyNanos: p.ReadyNanos, AtNanos: p.AtNanos}
}

// Message is one message. Its bytes are valid until the handler returns.
type Message struct {
	Head []byte // the first bytes, header included, as far as copied and kept
	Size int64  // the whole length
	Origin
}

// Reader cuts one direction. The zero value begins at a message's first byte.
type Reader struct {
	buf    []byte // the beginning of a message that came in several pieces
	broken bool   // bytes of the message were missed: buf takes no more
	size   int64  // of the message; 0: its header is not complete
	seen   int64
	origin Origin
	lost   bool
	told   Message // what handle is given
}

// Lost says whether the place is lost.
func (r *Reader) Lost() bool { return r.lost }

// Lose gives the place up.
func (r *Reader) Lose() {
	r.reset()
	r.lost = true
}

// Resume says that the next byte begins a message.
func (r *Reader) Resume() {
	r.reset()
	r.lost = false
}

// Inside says whether a message has begun and not ended.
func (r *Reader) Inside() bool { return r.seen > 0 }

func (r *Reader) reset() {
	r.buf, r.broken, r.size, r.seen = r.buf[:0], false, 0, 0
}

// Take cuts a piece and hands over each message that ends in it. It gives false
// if the place was lost within this piece or before; what follows is not looked
// at. handle may call Lose, or Resume to begin a message with the next byte.
func (r *Reader) Take(p *protocol.Piece, l *Limits, handle func(m *Message)) bool {
	if r.lost {
		return false
	}
	r.bytes(p, p.Data, 0, l, handle)
	r.gap(p.Missed, l, handle)
	if len(p.Tail) > 0 && !r.lost {
		r.bytes(p, p.Tail, len(p.Data)+p.Missed, l, handle)
	}
	return !r.lost
}

// bytes cuts b, which is at an offset of p.
func (r *Reader) bytes(p *protocol.Piece, b []byte, offset int, l *Limits, handle func(m *Message)) {
	for len(b) > 0 && !r.lost {
		if r.seen == 0 {
			r.origin = At(p, offset)
		}
		if r.size == 0 {
			if !r.header(b, l) {
				return
			}
			if r.lost {
				return
			}
		}
		n := min(int64(len(b)), r.size-r.seen)
		var head []byte
		if r.seen == 0 && n == r.size { // whole in b
			head = b[:min(int(n), l.Keep)]
		} else {
			r.keep(b[:n], l)
			head = r.buf
		}
		r.seen += n
		b, offset = b[n:], offset+int(n)
		if r.seen == r.size {
			r.end(head, handle)
		}
	}
}

// header reads the length if the header is complete with b; else it keeps b.
func (r *Reader) header(b []byte, l *Limits) bool {
	h := b
	if len(r.buf) > 0 {
		if len(r.buf) < l.Header {
			// The rest of the header goes to buf, once, in bytes below: here it is
			// only looked at.
			var whole [16]byte
			n := copy(whole[:], r.buf)
			n += copy(whole[n:l.Header], b)
			h = whole[:n]
		} else {
			h = r.buf
		}
	}
	if len(h) < l.Header {
		r.keep(b, l)
		r.seen += int64(len(b))
		return false
	}
	r.size = l.Size(h[:l.Header])
	if r.size < int64(l.Header) {
		r.Lose()
	}
	return true
}

// keep adds to the kept beginning of a message that is split.
func (r *Reader) keep(b []byte, l *Limits) {
	if r.broken || len(r.buf) >= l.Keep {
		return
	}
	if r.buf == nil {
		r.buf = make([]byte, 0, l.Keep)
	}
	r.buf = append(r.buf, b[:min(len(b), l.Keep-len(r.buf))]...)
}

// gap passes n bytes that were not copied.
func (r *Reader) gap(n int, l *Limits, handle func(m *Message)) {
	if n <= 0 || r.lost {
		return
	}
	if r.size == 0 || int64(n) > r.size-r.seen {
		if r.size != 0 {
			r.end(r.buf, handle)
		}
		r.Lose()
		return
	}
	r.broken = true
	r.seen += int64(n)
	if r.seen == r.size {
		r.end(r.buf, handle)
	}
}

func (r *Reader) end(head []byte, handle func(m *Message)) {
	r.told = Message{Head: head, Size: r.size, Origin: r.origin}
	r.reset()
	handle(&r.told)
}
