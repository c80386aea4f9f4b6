package stream

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
	"github.com/vedette-io/vedette/ebpf/protocol"
	"github.com/vedette-io/vedette/ebpf/protocol/protocoltest"
)

// client is a connection made by hand, as its client sees it.
type client struct {
	table *Table
	kind  protocol.Kind
	conn  Conn
	seq   [2]uint32
	acked uint32
	nanos int64
}

func newClient(t *testing.T, kind protocol.Kind, seq uint32) (*client, *prometheus.Registry) {
	table, reg := newTable(t, TableOptions{}, nil)
	return &client{table: table, kind: kind, seq: [2]uint32{seq, seq}, conn: Conn{
		ID: 1, Process: self(t),
		Local: netip.MustParseAddrPort("10.0.0.1:5000"), Peer: netip.MustParseAddrPort("10.0.0.2:80"),
	}}, reg
}

// write is a write whose piece is told when tell is called.
func (c *client) write(s string) (tell func()) {
	p := protocol.Piece{Direction: protocol.Sent, Data: []byte(s), Seq: c.seq[protocol.Sent]}
	c.seq[protocol.Sent] += uint32(len(s))
	c.acked = c.seq[protocol.Sent]
	return func() {
		c.nanos += 1e6
		p.ReadyNanos, p.AtNanos = c.nanos, c.nanos
		c.table.Take(c.conn, c.kind, &p)
	}
}

// read is a read that is told at once.
func (c *client) read(s string) {
	c.nanos += 1e6
	p := protocol.Piece{Data: []byte(s), Seq: c.seq[0], Acked: c.acked, ReadyNanos: c.nanos, AtNanos: c.nanos}
	c.seq[0] += uint32(len(s))
	c.table.Take(c.conn, c.kind, &p)
}

func kafkaRequest(api, id byte) string {
	return string([]byte{0, 0, 0, 14, 0, api, 0, 0, 0, 0, 0, id, 0, 4}) + "test"
}

// dialogues are two requests, of which the second fails, and what they count as.
var dialogues = map[protocol.Kind]struct {
	metric, operation, status string
	said                      [4]string
	want                      counts
}{
	protocol.Redis: {"db_client_operation", "db_operation_name", "db_response_status_code", [4]string{
		"*2\r\n$3\r\nGET\r\n$1\r\na\r\n", "$1\r\nx\r\n", "*2\r\n$4\r\nLPOP\r\n$1\r\na\r\n", "-WRONGTYPE no\r\n",
	}, counts{"GET ": 10, "LPOP WRONGTYPE": 10}},
	protocol.PostgreSQL: {"db_client_operation", "db_operation_name", "db_response_status_code", [4]string{
		"Q\x00\x00\x00\x0dselect 1\x00", "C\x00\x00\x00\x0dSELECT 1\x00Z\x00\x00\x00\x05I",
		"Q\x00\x00\x00\x0ddelete x\x00", "E\x00\x00\x00\x13SERROR\x00C42P01\x00\x00Z\x00\x00\x00\x05I",
	}, counts{"SELECT ": 10, "DELETE 42P01": 10}},
	protocol.MySQL: {"db_client_operation", "db_operation_name", "db_response_status_code", [4]string{
		"\x09\x00\x00\x00\x03update x", "\x07\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00",
		"\x09\x00\x00\x00\x03delete x", "\x0b\x00\x00\x01\xff\x7a\x04#42S02no",
	}, counts{"UPDATE ": 10, "DELETE 1146": 10}},
	protocol.Kafka: {"messaging_client_operation", "messaging_operation_name", "error_type", [4]string{
		kafkaRequest(18, 1), "\x00\x00\x00\x0a\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00", kafkaRequest(12, 2), "\x00\x00\x00\x06\x00\x00\x00\x02\x00\x1b",
	}, counts{"ApiVersions ": 10, "Heartbeat REBALANCE_IN_PROGRESS": 10}},
}

// A thread that reads may be faster than the one that wrote: what it reads is
// told before what it answers.
func TestAnswerToldBeforeItsRequest(t *testing.T) {
	for kind, d := range dialogues {
		for _, seq := range []uint32{1000, 0xffffff00} {
			t.Run(fmt.Sprint(kind, " from ", seq), func(t *testing.T) {
				c, reg := newClient(t, kind, seq)
				for i := range 10 {
					for j := 0; j < 4; j += 2 {
						tell := c.write(d.said[j])
						if i%2 == 1 {
							c.read(d.said[j+1])
							tell()
						} else {
							tell()
							c.read(d.said[j+1])
						}
					}
				}
				require.Equal(t, d.want, countsOf(t, reg, d.metric+"_duration_seconds", "80", d.operation, d.status))
				require.Empty(t, c.table.held)
				require.Zero(t, c.table.heldAll)
				for _, reason := range []string{"gap", "order", "framing"} {
					require.Zero(t, lostFor(t, reg, reason), reason)
				}
			})
		}
	}
}

