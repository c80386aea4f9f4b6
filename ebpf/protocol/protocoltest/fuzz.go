package protocoltest

import (
	"encoding/binary"
	"path/filepath"
	"testing"

	"github.com/vedette-io/vedette/ebpf/protocol"
)

// Seed adds the recordings in testdata to a fuzz target of Hostile.
func Seed(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		var b []byte
		for _, c := range Load(f, path) {
			data := c.Data[:min(len(c.Data), 256)]
			if len(b) > 4096 {
				break
			}
			var flags byte
			if c.FromClient {
				flags = 1
			}
			b = append(b, flags, 0)
			b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
			b = append(b, data...)
		}
		f.Add(b)
	}
}

// Hostile gives a parser pieces made of any bytes, and checks what holds for
// every parser: requests are of a bounded kind, and each ends after it began.
func Hostile(t *testing.T, p protocol.Parser, b []byte) {
	var nanos int64
	var seq [2]uint32
	lost := 0
	done := func(q *protocol.Request) {
		if q.Operation == "" || len(q.Summary) > 256 || q.EndNanos < q.StartNanos || q.StartNanos <= 0 {
			t.Fatalf("request %+v at %d", *q, nanos)
		}
		if q.RequestBytes < 0 || q.ResponseBytes < 0 || q.Failed && len(q.Status) > 64 {
			t.Fatalf("request %+v", *q)
		}
	}
	for len(b) >= 4 {
		flags, missed := b[0], int(b[1])
		n := min(int(binary.BigEndian.Uint16(b[2:])), len(b)-4)
		data := b[4 : 4+n]
		b = b[4+n:]
		d := protocol.Direction(flags & 1)
		nanos += 1000
		piece := protocol.Piece{Direction: d, Data: data, Seq: seq[d], ReadyNanos: nanos - 500, AtNanos: nanos}
		if missed > 0 {
			head := min(n, int(flags>>1)*4)
			piece.Data, piece.Tail, piece.Missed = data[:head], data[head:], missed*int(1+flags>>4)
		}
		seq[d] += uint32(piece.Len())
		p.Take(&piece, done)
		if p.Lost() < lost {
			t.Fatalf("lost %d, then %d", lost, p.Lost())
		}
		lost = p.Lost()
	}
	p.Close(nanos+1, done)
}

// Allocs gives the allocations of a recording's second half onwards, played over
// and over: what follows from Skip chunks must be such that it can repeat.
func Allocs(p protocol.Parser, r Recording, from int) float64 {
	done := func(*protocol.Request) {}
	nanos := int64(0)
	piece := new(protocol.Piece)
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
	play(r[from:])
	return testing.AllocsPerRun(100, func() { play(r[from:]) })
}
