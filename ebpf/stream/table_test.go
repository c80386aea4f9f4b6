package stream

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
	"github.com/vedette-io/vedette/ebpf/identity"
	"github.com/vedette-io/vedette/ebpf/protocol"
)

// all wants every call, and keeps them.
type all struct{ calls []feature.Call }

func (a *all) Wanted(string, uint32, netip.AddrPort, netip.AddrPort) bool { return true }

func (*all) Full() bool { return false }

func (a *all) Add(c *feature.Call) {
	k := *c
	k.Attributes = append([]string(nil), c.Attributes...)
	a.calls = append(a.calls, k)
}

// newTable returns a table and what it exports.
func newTable(t testing.TB, o TableOptions, edit func(*feature.Environment)) (*Table, *prometheus.Registry) {
	t.Helper()
	o.Name, o.Bounds = "stream", bounds()
	table := NewTable(o)
	env := &feature.Environment{
		MaxSeries: 4096, Proc: "/proc", Resolver: identity.New("/proc", nil), Peers: new(feature.Peers), Logger: slog.New(slog.DiscardHandler),
	}
	if edit != nil {
		edit(env)
	}
	table.Use(env)
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(table))
	return table, reg
}

// self is a process that lives.
func self(t testing.TB) identity.Key {
	t.Helper()
	return identity.Key{PID: uint32(os.Getpid()), StartNanos: startOf(t, os.Getpid())}
}

func startOf(t testing.TB, pid int) uint64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	require.NoError(t, err)
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	var ticks uint64
	_, err = fmt.Sscan(string(fields[19]), &ticks)
	require.NoError(t, err)
	return ticks * uint64(time.Second/100)
}

// talk is a connection of HTTP/2 made by hand, as its server sees it.
type talk struct {
	conn       Conn
	seq        [2]uint32
	id         uint32
	buf, block bytes.Buffer
	framer     *xhttp2.Framer
	enc        [2]*hpack.Encoder
	nanos      int64
	piece      protocol.Piece
}

func newTalk(id uint64, process identity.Key) *talk {
	k := &talk{conn: Conn{
		ID: id, Process: process, NetNS: 7,
		Local: netip.MustParseAddrPort("10.0.0.1:80"), Peer: netip.MustParseAddrPort("10.0.0.2:5000"),
	}, id: 1}
	k.framer = xhttp2.NewFramer(&k.buf, nil)
	for d := range k.enc {
		k.enc[d] = hpack.NewEncoder(&k.block)
	}
	k.buf.WriteString("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	return k
}

// say writes a header block as one piece.
func (k *talk) say(table *Table, d protocol.Direction, end bool, fields ...string) {
	k.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = k.enc[d].WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = k.framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: k.id, BlockFragment: k.block.Bytes(), EndStream: end, EndHeaders: true})
	k.take(table, d)
}

func (k *talk) take(table *Table, d protocol.Direction) {
	k.nanos += int64(time.Millisecond)
	k.piece = protocol.Piece{Direction: d, Data: k.buf.Bytes(), Seq: k.seq[d], ReadyNanos: k.nanos, AtNanos: k.nanos}
	k.seq[d] += uint32(k.buf.Len())
	table.Take(k.conn, protocol.HTTP2, &k.piece)
	k.buf.Reset()
}

// request is a request and its response.
func (k *talk) request(table *Table, path, status string) {
	k.say(table, protocol.Received, true, ":method", "GET", ":path", path, "traceparent", "00-x")
	k.say(table, protocol.Sent, true, ":status", status)
	k.id += 2
}

func (k *talk) call(table *Table, path, status string) {
	k.say(table, protocol.Received, true, ":method", "POST", ":path", path, "content-type", "application/grpc")
	k.say(table, protocol.Sent, false, ":status", "200", "content-type", "application/grpc")
	k.say(table, protocol.Sent, true, "grpc-status", status)
	k.id += 2
}

func lostFor(t testing.TB, reg *prometheus.Registry, reason string) float64 {
	t.Helper()
	m := featuretest.Family(t, reg, "vedette_ebpf_stream_lost_total", map[string]string{"reason": reason})
	require.Len(t, m, 1)
	return m[0].Counter.GetValue()
}

