package traceapi

import (
	"encoding/hex"
	"fmt"

	"github.com/vedette-io/vedette/internal/signal"
)

// ParseTraceID reads an id of 1 to 32 hexadecimal digits; leading zeros may be
// missing.
func ParseTraceID(s string) (signal.TraceID, error) {
	var id signal.TraceID
	if s == "" {
		return id, fmt.Errorf("trace id is empty")
	}
	if len(s) > 2*len(id) {
		return id, fmt.Errorf("trace id has %d digits, want at most %d", len(s), 2*len(id))
	}
	for i := range len(s) {
		v, ok := nibble(s[i])
		if !ok {
			return id, fmt.Errorf("trace id: byte %q at position %d is not a hexadecimal digit", s[i], i+1)
		}
		at := 2*len(id) - len(s) + i // in digits
		id[at/2] |= v << (4 * (1 - at%2))
	}
	return id, nil
}

func nibble(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// TraceIDHex returns all 32 digits of id.
func TraceIDHex(id signal.TraceID) string { return hex.EncodeToString(id[:]) }

// SpanIDHex returns all 16 digits of id.
func SpanIDHex(id signal.SpanID) string { return hex.EncodeToString(id[:]) }
