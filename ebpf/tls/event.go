package tls

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"unsafe"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/identity"
	"github.com/vedette-io/vedette/ebpf/protocol"
	"github.com/vedette-io/vedette/ebpf/stream"
)

const headerSize = int(unsafe.Sizeof(bpf.TlsTlsEvent{}))

// event is what a program has told. Its bytes are those of the record.
type event struct {
	kind  bpf.TlsTlsKind
	conn  stream.Conn
	piece protocol.Piece

	// Where the piece is in what the connection carried in its direction, if that
	// is known.
	offset uint32
	placed bool
	thread []byte // its name
}

// decode reads struct tls_event of tls.h.
func (e *event) decode(b []byte) bool {
	if len(b) < headerSize {
		return false
	}
	order := binary.NativeEndian
	word := func(at uintptr) uint64 { return order.Uint64(b[at:]) }
	half := func(at uintptr) uint32 { return order.Uint32(b[at:]) }
	var h bpf.TlsTlsEvent
	length := int(half(unsafe.Offsetof(h.Length)))
	head, tail := int(order.Uint16(b[unsafe.Offsetof(h.Head):])), int(order.Uint16(b[unsafe.Offsetof(h.Tail):]))
	e.kind = bpf.TlsTlsKind(b[unsafe.Offsetof(h.Kind)])
	e.offset, e.placed = half(unsafe.Offsetof(h.Offset)), b[unsafe.Offsetof(h.Placed)] != 0
	e.thread, _, _ = bytes.Cut(b[unsafe.Offsetof(h.Comm):][:len(h.Comm)], []byte{0})
	e.conn = stream.Conn{
		ID: word(unsafe.Offsetof(h.Conn)), TLS: true, NetNS: half(unsafe.Offsetof(h.Netns)), Unplaced: b[unsafe.Offsetof(h.Anchored)] == 0,
		Process: identity.Key{PID: half(unsafe.Offsetof(h.Tgid)), StartNanos: word(unsafe.Offsetof(h.ProcessStart))},
	}
	if e.conn.NetNS != 0 {
		e.conn.Local = netip.AddrPortFrom(address(b[unsafe.Offsetof(h.Local):]), order.Uint16(b[unsafe.Offsetof(h.LocalPort):]))
		e.conn.Peer = netip.AddrPortFrom(address(b[unsafe.Offsetof(h.Peer):]), order.Uint16(b[unsafe.Offsetof(h.PeerPort):]))
	}
	e.piece = protocol.Piece{
		AtNanos: int64(word(unsafe.Offsetof(h.AtNs))), ReadyNanos: int64(word(unsafe.Offsetof(h.ReadyNs))),
		Seq: half(unsafe.Offsetof(h.Seq)), Acked: half(unsafe.Offsetof(h.Acked)),
	}
	switch e.kind {
	case bpf.TlsTlsKindTLS_CLOSE, bpf.TlsTlsKindTLS_EXEC, bpf.TlsTlsKindTLS_MEMORY:
		return true
	case bpf.TlsTlsKindTLS_SENT:
		e.piece.Direction = protocol.Sent
	case bpf.TlsTlsKindTLS_RECEIVED:
	default:
		return false
	}
	data := b[headerSize:]
	if head+tail > len(data) || head+tail > length {
		return false
	}
	e.piece.Data, e.piece.Tail, e.piece.Missed = data[:head], data[head:head+tail], length-head-tail
	return true
}

func address(b []byte) netip.Addr {
	return feature.AddrOf([4]uint32{
		binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint32(b[4:]), binary.NativeEndian.Uint32(b[8:]), binary.NativeEndian.Uint32(b[12:]),
	})
}