func TestTableMetricsAndCalls(t *testing.T) {
	wanted := new(all)
	table, reg := newTable(t, TableOptions{}, func(env *feature.Environment) { env.Calls = wanted })
	k := newTalk(1, self(t))
	k.request(table, "/a?secret", "200")
	k.request(table, "/b", "500")
	k.call(table, "/pkg.Svc/Do", "0")
	k.call(table, "/pkg.Svc/Do", "13")
	require.Equal(t, counts{"GET 200 2 http ": 1, "GET 500 2 http ": 1}, countsOf(t, reg, "http_server_request_duration_seconds", "80",
		"http_request_method", "http_response_status_code", "network_protocol_version", "url_scheme", "server_address"))
	require.Equal(t, counts{"grpc pkg.Svc/Do OK": 1, "grpc pkg.Svc/Do INTERNAL": 1}, countsOf(t, reg, "rpc_server_call_duration_seconds", "80",
		"rpc_system_name", "rpc_method", "rpc_response_status_code"))
	require.Len(t, wanted.calls, 4)
	first := wanted.calls[0]
	require.Equal(t, "GET /a", first.Name)
	require.Equal(t, []string{
		"http.request.method", "GET", "http.response.status_code", "200", "url.path", "/a", "network.protocol.version", "2",
		"url.scheme", "http", "server.address", "10.0.0.1", "server.port", "80",
	}, first.Attributes)
	require.EqualValues(t, 24, first.Seq, "the request begins after the preface")
	require.EqualValues(t, 7, first.NetNS)
	require.EqualValues(t, time.Millisecond, first.EndNanos-first.StartNanos)
	require.True(t, first.Server)
	require.False(t, first.Failed)
	require.True(t, wanted.calls[1].Failed)
	require.Equal(t, "pkg.Svc/Do", wanted.calls[3].Name)
	require.Contains(t, wanted.calls[3].Attributes, "rpc.response.status_code")
	require.True(t, wanted.calls[3].Failed)
}

// Bytes that went unseen are told to the parser, and counted.
func TestTableGapAndOrder(t *testing.T) {
	table, reg := newTable(t, TableOptions{}, nil)
	k := newTalk(1, self(t))
	k.request(table, "/", "200")
	late := k.piece
	late.Data = bytes.Clone([]byte{0, 0, 0, 1, 5, 0, 0, 0, 1})
	k.id = 99
	_ = k.framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 97, BlockFragment: []byte{0x82, 0x84}, EndStream: true, EndHeaders: true})
	k.seq[protocol.Received] += uint32(k.buf.Len()) // lost on its way
	k.buf.Reset()
	k.request(table, "/", "200")
	table.Take(k.conn, protocol.HTTP2, &late) // an old one
	require.Equal(t, counts{"GET 200": 1, "_OTHER 200": 1}.sum(),
		countsOf(t, reg, "http_server_request_duration_seconds", "80", "http_request_method", "http_response_status_code").sum())
	require.EqualValues(t, 1, lostFor(t, reg, "gap"))
	require.EqualValues(t, 1, lostFor(t, reg, "order"))
	require.EqualValues(t, 1, lostFor(t, reg, "framing"))
}

func TestTableBounds(t *testing.T) {
	table, reg := newTable(t, TableOptions{MaxConnections: 10}, func(env *feature.Environment) { env.MaxSeries = 5 })
	var talks []*talk
	for i := range 30 {
		k := newTalk(uint64(i+1), self(t))
		k.request(table, "/", fmt.Sprint(200+i))
		talks = append(talks, k)
	}
	require.Len(t, table.conns, 10)
	require.EqualValues(t, 20, lostFor(t, reg, "max_connections"))
	require.EqualValues(t, 25, lostFor(t, reg, "max_series"))
	require.EqualValues(t, 5, countsOf(t, reg, "http_server_request_duration_seconds", "80").sum())
	// the last ten are those that are left, the one used last the last to go
	talks[20].request(table, "/", "200")
	k := newTalk(100, self(t))
	k.request(table, "/", "200")
	require.NotNil(t, table.conns[21])
	require.Nil(t, table.conns[22])
	for _, k := range talks {
		table.Close(k.conn.ID, 1<<40)
	}
	require.Len(t, table.conns, 1)
	require.Equal(t, table.oldest.next, table.oldest.prev)
}

