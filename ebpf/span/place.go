package span

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/internal/signal"
)

// place is where a request was seen, the same for both ends of its connection.
type place struct {
	client, server netip.AddrPort
	seq            uint32
	netns          uint32 // of addresses that do not leave a host; else 0
	alone          uint64 // tells the connection where its other end cannot be told; else 0
}

func placeOf(c *feature.Call) place {
	local := netip.AddrPortFrom(c.Local.Addr().Unmap(), c.Local.Port())
	peer := netip.AddrPortFrom(c.Peer.Addr().Unmap(), c.Peer.Port())
	p := place{client: local, server: peer, seq: c.Seq, alone: c.Conn}
	if c.Server {
		p.client, p.server = peer, local
	}
	if p.stays() {
		p.netns = c.NetNS
	}
	return p
}

// stays reports whether the connection cannot leave its network namespace, or its
// other end cannot be told.
func (p place) stays() bool {
	return p.alone != 0 || p.client.Addr().IsLoopback() || p.server.Addr().IsLoopback() || p.client.Addr() == p.server.Addr()
}

// ids of the trace that a request without a traceparent is, and of the spans of
// its two ends.
type ids struct {
	trace          signal.TraceID
	client, server signal.SpanID
}

// ids hashes the place. salt tells places on different hosts apart that have the
// same addresses; it is not used where the other host must find the same ids.
func (p place) ids(salt string) ids {
	b := make([]byte, 0, 128)
	for _, end := range []netip.AddrPort{p.client, p.server} {
		a := end.Addr().As16()
		b = append(b, a[:]...)
		b = binary.BigEndian.AppendUint16(b, end.Port())
	}
	b = binary.BigEndian.AppendUint32(b, p.seq)
	if p.stays() {
		b = binary.BigEndian.AppendUint32(b, p.netns)
		b = binary.BigEndian.AppendUint64(b, p.alone)
		b = append(b, salt...)
	}
	sum := sha256.Sum256(b)
	var i ids
	copy(i.trace[:], sum[:16])
	copy(i.client[:], sum[16:24])
	copy(i.server[:], sum[24:])
	return i
}
