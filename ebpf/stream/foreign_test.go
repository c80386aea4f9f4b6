package stream

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

// dialects are requests and responses of protocols that are not followed, or of
// none.
var dialects = []struct {
	name string
	say  func(r *rand.Rand, nth int) (request, response []byte)
}{
	{"any bytes", func(r *rand.Rand, _ int) ([]byte, []byte) { return noise(r, 1+r.IntN(300)), noise(r, 1+r.IntN(300)) }},
	{"few bytes", func(r *rand.Rand, _ int) ([]byte, []byte) { return noise(r, 1+r.IntN(4)), noise(r, 1+r.IntN(4)) }},
	{"small numbers", func(r *rand.Rand, _ int) ([]byte, []byte) { return small(r, 8+r.IntN(100)), small(r, 8+r.IntN(100)) }},
	{"zeros", func(r *rand.Rand, _ int) ([]byte, []byte) {
		return make([]byte, 1+r.IntN(100)), make([]byte, 1+r.IntN(100))
	}},
	{"TLS records", func(r *rand.Rand, nth int) ([]byte, []byte) {
		kind := byte(0x17)
		if nth == 0 {
			kind = 0x16
		}
		record := func() []byte {
			b := noise(r, 20+r.IntN(300))
			return append([]byte{kind, 3, 3, byte(len(b) >> 8), byte(len(b))}, b...)
		}
		return record(), record()
	}},
	{"SSH", func(r *rand.Rand, nth int) ([]byte, []byte) {
		if nth == 0 {
			return []byte("SSH-2.0-client\r\n"), []byte("SSH-2.0-server\r\n")
		}
		return prefixed(binary.BigEndian, small(r, 32)), prefixed(binary.BigEndian, small(r, 64))
	}},
	{"lengths, numbers, text, big", func(r *rand.Rand, nth int) ([]byte, []byte) { return rpc(binary.BigEndian, r, nth) }},
	{"lengths, numbers, text, little", func(r *rand.Rand, nth int) ([]byte, []byte) { return rpc(binary.LittleEndian, r, nth) }},
	{"lengths, kind, text, big", func(r *rand.Rand, _ int) ([]byte, []byte) {
		return prefixed(binary.BigEndian, tagged(r)), prefixed(binary.BigEndian, tagged(r))
	}},
	{"lengths, kind, text, little", func(r *rand.Rand, _ int) ([]byte, []byte) {
		return prefixed(binary.LittleEndian, tagged(r)), prefixed(binary.LittleEndian, tagged(r))
	}},
	{"kind, lengths, text", func(r *rand.Rand, _ int) ([]byte, []byte) {
		// as PostgreSQL's, but that the length is of what follows it
		frame := func() []byte {
			b := words(r)
			return append([]byte{"QPBEDCSHXRZTA"[r.IntN(13)]}, prefixed(binary.BigEndian, b)...)
		}
		return frame(), frame()
	}},
	{"MongoDB", func(r *rand.Rand, nth int) ([]byte, []byte) {
		message := func(id, to uint32) []byte {
			b := binary.LittleEndian.AppendUint32(nil, id)
			b = binary.LittleEndian.AppendUint32(b, to)
			b = binary.LittleEndian.AppendUint32(b, 2013)
			b = append(append(b, 0, 0, 0, 0, 0), small(r, 20+r.IntN(200))...)
			return append(binary.LittleEndian.AppendUint32(nil, uint32(len(b)+4)), b...)
		}
		return message(uint32(nth), 0), message(uint32(nth)+9, uint32(nth))
	}},
	{"Cassandra", func(r *rand.Rand, nth int) ([]byte, []byte) {
		q := words(r)
		head := func(version, op byte) []byte { return []byte{version, 0, 0, byte(nth), op} }
		return append(head(4, 7), prefixed(binary.BigEndian, prefixed(binary.BigEndian, q))...), append(head(0x84, 8), prefixed(binary.BigEndian, small(r, 40))...)
	}},
	{"memcached", func(r *rand.Rand, _ int) ([]byte, []byte) {
		v := words(r)
		return []byte("get key\r\n"), fmt.Appendf(nil, "VALUE key 0 %d\r\n%s\r\nEND\r\n", len(v), v)
	}},
	{"NATS", func(r *rand.Rand, _ int) ([]byte, []byte) {
		v := words(r)
		return fmt.Appendf(nil, "PUB subject %d\r\n%s\r\n", len(v), v), []byte("+OK\r\n")
	}},
	{"SMTP", func(r *rand.Rand, _ int) ([]byte, []byte) { return append(words(r), "\r\n"...), []byte("250 OK\r\n") }},
	{"lines with stars", func(r *rand.Rand, _ int) ([]byte, []byte) {
		return fmt.Appendf(nil, "*%d %s\r\n", r.IntN(20), words(r)), fmt.Appendf(nil, "+%s\r\n", words(r))
	}},
	{"DNS", func(r *rand.Rand, nth int) ([]byte, []byte) {
		message := func(flags byte) []byte {
			b := append([]byte{0, byte(nth), flags, 0, 0, 1, 0, 0, 0, 0, 0, 0}, "\x07example\x03com\x00\x00\x01\x00\x01"...)
			return append([]byte{0, byte(len(b))}, b...)
		}
		return message(1), message(0x81)
	}},
	{"MQTT", func(r *rand.Rand, nth int) ([]byte, []byte) {
		if nth == 0 {
			return []byte("\x10\x12\x00\x04MQTT\x04\x02\x00\x3c\x00\x06client"), []byte("\x20\x02\x00\x00")
		}
		return append([]byte{0x30, 60}, small(r, 60)...), []byte{0x40, 2, 0, byte(nth)}
	}},
	{"AMQP", func(r *rand.Rand, nth int) ([]byte, []byte) {
		if nth == 0 {
			return []byte("AMQP\x00\x00\x09\x01"), append([]byte{1, 0, 0, 0, 0, 0, 40}, append(small(r, 40), 0xce)...)
		}
		frame := func() []byte {
			b := words(r)
			return append(append([]byte{byte(1 + nth%3), 0, 1}, prefixed(binary.BigEndian, b)...), 0xce)
		}
		return frame(), frame()
	}},
}

