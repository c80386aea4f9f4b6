// Package protocol reads requests and responses off the two directions of a
// connection, as the kernel saw one end of it.
//
//	Piece (bytes of one read or write) ─► Parser, one per connection ─► Request
//
// A parser knows no kernel and no process: it is driven by bytes, so its tests
// are recorded connections. Each protocol has a package below this one.
//
// Invariants, for every parser: any bytes give requests or nothing, never a panic;
// memory per connection is bounded; what cannot be followed is skipped until the
// next place where a message surely begins, and counted by Lost; a request is
// reported once, with its response, or not at all.
package protocol

// Kind is a protocol. The numbers are those of ebpf/bpf/stream.h.
type Kind uint8

// The protocols.
const (
	Unknown Kind = iota
	HTTP1        // HTTP/1.x, only where the kernel's own parser does not see it, as inside TLS
	HTTP2        // HTTP/2, of which gRPC is told apart
	PostgreSQL
	MySQL
	Redis
	Kafka
)

// Direction of bytes, as the process that was watched sees it.
type Direction uint8

// The directions.
const (
	Received Direction = iota
	Sent
)

// Piece is what one read or write moved. Its bytes are valid during the call.
type Piece struct {
	Direction Direction

	// The piece's bytes are Data, then Missed bytes that were not copied, then Tail.
	Data   []byte
	Missed int
	Tail   []byte

	// Seq is TCP's sequence number of the first byte.
	Seq uint32

	// Acked, of received bytes, is the sequence number up to which the peer had got
	// what was sent when these were read, or may have got it; 0: not known. An answer
	// never comes with less than all of its request.
	Acked uint32

	// ReadyNanos is when the first of the bytes arrived at the socket, for received
	// ones, and when their writing began, for sent ones, or 0; AtNanos is when they had been read or written. Nanoseconds of the
	// kernel's monotonic clock.
	ReadyNanos, AtNanos int64
}

// Len is how many bytes the piece moved.
func (p *Piece) Len() int { return len(p.Data) + p.Missed + len(p.Tail) }

// Request is one that has ended. It is valid during the call that hands it over.
type Request struct {
	Kind Kind
	// GRPC tells gRPC from other HTTP/2.
	GRPC bool
	// Server: the process received the request. Else it sent it.
	Server bool

	// Operation is what was asked, of a bounded set of values: an HTTP method, the
	// method of an RPC, a database's command, a Kafka API.
	Operation string
	// Target is what it was asked of: the service of an RPC, the path of an HTTP
	// request without its query, a database, a topic. Empty: not known. It may
	// have many values; metrics use those of RPC only.
	Target string
	// Summary describes a query for a span, without its literals, 256 bytes at most.
	Summary string
	// Status is the response's code in the protocol's own words: an HTTP or gRPC
	// status, an SQLSTATE, a Redis error's first word. Empty: none, which for
	// databases means success.
	Status string
	// Failed is by OpenTelemetry's rules for the protocol and the side.
	Failed bool

	// Traceparent is the W3C header of the request, as it came.
	Traceparent string

	// Seq is TCP's sequence number of the request's first byte.
	Seq uint32
	// From the arrival (server) or writing (client) of the request's first byte to
	// the writing or reading of the response's last one.
	StartNanos, EndNanos int64
	// HadNanos is when the process had read the request's first byte, of HTTP on a
	// server.
	HadNanos int64
	// Bytes of the request and the response as transferred, bodies only for HTTP.
	RequestBytes, ResponseBytes int64
}

// Holder is a parser whose memory grows with what it is told.
type Holder interface {
	// Held is about how many bytes it keeps beside itself.
	Held() int
}

// Opener is a parser that knows the requests which have no whole response yet.
type Opener interface {
	// Open visits them. What is only known at the end is not set. A request is valid
	// during its visit.
	Open(visit func(*Request))
}

// Parser follows one connection. Pieces of a direction come in order; the two
// directions may be seen in the other order than they happened when threads
// race, by little.
type Parser interface {
	// Take follows a piece, and calls done for each request that it ends.
	Take(p *Piece, done func(*Request))
	// Close ends the connection: what is under way ends with it or is dropped.
	Close(atNanos int64, done func(*Request))
	// Lost is how often the parser lost its place since the connection began.
	Lost() int
}
