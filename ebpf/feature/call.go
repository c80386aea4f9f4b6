package feature

import (
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ebpf/identity"
)

// Call is one request with its response, as one end of a connection saw it.
type Call struct {
	Process identity.Key
	Server  bool // the process answered; else it asked

	// Where the request's bytes are in their stream. The two ends of a connection
	// that no translation of addresses lies between see the same: mirrored
	// addresses, and the same sequence number.
	Local, Peer netip.AddrPort
	NetNS       uint32 // the network namespace's inode number
	Seq         uint32 // TCP's sequence number of the request's first byte; inside TLS, a number that both ends give it
	// Conn is 0 unless the other end has other numbers, or addresses are not known:
	// then it tells the connection from the others of its feature since boot, and
	// Seq the request from the connection's others.
	Conn uint64

	// Nanoseconds of the kernel's monotonic clock. On a server, the arrival of the
	// first byte and the last write; on a client, the first write and the last
	// read.
	StartNanos, EndNanos int64
	// HadNanos is when a server had read the first byte, where StartNanos may be that
	// of an earlier one that was read with it; 0: it is not.
	HadNanos int64
	// AskedNanos is when a client's call that wrote the first byte began, before
	// which no other has seen it; 0: not known.
	AskedNanos int64

	// What was asked. Name is the span's: a method and path, an RPC method, a
	// command; of few different values. Attributes alternate keys and values, with
	// OpenTelemetry's keys.
	Name       string
	Attributes []string
	Failed     bool // by the rules of OpenTelemetry for the side and the protocol

	// Traceparent is the request's W3C header as it came; empty: none.
	Traceparent string
}

// Calls takes calls. Its methods may be called by several goroutines.
type Calls interface {
	// Wanted says whether a call is one that is kept, so that what it costs to
	// describe it need not be paid for others. It depends on nothing but its
	// arguments, so that both ends of a connection agree.
	Wanted(traceparent string, seq uint32, local, peer netip.AddrPort) bool
	// Full says whether there is no room for a call, and counts the one that is not
	// added then as lost: it need not be described either.
	Full() bool
	// Add keeps a call that is wanted. It copies what it needs.
	Add(c *Call)
}

// Sampler is what the kernel needs of Calls to decide as Wanted does.
type Sampler interface {
	// Threshold is the least of the 2^56 random values whose calls are kept.
	Threshold() uint64
}

// Opener is a feature that knows of wanted requests that have no whole response
// yet.
type Opener interface {
	// Open visits them; their EndNanos, name and attributes are not set. A call is
	// visited, or has been added or lost, or is added within a second. lost is how
	// many wanted calls were lost since the feature was loaded.
	Open(visit func(c *Call)) (lost uint64, err error)
}

// SpanLostDesc describes the metric of calls that were wanted and have become no
// span, which several count.
func SpanLostDesc() *prometheus.Desc {
	return prometheus.NewDesc("vedette_ebpf_span_lost_total",
		"Sampled requests that have become no span, by reason.", []string{"reason"}, nil)
}
