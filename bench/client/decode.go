package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// errShape reports an answer that is not written as decodeMatrix expects.
var errShape = errors.New("answer has another shape than expected")

// decodeMatrix decodes a successful answer with a matrix, several times faster
// than a general decoder: checks read back tens of millions of samples. It knows
// only answers as servers write them, without white space, and returns errShape
// for any other.
func decodeMatrix(body []byte) ([]Series, error) {
	const opening = `"resultType":"matrix","result":[`
	i := bytes.Index(body[:min(len(body), 200)], []byte(opening))
	if i < 0 {
		return nil, errShape
	}
	rest := body[i+len(opening):]
	var out []Series
	for len(rest) > 0 && rest[0] != ']' {
		const metric, values = `{"metric":`, `,"values":[`
		if rest[0] == ',' {
			rest = rest[1:]
		}
		j := bytes.Index(rest, []byte(values))
		if !bytes.HasPrefix(rest, []byte(metric)) || j < 0 {
			return nil, errShape
		}
		var s Series
		if err := json.Unmarshal(rest[len(metric):j], &s.Labels); err != nil {
			return nil, errShape
		}
		var err error
		if s.Points, rest, err = decodePoints(rest[j+len(values):]); err != nil {
			return nil, err
		}
		// A series without native histograms ends here.
		if len(rest) == 0 || rest[0] != '}' {
			return nil, errShape
		}
		out, rest = append(out, s), rest[1:]
	}
	if len(rest) == 0 {
		return nil, errShape
	}
	return out, nil
}

// decodePoints decodes [seconds,"value"],… up to the closing bracket and returns
// what follows it.
func decodePoints(b []byte) ([]Point, []byte, error) {
	var points []Point
	for len(b) > 0 && b[0] != ']' {
		if b[0] == ',' {
			b = b[1:]
		}
		comma := bytes.IndexByte(b, ',')
		end := bytes.IndexByte(b, ']')
		if len(b) == 0 || b[0] != '[' || comma < 0 || end < comma+3 || b[comma+1] != '"' || b[end-1] != '"' {
			return nil, nil, errShape
		}
		millis, err := decodeMillis(b[1:comma])
		if err != nil {
			return nil, nil, err
		}
		value, err := strconv.ParseFloat(string(b[comma+2:end-1]), 64)
		if err != nil {
			return nil, nil, fmt.Errorf("decode sample value: %w", err)
		}
		points = append(points, Point{millis, value})
		b = b[end+1:]
	}
	if len(b) == 0 {
		return nil, nil, errShape
	}
	return points, b[1:], nil
}

// decodeMillis reads seconds with up to three decimals.
func decodeMillis(b []byte) (int64, error) {
	whole, decimals, _ := bytes.Cut(b, []byte{'.'})
	n := int64(0)
	digits := append(append(make([]byte, 0, 24), whole...), "000"...)
	if len(whole) == 0 || len(whole) > 15 || len(decimals) > 3 || copy(digits[len(whole):], decimals) != len(decimals) {
		return decodeAnyMillis(b)
	}
	for _, d := range digits {
		if d < '0' || d > '9' {
			return decodeAnyMillis(b)
		}
		n = n*10 + int64(d-'0')
	}
	return n, nil
}

// decodeAnyMillis reads seconds in whatever way a float is written.
func decodeAnyMillis(b []byte) (int64, error) {
	seconds, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return 0, fmt.Errorf("decode sample time: %w", err)
	}
	return int64(math.Round(seconds * 1000)), nil
}