// What is held back for a write that is never told is handed on after a while,
// with the connection's end, or when there is too much of it.
func TestWriteThatIsNeverTold(t *testing.T) {
	d := dialogues[protocol.Redis]
	ask := func(c *client) {
		c.write(d.said[0])()
		c.read(d.said[1])
	}
	for name, end := range map[string]func(c *client){
		"time": func(c *client) {
			c.table.Release(c.nanos)
			require.Len(t, c.table.held, 1, "not yet")
			c.table.Release(c.nanos + 1)
		},
		"close": func(c *client) { c.table.Close(1, c.nanos) },
		"pieces": func(c *client) {
			for range maxHeld - 1 {
				c.read(d.said[1])
			}
			require.EqualValues(t, 1, c.table.conns[1].overdue)
		},
		"sweep": func(c *client) { c.table.dropLocked(c.table.conns[1], 0) },
	} {
		t.Run(name, func(t *testing.T) {
			c, reg := newClient(t, protocol.Redis, 1)
			ask(c)
			c.write(d.said[2])
			c.read(d.said[3])
			require.Len(t, c.table.held, 1)
			end(c)
			require.Empty(t, c.table.held)
			require.Zero(t, c.table.heldAll)
			require.Equal(t, counts{"GET ": 1}, countsOf(t, reg, "db_client_operation_duration_seconds", "80", "db_operation_name", "db_response_status_code"))
		})
	}
	t.Run("half closed", func(t *testing.T) {
		c, reg := newClient(t, protocol.Redis, 1)
		tell := c.write(d.said[0])
		c.acked++ // of the end
		tell()
		c.read(d.said[1])
		require.EqualValues(t, 1, countsOf(t, reg, "db_client_operation_duration_seconds", "80").sum())
	})
	t.Run("again and again", func(t *testing.T) {
		c, _ := newClient(t, protocol.Redis, 1)
		ask(c)
		for range maxOverdue {
			c.write(d.said[2])
			c.read(d.said[3])
			c.table.Release(c.nanos + 1)
		}
		c.write(d.said[2])
		c.read(d.said[3])
		require.Empty(t, c.table.held, "its writes are not seen")
	})
}

// Pieces that are held back are bounded in all connections together, however small
// they are.
func TestMuchIsHeld(t *testing.T) {
	d := dialogues[protocol.Redis]
	c, _ := newClient(t, protocol.Redis, 1)
	for id := range uint64(2000) {
		c.conn.ID, c.seq = id+1, [2]uint32{1, 1}
		c.write(d.said[0])()
		c.write(d.said[0]) // never told
		for range 20 {
			c.read("+")
		}
		pieces := 0
		for c := range c.table.held {
			pieces += cap(c.held)
		}
		require.LessOrEqual(t, pieces*heldBytes/2, maxHeldBytes+maxHeld*heldBytes)
	}
	c.table.Release(c.nanos + 1)
	require.Empty(t, c.table.held)
	require.Zero(t, c.table.heldAll)
}

// A connection of which more may be read after its end is forgotten once.
func TestEndedConnectionsAreForgotten(t *testing.T) {
	d := dialogues[protocol.Redis]
	c, reg := newClient(t, protocol.Redis, 1)
	talk := func(id uint64) {
		c.conn.ID, c.seq = id, [2]uint32{1, 1}
		c.write(d.said[0])()
		c.read(d.said[1])
	}
	for round := range 20 {
		for id := range uint64(3) {
			talk(3*uint64(round) + id + 1)
		}
		ended, stays := 3*uint64(round)+2, 3*uint64(round)+3
		c.table.CloseLater(ended, c.nanos)
		if round%2 == 1 {
			c.table.Close(ended, c.nanos) // the other way to end comes first
		}
		c.table.Close(ended-1, c.nanos) // which was its neighbour
		c.table.Release(c.nanos + 1)
		c.table.Release(c.nanos + 1)
		require.Empty(t, c.table.ending)
		require.Len(t, c.table.conns, round+1)
		require.Contains(t, c.table.conns, stays)
	}
	inUse, memory := 0, 0
	for s := c.table.oldest.next; s != &c.table.oldest; s = s.next {
		inUse++
		memory += s.memory
	}
	require.Equal(t, len(c.table.conns), inUse)
	require.Equal(t, memory, c.table.memory)
	require.EqualValues(t, 60, countsOf(t, reg, "db_client_operation_duration_seconds", "80").sum())
}

// A header that is read by itself is looked at with what follows it, if that does.
func TestHeaderReadApart(t *testing.T) {
	const text = "\x09\x00\x00\x00\x03update x"
	for name, tc := range map[string]struct {
		skip      uint32
		direction protocol.Direction
		want      uint64
	}{
		"follows":           {0, protocol.Received, 1},
		"something missing": {1, protocol.Received, 0},
		"another direction": {0, protocol.Sent, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c, reg := newClient(t, protocol.Unknown, 1)
			c.conn.TLS = true
			take := func(d protocol.Direction, seq uint32, s string) {
				c.nanos++
				c.table.Take(c.conn, protocol.Unknown, &protocol.Piece{Direction: d, Data: []byte(s), Seq: seq, ReadyNanos: c.nanos, AtNanos: c.nanos})
			}
			take(protocol.Received, 1, text[:4])
			take(tc.direction, 5+tc.skip, text[4:])
			take(1-tc.direction, 1, "\x07\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00")
			require.Equal(t, tc.want, countsOf(t, reg, "db_server_operation_duration_seconds", "5000").sum())
		})
	}
}

