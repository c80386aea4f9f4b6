package zipkin

import (
	"bytes"
	"net/netip"
	"unicode/utf8"

	"github.com/vedette-io/vedette/ingest/wire"
)

// span is a span as version 2 has it. What is 0 or empty is not there.
type span struct {
	traceHigh, traceLow, id, parent uint64

	kind           uint8 // as OTLP numbers them
	name           []byte
	time, duration int64 // microseconds
	debug, shared  bool
	local, remote  endpoint
	annotations    []annotation
	tags           []tag

	networkTime    int64 // microseconds
	hasNetworkTime bool
}

// reset empties s and keeps its memory.
func (s *span) reset() {
	clear(s.annotations)
	clear(s.tags)
	*s = span{annotations: s.annotations[:0], tags: s.tags[:0]}
}

type annotation struct {
	time  int64 // microseconds
	value []byte
}

type tag struct{ key, value []byte }

// endpoint is a node of the network.
type endpoint struct {
	service    []byte
	ipv4, ipv6 netip.Addr
	port       uint16
}

func (e *endpoint) isEmpty() bool {
	return len(e.service) == 0 && e.port == 0 && !e.ipv4.IsValid() && !e.ipv6.IsValid()
}

func (e *endpoint) equal(o *endpoint) bool {
	return e.ipv4 == o.ipv4 && e.ipv6 == o.ipv6 && e.port == o.port && e.sameService(o)
}

// sameService compares names as Zipkin does, which has them in lower case.
func (e *endpoint) sameService(o *endpoint) bool { return bytes.EqualFold(e.service, o.service) }

// address returns the address that names the endpoint, and a second one.
func (e *endpoint) address() (first, second netip.Addr) {
	if !e.ipv4.IsValid() {
		return e.ipv6, netip.Addr{}
	}
	return e.ipv4, e.ipv6
}

// setIP takes an address; one that is not valid is left out, as in Zipkin.
func (e *endpoint) setIP(a netip.Addr) {
	switch a = a.Unmap().WithZone(""); {
	case a.Is4():
		e.ipv4 = a
	case a.Is6():
		e.ipv6 = a
	}
}

func (e *endpoint) setIPText(text []byte) {
	const longest = 64
	if len(text) <= longest {
		if a, err := netip.ParseAddr(string(text)); err == nil {
			e.setIP(a)
		}
	}
}

func (e *endpoint) setIPBytes(b []byte) {
	if a, ok := netip.AddrFromSlice(b); ok {
		e.setIP(a)
	}
}

// setPort reports whether the port is valid. 0 and less are none.
func (e *endpoint) setPort(port int64) bool {
	e.port = uint16(max(port, 0))
	return port <= 0xffff
}

// parseTraceID reads an id of up to 32 digits; text says what is wrong.
func parseTraceID(b []byte) (high, low uint64, text string) {
	if len(b) > 32 {
		return 0, 0, "traceId.length > 32"
	}
	tail := max(len(b)-16, 0)
	high, ok := parseHex(b[:tail])
	low, ok2 := parseHex(b[tail:])
	switch {
	case len(b) == 0:
		text = "traceId is empty"
	case !ok || !ok2:
		text = notHex(b)
	case high|low == 0:
		text = "traceId is all zeros"
	}
	return high, low, text
}

// parseID reads an id of up to 16 digits; text says what is wrong.
func parseID(field string, b []byte) (id uint64, text string) {
	switch {
	case len(b) == 0:
		return 0, field + " is empty"
	case len(b) > 16:
		return 0, field + ".length > 16"
	}
	id, ok := parseHex(b)
	if !ok {
		return 0, notHex(b)
	}
	return id, ""
}

func notHex(b []byte) string {
	return cut(b, 40) + " should be lower-hex encoded with no prefix"
}

// cut returns text of n bytes at most.
func cut(b []byte, n int) string {
	if len(b) <= n {
		return string(b)
	}
	for n > 0 && !utf8.RuneStart(b[n]) {
		n--
	}
	return string(b[:n]) + "…"
}

// parseHex reads up to 16 digits in lower case.
func parseHex(b []byte) (v uint64, ok bool) {
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		default:
			return 0, false
		}
		v = v<<4 | uint64(c)
	}
	return v, true
}

// reasonOf is how a refusal for a field counts.
func reasonOf(field string) wire.Reason {
	switch field {
	case "traceId":
		return wire.ReasonInvalidTraceID
	case "id", "parentId":
		return wire.ReasonInvalidSpanID
	}
	return wire.ReasonInvalidSpan
}