func noise(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// small gives 32-bit numbers, most of them small.
func small(r *rand.Rand, n int) (b []byte) {
	for len(b) < n {
		b = binary.BigEndian.AppendUint32(b, r.Uint32()>>(16+r.IntN(16)))
	}
	return b[:n]
}

func words(r *rand.Rand) []byte {
	all := []string{"select", "get", "hello", "name", "x", "42", "the", "update"}
	var s []string
	for range 1 + r.IntN(20) {
		s = append(s, all[r.IntN(len(all))])
	}
	return []byte(strings.Join(s, " "))
}

func tagged(r *rand.Rand) []byte { return append([]byte{byte(r.IntN(32))}, words(r)...) }

func prefixed(order binary.AppendByteOrder, b []byte) []byte {
	return append(order.AppendUint32(nil, uint32(len(b))), b...)
}

// rpc is a protocol as many make one: a length, a method, a number that comes
// back, a name.
func rpc(order binary.AppendByteOrder, r *rand.Rand, nth int) (request, response []byte) {
	b := order.AppendUint32(nil, uint32(r.IntN(20)))
	b = order.AppendUint32(b, uint32(nth))
	name := words(r)
	b = append(order.AppendUint16(b, uint16(len(name))), name...)
	answer := order.AppendUint32(nil, uint32(nth))
	return prefixed(order, b), prefixed(order, append(order.AppendUint32(answer, 0), small(r, 40)...))
}

// babble is the role babel: connections of each dialect, to a port of its own.
// It tells the addresses.
func babble() {
	seed, _ := strconv.ParseUint(os.Args[1], 10, 64)
	var said []string
	var wg sync.WaitGroup
	for i := range dialects {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			fmt.Println(err)
			return
		}
		said = append(said, l.Addr().String())
		wg.Go(func() {
			for n := range babbles {
				if err := converse(l, i, rand.New(rand.NewPCG(seed, uint64(i*babbles+n)))); err != nil {
					fmt.Fprintln(os.Stderr, dialects[i].name, err)
				}
			}
		})
	}
	wg.Wait()
	fmt.Println(strings.Join(said, " "))
	io.Copy(io.Discard, os.Stdin)
}

// babbles is how many connections there are of each dialect.
const babbles = 20

func converse(l net.Listener, which int, r *rand.Rand) error {
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return err
	}
	s, err := l.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	defer s.Close()
	pass := func(from, to net.Conn, b []byte) error {
		if _, err := from.Write(b); err != nil {
			return err
		}
		got := make([]byte, len(b))
		if _, err := io.ReadFull(to, got); err != nil {
			return err
		}
		if !bytes.Equal(got, b) {
			return fmt.Errorf("got other bytes")
		}
		return nil
	}
	for nth := range 24 {
		request, response := dialects[which].say(r, nth)
		if err := pass(c, s, request); err != nil {
			return err
		}
		if err := pass(s, c, response); err != nil {
			return err
		}
	}
	return nil
}

// What speaks none of the protocols counts for none.
func TestForeignDialects(t *testing.T) {
	for seed := range 4 {
		reg := start(t, nil)
		said, _ := featuretest.StartRole(t, "babel", strconv.Itoa(seed))
		// what is later in the ring has been read
		rpc, _ := featuretest.StartRole(t, "rpc")
		done, _ := featuretest.StartRole(t, "caller", rpc, "empty", "10", "1")
		require.Equal(t, "done", done)
		rpcCounts(t, reg, "server", featuretest.PortOf(t, rpc), counts{service + "EmptyCall OK": 10})
		addresses := strings.Fields(said)
		require.Len(t, addresses, len(dialects))
		for i, addr := range addresses {
			port, who := featuretest.PortOf(t, addr), fmt.Sprintf("%s, seed %d", dialects[i].name, seed)
			for _, side := range []string{"server", "client"} {
				require.Empty(t, countsOf(t, reg, "http_"+side+"_request_duration_seconds", port, "http_request_method"), who)
				require.Empty(t, countsOf(t, reg, "rpc_"+side+"_call_duration_seconds", port, "rpc_method"), who)
				require.Empty(t, countsOf(t, reg, "db_"+side+"_operation_duration_seconds", port, "db_system_name", "db_operation_name"), who)
				require.Empty(t, countsOf(t, reg, "messaging_"+side+"_operation_duration_seconds", port, "messaging_operation_name", "error_type"), who)
			}
		}
	}
}
