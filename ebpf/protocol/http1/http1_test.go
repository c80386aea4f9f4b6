package http1

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/protocol"
)

// driver feeds a parser and keeps what it reports.
type driver struct {
	p    *Parser
	now  int64
	got  []string
	full []protocol.Request
}

func newDriver() *driver { return &driver{p: New()} }

func (d *driver) done(r *protocol.Request) {
	d.full = append(d.full, *r)
	side := "client"
	if r.Server {
		side = "server"
	}
	d.got = append(d.got, fmt.Sprintf("%s %s %s %s %d/%d", side, r.Operation, r.Target, r.Status, r.RequestBytes, r.ResponseBytes))
}

func (d *driver) take(direction protocol.Direction, b string) {
	d.now += 1000
	d.p.Take(&protocol.Piece{Direction: direction, Data: []byte(b), AtNanos: d.now, ReadyNanos: d.now - 500, Seq: uint32(d.now)}, d.done)
}

func (d *driver) gap(direction protocol.Direction, data string, missed int, tail string) {
	d.now += 1000
	d.p.Take(&protocol.Piece{Direction: direction, Data: []byte(data), Missed: missed, Tail: []byte(tail), AtNanos: d.now}, d.done)
}

const (
	in  = protocol.Received
	out = protocol.Sent
)

const get = "GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n"

func ok(n int) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", n, strings.Repeat("x", n))
}

