package stream

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/vedette-io/vedette/ebpf/protocol"
	"github.com/vedette-io/vedette/ebpf/protocol/http1"
	"github.com/vedette-io/vedette/ebpf/protocol/http2"
	"github.com/vedette-io/vedette/ebpf/protocol/kafka"
	"github.com/vedette-io/vedette/ebpf/protocol/mysql"
	"github.com/vedette-io/vedette/ebpf/protocol/postgres"
	"github.com/vedette-io/vedette/ebpf/protocol/redis"
)

// kinds are the protocols that the feature follows, as configuration names them.
var kinds = []struct {
	name string
	kind protocol.Kind
}{
	{"http2", protocol.HTTP2},
	{"postgresql", protocol.PostgreSQL},
	{"mysql", protocol.MySQL},
	{"redis", protocol.Redis},
	{"kafka", protocol.Kafka},
}

// systems are the values of db_system_name and messaging_system.
var systems = [...]string{
	protocol.PostgreSQL: "postgresql", protocol.MySQL: "mysql", protocol.Redis: "redis", protocol.Kafka: "kafka",
}

// newParser gives a parser of the protocol; nil: there is none.
func newParser(k protocol.Kind) protocol.Parser {
	switch k {
	case protocol.HTTP1:
		return http1.New()
	case protocol.HTTP2:
		return http2.New()
	case protocol.PostgreSQL:
		return postgres.New()
	case protocol.MySQL:
		return mysql.New()
	case protocol.Redis:
		return redis.New()
	case protocol.Kafka:
		return kafka.New()
	}
	return nil
}

const preface = "PRI * HTTP/2.0"

// classify finds the protocol of a connection by a piece at its beginning, for
// those who feed the table and cannot tell: what is inside TLS.
func classify(p *protocol.Piece) protocol.Kind {
	b := p.Data
	switch {
	case bytes.HasPrefix(b, []byte(preface)), isSettings(b):
		return protocol.HTTP2
	case isHTTP1(b):
		return protocol.HTTP1
	case isPostgres(b, p.Len()):
		return protocol.PostgreSQL
	case isRedis(b):
		return protocol.Redis
	case isKafka(b, p.Len()):
		return protocol.Kafka
	case mysql.Begins(b, p.Len()):
		return protocol.MySQL
	}
	return protocol.Unknown
}

// headerApart is how long the header of a packet is that some servers read by itself.
const headerApart = 4

// join puts a header that was read by itself before what was read after it; nil:
// that does not follow it.
func join(first, p *protocol.Piece) *protocol.Piece {
	if first.Direction != p.Direction || p.Seq != first.Seq+uint32(first.Len()) {
		return nil
	}
	k := *p
	k.Data = slices.Concat(first.Data, p.Data)
	k.Seq, k.ReadyNanos = first.Seq, first.ReadyNanos
	return &k
}

// isSettings: a server's first frame.
func isSettings(b []byte) bool {
	if len(b) < 9 || b[0] != 0 || b[1] != 0 || b[3] != 4 || b[4] != 0 {
		return false
	}
	return b[2]%6 == 0 && b[2] <= 60 && binary.BigEndian.Uint32(b[5:]) == 0
}

// isHTTP1: a request line or a status line begins.
func isHTTP1(b []byte) bool {
	if bytes.HasPrefix(b, []byte("HTTP/1.")) {
		return true
	}
	method, _, found := bytes.Cut(b[:min(len(b), 12)], []byte(" "))
	if !found || len(method) < 3 || !bytes.Contains(b, []byte(" HTTP/1.")) {
		return false
	}
	for _, c := range method {
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return true
}

// isPostgres: a startup message, or a query in a connection that is older.
func isPostgres(b []byte, n int) bool {
	if len(b) < 8 {
		return false
	}
	length, code := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	if int(length) == n && (code == 3<<16 || code == 3<<16|2 || code == 80877103 || code == 80877104) {
		return true
	}
	length = binary.BigEndian.Uint32(b[1:])
	switch b[0] {
	case 'Q':
		return int64(length)+1 == int64(n)
	case 'P', 'B':
		return length >= 8 && int64(length)+6 <= int64(n) && bytes.HasSuffix(b, []byte{'S', 0, 0, 0, 4})
	}
	return false
}

// isRedis: a command, an array of bulk strings.
func isRedis(b []byte) bool {
	if len(b) < 9 || b[0] != '*' || b[1] < '1' || b[1] > '9' {
		return false
	}
	line, rest, found := bytes.Cut(b[1:min(len(b), 12)], []byte("\r\n"))
	return found && len(line) <= 6 && len(rest) > 1 && rest[0] == '$' && rest[1] >= '0' && rest[1] <= '9'
}

// isKafka: the header of a request, with the client's name.
func isKafka(b []byte, n int) bool {
	if len(b) < 14 || int64(binary.BigEndian.Uint32(b))+4 != int64(n) {
		return false
	}
	api, version, name := binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:]), binary.BigEndian.Uint16(b[12:])
	if api > 92 || version > 20 || int32(binary.BigEndian.Uint32(b[8:])) < 0 {
		return false
	}
	return name == 0xffff || int(name)+14 <= n && name <= 256
}
