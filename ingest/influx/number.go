package influx

import (
	"errors"
	"math"
	"strconv"
	"unsafe"
)

// Powers of ten that a float64 holds exactly.
var powersOfTen = [...]float64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// number parses a float, an integer (42i) or an unsigned integer (42u).
func number(b []byte) (float64, error) {
	switch b[len(b)-1] {
	case 'i':
		v, ok := integer(b[:len(b)-1])
		if !ok {
			return 0, errInteger
		}
		return float64(v), nil
	case 'u':
		v, ok := digits(b[:len(b)-1])
		if !ok {
			return 0, errInteger
		}
		return float64(v), nil
	}
	return float(b)
}

// integer parses a decimal int64.
func integer(b []byte) (int64, bool) {
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		b = b[1:]
	}
	v, ok := digits(b)
	switch {
	case !ok:
		return 0, false
	case negative:
		return -int64(v), v <= -math.MinInt64
	}
	return int64(v), v <= math.MaxInt64
}

// digits parses a decimal uint64.
func digits(b []byte) (v uint64, ok bool) {
	for _, c := range b {
		d := uint64(c - '0')
		if d > 9 || v > math.MaxUint64/10 || v == math.MaxUint64/10 && d > math.MaxUint64%10 {
			return 0, false
		}
		v = v*10 + d
	}
	return v, len(b) > 0
}

// float parses a decimal float64. What has at most 53 bits of digits and a small
// exponent is exact as a product or quotient; anything else is for strconv.
func float(b []byte) (float64, error) {
	if len(b) > 17 {
		return longFloat(b)
	}
	i := 0
	negative := b[0] == '-'
	if negative {
		i++
	}
	var mantissa uint64
	seen, exponent := 0, 0
	point := -1
	for ; i < len(b); i++ {
		c := b[i]
		if c == '.' && point < 0 {
			point = seen
			continue
		}
		d := uint64(c - '0')
		if d > 9 {
			break
		}
		seen++
		mantissa = mantissa*10 + d // at most 17 digits
	}
	if seen == 0 {
		return 0, errNumber
	}
	if point >= 0 {
		exponent = point - seen
	}
	if i < len(b) {
		e, ok := exponentOf(b[i:])
		if !ok {
			return 0, errNumber
		}
		exponent += e
	}
	if mantissa < 1<<53 && exponent >= -22 && exponent <= 22 {
		v := float64(mantissa)
		if exponent < 0 {
			v /= powersOfTen[-exponent]
		} else {
			v *= powersOfTen[exponent]
		}
		if negative {
			v = -v
		}
		return v, nil
	}
	return longFloat(b)
}

// longFloat leaves a number to strconv, but for the names and other bases that it
// takes.
func longFloat(b []byte) (float64, error) {
	for _, c := range b {
		if c-'0' > 9 && c != '.' && c != '-' && c != '+' && c != 'e' && c != 'E' {
			return 0, errNumber
		}
	}
	// The string does not outlive the call.
	v, err := strconv.ParseFloat(unsafe.String(&b[0], len(b)), 64)
	if errors.Is(err, strconv.ErrRange) {
		return 0, errFloatRange
	}
	if err != nil {
		return 0, errNumber
	}
	return v, nil
}

// exponentOf parses e12, E+12, e-12; one that is absurdly large is cut off, since
// strconv judges it.
func exponentOf(b []byte) (e int, ok bool) {
	if b[0] != 'e' && b[0] != 'E' {
		return 0, false
	}
	b = b[1:]
	negative := false
	if len(b) > 0 && (b[0] == '+' || b[0] == '-') {
		negative = b[0] == '-'
		b = b[1:]
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		e = min(e*10+int(c-'0'), 1e6)
	}
	if negative {
		e = -e
	}
	return e, len(b) > 0
}

func boolean(b []byte) (float64, error) {
	switch string(b) {
	case "t", "T", "true", "True", "TRUE":
		return 1, nil
	case "f", "F", "false", "False", "FALSE":
		return 0, nil
	}
	return 0, errBoolean
}
