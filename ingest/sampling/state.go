package sampling

import (
	"bytes"
	"encoding/binary"

	"github.com/vedette-io/vedette/internal/signal"
)

const (
	// bits56 is the number of values of a trace's randomness.
	bits56 = 1 << 56

	digits = 14 // hexadecimal, of 56 bits
)

// Randomness returns a trace's 56 random bits: the last seven bytes of its id.
func Randomness(id signal.TraceID) uint64 { return binary.BigEndian.Uint64(id[8:]) & (bits56 - 1) }

// Threshold returns what the randomness of a trace must reach to be kept with a
// probability.
func Threshold(probability float64) uint64 {
	switch {
	case probability >= 1:
		return 0
	case probability <= 0:
		return bits56
	}
	return bits56 - uint64(probability*bits56+0.5)
}

// State is what a W3C trace state says of OpenTelemetry's sampling.
type State struct {
	Threshold    uint64 // th: traces whose randomness is less were not sampled
	HasThreshold bool

	Randomness    uint64 // rv: in place of the trace id's
	HasRandomness bool
}

// ParseState reads the ot entry of a trace state. What is malformed counts as
// absent.
func ParseState(state []byte) (s State) {
	for len(state) > 0 {
		member, rest, _ := bytes.Cut(state, []byte(","))
		state = rest
		key, value, ok := bytes.Cut(bytes.Trim(member, " \t"), []byte("="))
		if !ok || string(key) != "ot" {
			continue
		}
		for len(value) > 0 {
			field, more, _ := bytes.Cut(value, []byte(";"))
			value = more
			name, text, ok := bytes.Cut(field, []byte(":"))
			switch {
			case !ok:
			case string(name) == "th" && !s.HasThreshold:
				s.Threshold, s.HasThreshold = parseHex(text)
			case string(name) == "rv" && !s.HasRandomness && len(text) == digits:
				s.Randomness, s.HasRandomness = parseHex(text)
			}
		}
		return s
	}
	return s
}

// parseHex reads 1 to 14 hexadecimal digits, to which zeros are added on the
// right.
func parseHex(text []byte) (v uint64, ok bool) {
	if len(text) == 0 || len(text) > digits {
		return 0, false
	}
	for _, c := range text {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		v = v<<4 | uint64(c)
	}
	return v << (4 * (digits - len(text))), true
}

// AdjustedCount returns how many spans a sampled one stands for: 1 if the state
// does not say.
func (s State) AdjustedCount() float64 {
	if !s.HasThreshold {
		return 1
	}
	return bits56 / float64(bits56-s.Threshold) // a threshold has 56 bits, so it is less
}