// More than half of all sequence numbers may go unseen.
func TestWideGap(t *testing.T) {
	d := dialogues[protocol.PostgreSQL]
	c, reg := newClient(t, protocol.PostgreSQL, 1)
	c.write(d.said[0])()
	c.read(d.said[1][:8])
	c.seq[0] += 3 << 30
	c.read(d.said[1][:8])
	require.EqualValues(t, 1, lostFor(t, reg, "gap"))
	require.EqualValues(t, 1, lostFor(t, reg, "framing"))
}

// apart is the role apart: clients that write with one thread and read with
// another, which wait for each answer or for a few of them.
func apart() {
	said := "done"
	failed := make(chan error)
	for window := range apartClients {
		go func() { failed <- talkApart(os.Args[1], window+1) }()
	}
	for range apartClients {
		if err := <-failed; err != nil {
			said = err.Error()
		}
	}
	fmt.Println(said)
	io.Copy(io.Discard, os.Stdin)
}

const (
	apartClients  = 4
	apartRequests = 4000 // of each
)

func talkApart(addr string, window int) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	in := bufio.NewReader(c)
	if _, err := c.Write([]byte("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nx\r\n")); err != nil {
		return err
	}
	if _, err := in.ReadString('\n'); err != nil {
		return err
	}
	answered := make(chan error, window)
	for range window {
		answered <- nil
	}
	go func() {
		runtime.LockOSThread()
		for range apartRequests {
			line, err := in.ReadString('\n')
			if err == nil && !strings.HasPrefix(line, ":") && !strings.HasPrefix(line, "-WRONGTYPE") {
				err = fmt.Errorf("got %q", line)
			}
			answered <- err
		}
	}()
	runtime.LockOSThread()
	for i := range apartRequests {
		if err := <-answered; err != nil {
			return err
		}
		ask := "*2\r\n$6\r\nSTRLEN\r\n$1\r\na\r\n"
		if i%2 == 1 {
			ask = "*2\r\n$4\r\nLPOP\r\n$1\r\na\r\n"
		}
		if _, err := c.Write([]byte(ask)); err != nil {
			return err
		}
	}
	for range window {
		if err := <-answered; err != nil {
			return err
		}
	}
	return nil
}

// Each answer counts for its own request, though a thread reads it that did not
// write.
func TestThreadsThatReadAndWrite(t *testing.T) {
	addr := protocoltest.StartRedis(t)
	reg := start(t, nil)
	said, _ := featuretest.StartRole(t, "apart", addr)
	require.Equal(t, "done", said)
	const half = apartClients * apartRequests / 2
	dbCounts(t, reg, counts{"SET ": apartClients, "STRLEN ": half, "LPOP WRONGTYPE": half}, featuretest.PortOf(t, addr))
}

// endEarly is the role early: a client that says that it has no more to ask, and
// reads the answers when the server has closed.
func endEarly() {
	said := "done"
	for range earlyClients {
		if err := askAndEnd(os.Args[1]); err != nil {
			said = err.Error()
		}
	}
	fmt.Println(said)
	io.Copy(io.Discard, os.Stdin)
}

const earlyClients = 20

func askAndEnd(addr string) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	c := conn.(*net.TCPConn)
	if _, err := c.Write([]byte("*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$5\r\nBOGUS\r\n$1\r\na\r\n")); err != nil {
		return err
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var waited error
	if err := raw.Control(func(fd uintptr) {
		for {
			_, waited = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}, 10_000)
			if waited != unix.EINTR {
				return
			}
		}
	}); err != nil {
		return err
	}
	if waited != nil {
		return waited
	}
	answers, err := io.ReadAll(c)
	if err == nil && !strings.HasPrefix(string(answers), "$-1\r\n-ERR") {
		err = fmt.Errorf("got %q", answers)
	}
	return err
}

// What is read after a connection's end is an answer, too.
func TestAnswerReadAfterTheEnd(t *testing.T) {
	addr := protocoltest.StartRedis(t)
	f := New(roomy(), bounds())
	reg := featuretest.Start(t, f, nil)
	said, _ := featuretest.StartRole(t, "early", addr)
	require.Equal(t, "done", said)
	port := featuretest.PortOf(t, addr)
	dbCounts(t, reg, counts{"GET ": earlyClients, "OTHER ERR": earlyClients}, port)
	require.Eventually(t, func() bool {
		f.table.mu.Lock()
		defer f.table.mu.Unlock()
		for _, c := range f.table.conns {
			if c.Peer.String() == addr {
				return false
			}
		}
		return true
	}, time.Minute, 10*time.Millisecond, "forgotten after a while")
}