// More RPC methods than are told apart are one.
func TestTableMethods(t *testing.T) {
	table, reg := newTable(t, TableOptions{}, nil)
	k := newTalk(1, self(t))
	for i := range maxMethods + 100 {
		k.call(table, fmt.Sprintf("/svc/M%d", i), "0")
	}
	got := countsOf(t, reg, "rpc_server_call_duration_seconds", "80", "rpc_method")
	require.Len(t, got, maxMethods+1)
	require.EqualValues(t, 100, got[other])
}

// What processes have counted outlives them, for a while, and a process that was
// handed a connection counts for itself.
func TestTableProcesses(t *testing.T) {
	table, reg := newTable(t, TableOptions{}, func(env *feature.Environment) { env.PerProcess = true })
	dead := identity.Key{PID: 1 << 30, StartNanos: 1}
	k := newTalk(1, dead)
	k.request(table, "/", "200")
	k.conn.Process = self(t)
	k.request(table, "/", "200")
	gone := newTalk(2, dead)
	gone.request(table, "/", "200")
	require.Len(t, table.series, 2)
	now := time.Now()
	for range 3 {
		table.Sweep(now)
		require.Equal(t, counts{"1073741824": 2, fmt.Sprint(os.Getpid()): 1}, countsOf(t, reg, "http_server_request_duration_seconds", "80", "process_pid"))
	}
	require.Len(t, table.series, 1)
	require.Len(t, table.conns, 1)
	table.Sweep(now.Add(feature.KeepRetired + time.Minute))
	require.Equal(t, counts{fmt.Sprint(os.Getpid()): 1}, countsOf(t, reg, "http_server_request_duration_seconds", "80", "process_pid"))
	table.Use(nil)
	k.request(table, "/", "200")
	require.Empty(t, countsOf(t, reg, "http_server_request_duration_seconds", "80"))
}

// In steady state a request allocates nothing.
func TestTableAllocations(t *testing.T) {
	table, _ := newTable(t, TableOptions{}, nil)
	k := newTalk(1, self(t))
	for range 50 {
		k.call(table, "/pkg.Svc/Do", "0")
		k.request(table, "/x", "200")
	}
	// header blocks that are all of indices, on one stream after another
	frame := func(id uint32, block []byte, end bool) []byte {
		k.buf.Reset()
		require.NoError(t, k.framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndStream: end, EndHeaders: true}))
		return bytes.Clone(k.buf.Bytes())
	}
	ask, answer := frame(1, []byte{0x82, 0x84}, true), frame(1, []byte{0x88}, true)
	var piece protocol.Piece
	id := k.id
	allocs := testing.AllocsPerRun(1000, func() {
		for d, b := range [][]byte{ask, answer} {
			b[7], b[8] = byte(id>>8), byte(id)
			piece = protocol.Piece{Direction: protocol.Direction(d), Data: b, Seq: k.seq[d]}
			k.seq[d] += uint32(len(b))
			table.Take(k.conn, protocol.HTTP2, &piece)
		}
		id += 2
	})
	require.Zero(t, allocs)
}

func TestClassify(t *testing.T) {
	kafka := []byte{0, 0, 0, 18, 0, 18, 0, 3, 0, 0, 0, 1, 0, 4, 't', 'e', 's', 't', 1, 1, 1, 0}
	for in, want := range map[string]protocol.Kind{
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":                 protocol.HTTP2,
		"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03....": protocol.HTTP2,
		"GET /x HTTP/1.1\r\n\r\n":                          protocol.HTTP1,
		"HTTP/1.1 200 OK\r\n":                              protocol.HTTP1,
		"GET the cat\r\n":                                  protocol.Unknown,
		"*2\r\n$3\r\nGET\r\n$1\r\nx\r\n":                   protocol.Redis,
		"*x\r\n$3\r\nGET\r\n":                              protocol.Unknown,
		"Q\x00\x00\x00\x0dSELECT 1\x00":                    protocol.PostgreSQL,
		"\x00\x00\x00\x08\x04\xd2\x16\x2f":                 protocol.PostgreSQL,
		string(kafka):                                      protocol.Kafka,
		"":                                                 protocol.Unknown,
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03":     protocol.Unknown,
	} {
		require.Equal(t, want, classify(&protocol.Piece{Data: []byte(in)}), "%q", in)
	}
}

