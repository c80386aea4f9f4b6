package span

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"net/netip"
	"strings"

	"github.com/vedette-io/vedette/internal/signal"
)

// randomBits is how many bits of a trace id are random, by W3C's Trace Context
// level 2; OpenTelemetry's consistent probability sampling compares them.
const randomBits = 56

// thresholdOf is the least random value that is kept.
func thresholdOf(ratio float64) uint64 {
	return uint64(math.Round((1 - ratio) * (1 << randomBits)))
}

// random is the value that decides about a request: the low 56 bits of its trace
// id, or without a traceparent, 56 bits of a hash of its connection's two ends
// and its sequence number. http_span.h does the same.
func random(traceparent string, seq uint32, local, peer netip.AddrPort) uint64 {
	if r, ok := traceRandom(strings.Trim(traceparent, " \t")); ok {
		return r
	}
	return mix((hashEnd(local)+hashEnd(peer))^uint64(seq)) >> (64 - randomBits)
}

// traceRandom reads the random bits of a traceparent, with no more checks than
// the kernel makes.
func traceRandom(s string) (uint64, bool) {
	if len(s) < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return 0, false
	}
	var v uint64
	for _, ch := range []byte(s[21:35]) {
		switch {
		case '0' <= ch && ch <= '9':
			v = v<<4 | uint64(ch-'0')
		case 'a' <= ch && ch <= 'f':
			v = v<<4 | uint64(ch-'a'+10)
		default:
			return 0, false
		}
	}
	return v, true
}

func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return x
}

func hashEnd(a netip.AddrPort) uint64 {
	b := a.Addr().As16()
	word := func(i int) uint64 { return uint64(binary.NativeEndian.Uint32(b[4*i:])) }
	return mix(mix(word(0)<<32|word(1)) ^ (word(2)<<32 | word(3)) ^ uint64(a.Port())<<16)
}

// header is a traceparent.
type header struct {
	trace   signal.TraceID
	parent  signal.SpanID
	sampled bool
}

// parseHeader reads a traceparent as the W3C has it: false if it is not valid.
func parseHeader(s string) (h header, ok bool) {
	s = strings.Trim(s, " \t")
	if len(s) < 55 || s[:2] == "ff" || s[2] != '-' || s[35] != '-' || s[52] != '-' ||
		len(s) > 55 && (s[:2] == "00" || s[55] != '-') || strings.ToLower(s[:55]) != s[:55] {
		return header{}, false
	}
	var version, flags [1]byte
	for _, part := range []struct {
		dst []byte
		src string
	}{{version[:], s[:2]}, {h.trace[:], s[3:35]}, {h.parent[:], s[36:52]}, {flags[:], s[53:55]}} {
		if _, err := hex.Decode(part.dst, []byte(part.src)); err != nil {
			return header{}, false
		}
	}
	h.sampled = flags[0]&1 != 0
	return h, h.trace != signal.TraceID{} && !h.parent.IsZero()
}
