package protocoltest

import (
	"testing"

	"github.com/vedette-io/vedette/ebpf/protocol"
)

// Bench plays a recording from a chunk on, over and over, and reports the time of
// a request.
func Bench(b *testing.B, p protocol.Parser, r Recording, from int) {
	requests := 0
	done := func(*protocol.Request) { requests++ }
	piece := new(protocol.Piece)
	nanos := int64(0)
	play := func(chunks Recording) {
		for _, c := range chunks {
			nanos += 1000
			*piece = protocol.Piece{Data: c.Data, ReadyNanos: nanos, AtNanos: nanos}
			if !c.FromClient {
				piece.Direction = protocol.Sent
			}
			p.Take(piece, done)
		}
	}
	play(r)
	requests = 0
	b.ReportAllocs()
	for b.Loop() {
		play(r[from:])
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(requests), "ns/request")
}