func TestConfig(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	require.EqualValues(t, 1<<protocol.HTTP2|1<<protocol.PostgreSQL|1<<protocol.MySQL|1<<protocol.Redis|1<<protocol.Kafka, DefaultConfig().mask())
	for want, edit := range map[string]func(*Config){
		"protocols":       func(c *Config) { c.Protocols = []string{"http2", "mongodb"} },
		"head_bytes":      func(c *Config) { c.HeadBytes = 5000 },
		"ring_bytes":      func(c *Config) { c.RingBytes = 3 << 20 },
		"max_connections": func(c *Config) { c.MaxConnections = 0 },
	} {
		c := DefaultConfig()
		edit(&c)
		require.ErrorContains(t, c.Validate(), want)
	}
}

// Parsers that hold much cost others their place, those that were silent for
// longest first, and that is counted.
func TestMemoryIsBounded(t *testing.T) {
	const conns = 16
	table, reg := newTable(t, TableOptions{MaxConnections: conns}, nil)
	for id := uint64(1); id <= conns; id++ {
		var text bytes.Buffer
		for i := range 256 { // statements that are prepared and kept
			body := fmt.Sprintf("s%d\x00SELECT %d FROM a_table_with_a_name\x00\x00\x00", i, i)
			text.WriteByte('P')
			text.Write(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4)))
			text.WriteString(body)
		}
		text.WriteString("S\x00\x00\x00\x04")
		table.Take(Conn{ID: id, Process: self(t)}, protocol.PostgreSQL, &protocol.Piece{Direction: protocol.Sent, Data: text.Bytes(), AtNanos: int64(id)})
	}
	require.LessOrEqual(t, table.memory, conns*meanBytes)
	require.Contains(t, table.conns, uint64(conns))
	require.NotContains(t, table.conns, uint64(1))
	sum := 0
	for _, c := range table.conns {
		sum += c.memory
	}
	require.Equal(t, sum, table.memory)
	require.NotZero(t, table.lost[lostMemory])
	require.Equal(t, conns-len(table.conns), int(table.lost[lostMemory]))
	n, err := testutil.GatherAndCount(reg, "vedette_ebpf_stream_lost_total")
	require.NoError(t, err)
	require.Equal(t, int(lostReasons), n)
	for id := range table.conns {
		table.Close(id, 1000)
	}
	require.Zero(t, table.memory)
}

// What processes that are gone have counted is in the histogram once, however often
// it is collected.
func TestTableCountsOnce(t *testing.T) {
	table, reg := newTable(t, TableOptions{}, nil)
	for id := range uint64(2) {
		k := newTalk(id+1, identity.Key{PID: 1 << 30, StartNanos: id + 1}) // nobody's
		k.say(table, protocol.Received, true, ":method", "GET", ":path", "/")
		k.say(table, protocol.Sent, true, ":status", "200")
		if id == 0 { // the other one is there still
			table.Sweep(time.Unix(1000, 0))
			table.Sweep(time.Unix(1010, 0))
			require.Empty(t, table.series)
		}
	}
	for range 3 {
		m := featuretest.Family(t, reg, "http_server_request_duration_seconds", nil)
		require.Len(t, m, 1)
		require.EqualValues(t, 2, m[0].GetHistogram().GetSampleCount())
	}
}

// A process that has ended may have been answered just before: that is told when its
// pieces are read, though it was looked for between them.
func TestTableLateAnswers(t *testing.T) {
	table, reg := newTable(t, TableOptions{}, nil)
	k := newTalk(1, identity.Key{PID: 1 << 30, StartNanos: 1})
	now := time.Unix(1000, 0)
	for n := range 3 {
		k.say(table, protocol.Received, true, ":method", "GET", ":path", "/")
		if n == 0 {
			table.Sweep(now)
		}
		k.say(table, protocol.Sent, true, ":status", "200")
		k.id += 2
	}
	require.Equal(t, counts{"200": 3}, countsOf(t, reg, "http_server_request_duration_seconds", "80", "http_response_status_code"))
	for range 2 {
		now = now.Add(10 * time.Second)
		table.Sweep(now)
		require.Equal(t, counts{"200": 3}, countsOf(t, reg, "http_server_request_duration_seconds", "80", "http_response_status_code"))
	}
	require.Empty(t, table.conns)
	require.Zero(t, table.memory)
}
