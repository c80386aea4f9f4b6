package framing

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/protocol"
)

// limits are those of messages that begin with a letter and their whole length.
func limits() *Limits {
	return &Limits{Header: 3, Keep: 8, Size: func(h []byte) int64 {
		if h[0] < 'a' || h[0] > 'z' {
			return 0
		}
		return int64(binary.BigEndian.Uint16(h[1:]))
	}}
}

func message(c byte, size int) []byte {
	b := make([]byte, size)
	b[0], b[1], b[2] = c, byte(size>>8), byte(size)
	for i := 3; i < size; i++ {
		b[i] = '0' + byte(i%10)
	}
	return b
}

func TestReader(t *testing.T) {
	three := append(append(message('a', 5), message('b', 20)...), message('c', 4)...)
	whole := "a 5 a\x00\x0534@0 b 20 b\x00\x1434567@5 c 4 c\x00\x043@25 "
	for _, tc := range []struct {
		name   string
		pieces []protocol.Piece
		want   string
		lost   bool
	}{
		{"one piece", []protocol.Piece{{Data: three}}, whole, false},
		{"a gap within a message", []protocol.Piece{{Data: three[:15], Missed: 5, Tail: three[20:]}}, whole, false},
		{"a gap up to a message's end", []protocol.Piece{{Data: three[:15], Missed: 10, Tail: three[25:]}}, whole, false},
		{"a gap over a header", []protocol.Piece{{Data: three[:15], Missed: 12, Tail: three[27:]}}, "a 5 a\x00\x0534@0 b 20 b\x00\x1434567@5 ", true},
		{"a gap between messages", []protocol.Piece{{Data: three[:5], Missed: 20, Tail: three[25:]}}, "a 5 a\x00\x0534@0 ", true},
		{"no header", []protocol.Piece{{Data: append(message('a', 4), "???"...)}}, "a 4 a\x00\x043@0 ", true},
		{"too short a length", []protocol.Piece{{Data: []byte{'a', 0, 2}}}, "", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := ""
			var r Reader
			for i := range tc.pieces {
				ok := r.Take(&tc.pieces[i], limits(), func(m *Message) { got += fmt.Sprintf("%c %d %s@%d ", m.Head[0], m.Size, m.Head, m.Seq) })
				require.Equal(t, !r.Lost(), ok)
			}
			require.Equal(t, tc.want, got)
			require.Equal(t, tc.lost, r.Lost())
			r.Resume()
			require.True(t, r.Take(&protocol.Piece{Data: message('d', 3)}, limits(), func(m *Message) { got = string(m.Head[:1]) }))
			require.Equal(t, "d", got)
		})
	}
	// Split anywhere, the messages are the same.
	for n := 1; n < len(three); n++ {
		got := ""
		var r Reader
		for at := 0; at < len(three); at += n {
			p := protocol.Piece{Data: three[at:min(at+n, len(three))], Seq: uint32(at)}
			r.Take(&p, limits(), func(m *Message) { got += fmt.Sprintf("%c %d %s@%d ", m.Head[0], m.Size, m.Head, m.Seq) })
		}
		require.Equal(t, whole, got, "in pieces of %d", n)
	}
}

func TestOrigin(t *testing.T) {
	o := At(&protocol.Piece{Seq: 0xffffffff, ReadyNanos: 5, AtNanos: 9}, 2)
	require.Equal(t, uint32(1), o.Seq)
	require.Equal(t, int64(5), o.StartNanos(true))
	require.Equal(t, int64(9), o.StartNanos(false))
}

func TestQueue(t *testing.T) {
	var q Queue[int]
	require.Nil(t, q.First())
	require.Nil(t, q.Last())
	next, first := 0, 0
	for round := range 50 {
		for range round % 7 {
			if v := q.Push(5); v != nil {
				*v = next
				next++
			} else {
				require.Equal(t, 5, q.Len())
			}
		}
		for range round % 3 {
			if v := q.First(); v != nil {
				require.Equal(t, first, *v)
				q.Pop()
				first++
			}
		}
		require.Equal(t, next-first, q.Len())
		if q.Len() > 0 {
			require.Equal(t, next-1, *q.Last())
		}
	}
	*q.Push(6) = 99
	q.Drop()
	require.NotEqual(t, 99, *q.Last())
	q.Clear()
	require.Zero(t, q.Len())
}

func FuzzReader(f *testing.F) {
	f.Add(append(message('a', 5), message('b', 20)...), 3, 2)
	f.Fuzz(func(t *testing.T, b []byte, head, missed int) {
		if head < 0 || head > len(b) || missed < 0 || missed > 1<<20 {
			return
		}
		var r Reader
		l := limits()
		r.Take(&protocol.Piece{Data: b[:head], Missed: missed, Tail: b[head:]}, l, func(m *Message) {
			if len(m.Head) < l.Header || len(m.Head) > l.Keep || m.Size < int64(len(m.Head)) {
				t.Fatalf("message %+v", m)
			}
		})
	})
}