func TestConversations(t *testing.T) {
	long := strings.Repeat("y", 5000)
	for _, tc := range []struct {
		name  string
		drive func(d *driver)
		want  []string
		lost  int
	}{
		{"keep-alive", func(d *driver) {
			for range 3 {
				d.take(in, get)
				d.take(out, ok(5))
			}
		}, []string{"server GET /a 200 0/5", "server GET /a 200 0/5", "server GET /a 200 0/5"}, 0},
		{"client", func(d *driver) {
			d.take(out, "POST / HTTP/1.1\r\ncontent-length:3\r\n\r\nabc")
			d.take(in, "HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n")
		}, []string{"client POST / 404 3/0"}, 0},
		{"pipelining", func(d *driver) {
			d.take(in, get+"HEAD /h HTTP/1.1\r\n\r\n"+get)
			d.take(out, ok(1)+"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"+ok(2))
		}, []string{"server GET /a 200 0/1", "server HEAD /h 200 0/0", "server GET /a 200 0/2"}, 0},
		{"deep pipelining", func(d *driver) {
			d.take(in, strings.Repeat(get, maxQueue+2))
			d.take(out, strings.Repeat(ok(0), maxQueue+2))
			d.got = d.got[maxQueue-1:]
		}, []string{"server GET /a 200 0/0", "server _OTHER  200 0/0", "server _OTHER  200 0/0"}, 2},
		{"chunks both ways", func(d *driver) {
			d.take(in, "PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n")
			d.take(out, "HTTP/1.1 201 Created\r\nTransfer-Encoding: gzip, chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n")
			d.take(in, get)
			d.take(out, ok(0))
		}, []string{"server PUT /c 201 13/4", "server GET /a 200 0/0"}, 0},
		{"interim and empty", func(d *driver) {
			d.take(in, "POST /p HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
			d.take(out, "HTTP/1.1 100 Continue\r\n\r\n")
			d.take(in, "ab")
			d.take(out, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
			d.take(in, get)
			d.take(out, "HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\n\r\n")
		}, []string{"server POST /p 204 2/0", "server GET /a 304 0/0"}, 0},
		{"until close", func(d *driver) {
			d.take(in, get)
			d.take(out, "HTTP/1.0 200 OK\r\n\r\nabc")
			d.take(out, "def")
			d.p.Close(d.now+99, d.done)
		}, []string{"server GET /a 200 0/6"}, 0},
		{"no answer", func(d *driver) {
			d.take(in, get)
			d.p.Close(d.now+99, d.done)
		}, []string{"server GET /a  0/0"}, 0},
		{"gap in bodies", func(d *driver) {
			d.gap(in, "POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\nabc", 900, strings.Repeat("z", 97))
			d.gap(out, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\nabc", 900, strings.Repeat("z", 97)+"\r\n0\r\n\r\n")
			d.take(in, get)
			d.take(out, ok(1))
		}, []string{"server POST / 200 1000/1000", "server GET /a 200 0/1"}, 0},
		{"gap over chunks", func(d *driver) {
			d.take(in, get)
			d.gap(out, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", 900, "z\r\n0\r\n\r\n")
			d.take(in, get)
			d.take(out, ok(1))
		}, []string{"server GET /a 200 0/911", "server GET /a 200 0/1"}, 0},
		{"gap in a request's head", func(d *driver) {
			d.gap(in, "GET /big HTTP/1.1\r\nCookie: abc", 9000, "xyz\r\nA: b\r\n\r\n")
			d.take(out, ok(1))
			d.take(in, get)
			d.take(out, ok(2))
		}, []string{"server GET /big 200 0/1", "server GET /a 200 0/2"}, 0},
		{"gap over a message's end", func(d *driver) {
			d.gap(in, "POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n", 50, "junk")
			d.take(out, ok(1))
			d.take(in, get)
			d.take(out, ok(2))
		}, []string{"server POST / 200 10/1", "server GET /a 200 0/2"}, 1},
		{"long lines", func(d *driver) {
			d.take(in, "GET /"+long+" HTTP/1.1\r\nCookie: "+long+"\r\n\r\n")
			d.take(out, "HTTP/1.1 200 OK\r\nX: "+long+"\r\nContent-Length: 0\r\n\r\n")
		}, []string{"server GET /" + long[:255] + " 200 0/0"}, 0},
		{"CONNECT", func(d *driver) {
			d.take(in, "CONNECT a:443 HTTP/1.1\r\n\r\n")
			d.take(out, "HTTP/1.1 200 Connection established\r\n\r\n")
			d.take(in, get)
		}, []string{"server CONNECT a:443 200 0/0"}, 0},
		{"upgrade", func(d *driver) {
			d.take(in, "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n")
			d.take(out, "HTTP/1.1 101 Switching Protocols\r\n\r\n"+get)
			d.take(in, get)
		}, []string{"server GET /ws 101 0/0"}, 0},
		{"older than the probe", func(d *driver) {
			d.take(out, ok(1))
			d.take(out, "rest of a body")
			d.take(in, get)
			d.take(out, ok(2))
		}, []string{"server GET /a 200 0/2"}, 1},
		{"response seen before its request", func(d *driver) {
			d.now = 10_000_000
			d.p.Take(&protocol.Piece{Direction: in, Data: []byte(ok(3)), AtNanos: d.now, ReadyNanos: d.now}, d.done)
			d.p.Take(&protocol.Piece{Direction: out, Data: []byte(get), AtNanos: d.now + 10, ReadyNanos: d.now - 10}, d.done)
			d.now += 1000
			d.take(out, get)
			d.take(in, ok(4))
		}, []string{"client GET /a 200 0/3", "client GET /a 200 0/4"}, 0},
		{"response of a request that was not seen", func(d *driver) {
			d.take(in, ok(3))
			d.take(out, get)
			d.take(in, ok(4))
		}, []string{"client GET /a 200 0/4"}, 1},
		{"early answer", func(d *driver) {
			d.take(in, "POST /e HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc")
			d.take(out, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
			d.take(in, "defghij")
			d.take(in, get)
			d.take(out, ok(1))
		}, []string{"server POST /e 413 3/0", "server GET /a 200 0/1"}, 0},
		{"absolute form", func(d *driver) {
			d.take(in, "GET http://x.y/z?q HTTP/1.1\r\n\r\n")
			d.take(out, ok(1))
		}, []string{"server GET /z 200 0/1"}, 0},
		{"not HTTP", func(d *driver) {
			for range 100 {
				d.take(in, "\x16\x03\x01 hello\nworld")
			}
		}, nil, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newDriver()
			tc.drive(d)
			require.Equal(t, tc.want, d.got)
			require.Equal(t, tc.lost, d.p.Lost())
		})
	}
}

func TestParticulars(t *testing.T) {
	d := newDriver()
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	d.take(in, "\r\nGET /1 HTTP/1.1\r\nTraceParent: "+parent+"\r\n\r\nGET /2 HTTP/1.1\r\n\r\n")
	d.take(out, ok(1)+"HTTP/1.1 500 Oops\r\nContent-Length: 1\r\n\r\n")
	d.take(out, "x")
	require.Len(t, d.full, 2)
	a, b := d.full[0], d.full[1]
	require.Equal(t, parent, a.Traceparent)
	require.Empty(t, b.Traceparent)
	require.False(t, a.Failed)
	require.True(t, b.Failed)
	require.EqualValues(t, 500, a.StartNanos)
	require.EqualValues(t, 2000, a.EndNanos)
	require.EqualValues(t, 3000, b.EndNanos)
	require.EqualValues(t, 1002, a.Seq)
	require.EqualValues(t, 1002+len("GET /1 HTTP/1.1\r\nTraceParent: "+parent+"\r\n\r\n"), b.Seq)
}

// Any split of the same bytes gives the same requests.
func TestSplits(t *testing.T) {
	request := "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + get
	response := ok(3) + "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
	want := []string{"server POST /a 200 3/3", "server GET /a 200 0/5"}
	for i := 1; i < len(request); i++ {
		d := newDriver()
		d.take(in, request[:i])
		d.take(in, request[i:])
		j := min(i, len(response)-1)
		d.take(out, response[:j])
		d.take(out, response[j:])
		require.Equal(t, want, d.got, i)
		d = newDriver()
		for k := 0; k < len(request); k += i {
			d.take(in, request[k:min(k+i, len(request))])
		}
		for k := 0; k < len(response); k += i {
			d.take(out, response[k:min(k+i, len(response))])
		}
		require.Equal(t, want, d.got, i)
		require.Zero(t, d.p.Lost())
	}
}

func FuzzTake(f *testing.F) {
	f.Add([]byte(get), []byte(ok(4)), uint16(3), uint16(0))
	f.Add([]byte("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), []byte("HTTP/1.1 200 OK\r\n\r\nabc"), uint16(50), uint16(20))
	f.Fuzz(func(t *testing.T, a, b []byte, n, missed uint16) {
		p := New()
		reported := 0
		done := func(r *protocol.Request) {
			reported++
			if r.EndNanos < r.StartNanos || len(r.Target) > maxTarget || len(r.Traceparent) > maxParent {
				t.Fatalf("%+v", r)
			}
		}
		step := int(n)%64 + 1
		now := int64(1)
		for i := 0; i < max(len(a), len(b)); i += step {
			for d, s := range [][]byte{a, b} {
				if i < len(s) {
					part := s[i:min(i+step, len(s))]
					p.Take(&protocol.Piece{Direction: protocol.Direction(d), Data: part[:len(part)/2], Missed: int(missed) % 50, Tail: part[len(part)/2:], AtNanos: now}, done)
					now += 10
				}
			}
		}
		if len(p.queue) > maxQueue || cap(p.half[0].line) > 2*maxLine {
			t.Fatal("unbounded")
		}
		p.Close(now, done)
		if reported > len(a)+len(b) {
			t.Fatal("more requests than bytes")
		}
	})
}
