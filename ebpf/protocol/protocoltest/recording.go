// Package protocoltest records connections to real servers, plays them to
// parsers, and starts the servers, for tests.
//
//	client ─► Tap ─► server
//	           └──► Recording ─► testdata ─► Play ─► Parser ─► requests
package protocoltest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/protocol"
)

// Chunk is what one read took off a connection.
type Chunk struct {
	FromClient bool
	Data       []byte
}

// Recording is one connection, as something between the ends saw it.
type Recording []Chunk

// Load reads a recording: a line for each chunk, > from the client, < from the
// server, then the bytes as a Go string. Lines that begin with # say how it was
// made.
func Load(t testing.TB, path string) Recording {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	var r Recording
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		direction, text, ok := strings.Cut(lines.Text(), " ")
		if !ok || direction == "#" {
			continue
		}
		data, err := strconv.Unquote(text)
		require.NoError(t, err, path)
		r = append(r, Chunk{FromClient: direction == ">", Data: []byte(data)})
	}
	require.NoError(t, lines.Err())
	return r
}

// Save writes a recording with a note how it was made.
func (r Recording) Save(t testing.TB, path, note string) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n", note)
	for _, c := range r {
		direction := "<"
		if c.FromClient {
			direction = ">"
		}
		fmt.Fprintf(&b, "%s %s\n", direction, strconv.QuoteToASCII(string(c.Data)))
	}
	require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o644))
}

// Tap listens, and passes each connection on to a server. recorded gives the
// connections that have ended, in the order they began; it waits for all.
func Tap(t testing.TB, server string) (addr string, recorded func() []Recording) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var (
		mu  sync.Mutex
		all []*Recording
		wg  sync.WaitGroup
	)
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", server)
			if err != nil {
				c.Close()
				continue
			}
			r := new(Recording)
			mu.Lock()
			all = append(all, r)
			mu.Unlock()
			pass := func(from, to net.Conn, fromClient bool) {
				defer wg.Done()
				defer to.Close()
				buf := make([]byte, 64<<10)
				for {
					n, err := from.Read(buf)
					if n > 0 {
						mu.Lock()
						*r = append(*r, Chunk{FromClient: fromClient, Data: append([]byte(nil), buf[:n]...)})
						mu.Unlock()
						if _, err := to.Write(buf[:n]); err != nil {
							return
						}
					}
					if err != nil {
						return
					}
				}
			}
			wg.Add(2)
			go pass(c, s, true)
			go pass(s, c, false)
		}
	}()
	return l.Addr().String(), func() (done []Recording) {
		l.Close()
		wg.Wait()
		for _, r := range all {
			done = append(done, *r)
		}
		return done
	}
}

// View says how a connection is seen.
type View struct {
	// Server sees it at the server's end.
	Server bool
	// Head is how many bytes of each piece are copied; 0: all. Of longer ones the
	// last Tail are, too.
	Head, Tail int
	// Split cuts chunks but the first, by which sides are told, into pieces of this
	// size; 0: it does not.
	Split int
	// Skip leaves out chunks at the beginning.
	Skip int
	// Lose leaves out each chunk of this place, from 1; 0: none.
	Lose int
}

// Play gives a recording to a parser and returns the requests it finds. Each
// piece comes a millisecond after the one before.
func Play(p protocol.Parser, r Recording, v View) []protocol.Request {
	var found []protocol.Request
	done := func(q *protocol.Request) {
		c := *q
		c.Operation, c.Target = strings.Clone(q.Operation), strings.Clone(q.Target)
		c.Summary, c.Status = strings.Clone(q.Summary), strings.Clone(q.Status)
		found = append(found, c)
	}
	var seq [2]uint32
	var nanos int64
	for i, c := range r[min(v.Skip, len(r)):] {
		d := protocol.Sent
		if c.FromClient == v.Server {
			d = protocol.Received
		}
		for data := c.Data; len(data) > 0; {
			part := data
			if v.Split > 0 && i > 0 {
				part = data[:min(v.Split, len(data))]
			}
			data = data[len(part):]
			nanos += 1e6
			piece := protocol.Piece{Direction: d, Data: part, Seq: seq[d], ReadyNanos: nanos - 1e5, AtNanos: nanos}
			seq[d] += uint32(len(part))
			if v.Head > 0 && len(part) > v.Head {
				tail := min(v.Tail, len(part)-v.Head)
				piece.Data, piece.Missed, piece.Tail = part[:v.Head], len(part)-v.Head-tail, part[len(part)-tail:]
			}
			if v.Lose == i+1 {
				piece.Data, piece.Missed, piece.Tail = nil, len(part), nil
			}
			p.Take(&piece, done)
		}
	}
	p.Close(nanos+1e6, done)
	return found
}

// Brief gives what the requests did: operation, status, and ! for one that
// failed.
func Brief(found []protocol.Request) []string {
	var brief []string
	for _, q := range found {
		s := q.Operation
		if q.Failed {
			s += " !" + q.Status
		}
		brief = append(brief, s)
	}
	return brief
}
