package log

import (
	"bytes"
	"iter"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonReader goes through JSON that is known to be valid.
type jsonReader struct {
	b []byte
	i int
}

func (r *jsonReader) space() {
	for r.i < len(r.b) && (r.b[r.i] == ' ' || r.b[r.i] == '\t' || r.b[r.i] == '\n' || r.b[r.i] == '\r') {
		r.i++
	}
}

// value passes over a value and returns it as it is written.
func (r *jsonReader) value() []byte {
	r.space()
	begin := r.i
	switch r.b[r.i] {
	case '"':
		r.string()
	case '{', '[':
		for depth := 0; ; {
			switch r.b[r.i] {
			case '"':
				r.string()
				continue
			case '{', '[':
				depth++
			case '}', ']':
				depth--
			}
			r.i++
			if depth == 0 {
				break
			}
		}
	default: // a number, true, false, null
		for r.i < len(r.b) && bytes.IndexByte([]byte(" \t\r\n,]}"), r.b[r.i]) < 0 {
			r.i++
		}
	}
	return r.b[begin:r.i]
}

func (r *jsonReader) string() {
	for r.i++; r.b[r.i] != '"'; r.i++ {
		if r.b[r.i] == '\\' {
			r.i++
		}
	}
	r.i++
}

// elements goes through the values of an array, or the keys and values of an
// object, each as it is written; it yields nothing for other values.
func (r *jsonReader) elements(open byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if r.space(); r.i >= len(r.b) || r.b[r.i] != open {
			return
		}
		r.i++
		for r.space(); r.b[r.i] != ']' && r.b[r.i] != '}'; r.space() {
			if !yield(r.value()) {
				return
			}
			if r.space(); r.b[r.i] == ',' || r.b[r.i] == ':' {
				r.i++
			}
		}
		r.i++
	}
}

// members goes through the keys, unquoted, and values of an object.
func (r *jsonReader) members() iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		var key []byte
		for v := range r.elements('{') {
			if key == nil {
				key = unquote(v)
				continue
			}
			if !yield(key, v) {
				return
			}
			key = nil
		}
	}
}

// unquote returns the content of a string, which aliases it if it can; of another
// value what is written.
func unquote(v []byte) []byte {
	if len(v) < 2 || v[0] != '"' {
		return v
	}
	inner := v[1 : len(v)-1 : len(v)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		if inner == nil {
			return []byte{}
		}
		return inner
	}
	out := make([]byte, 0, len(inner))
	for i := 0; i < len(inner); {
		n := bytes.IndexByte(inner[i:], '\\')
		if n < 0 {
			return append(out, inner[i:]...)
		}
		out = append(out, inner[i:i+n]...)
		if i += n + 1; inner[i] != 'u' {
			out = append(out, unescaped(inner[i]))
			i++
			continue
		}
		r := hexRune(inner[i+1:])
		i += 5
		if utf16.IsSurrogate(r) {
			low := rune(-1)
			if i+6 <= len(inner) && inner[i] == '\\' && inner[i+1] == 'u' {
				low = hexRune(inner[i+2:])
			}
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				i += 6
			}
		}
		out = utf8.AppendRune(out, r)
	}
	return out
}

// unescaped returns what a backslash before c stands for.
func unescaped(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 't':
		return '\t'
	case 'r':
		return '\r'
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	}
	return c // quotes and slashes
}

// hexRune reads four digits, which are there.
func hexRune(b []byte) (r rune) {
	for _, c := range b[:4] {
		switch {
		case c <= '9':
			c -= '0'
		case c <= 'F':
			c -= 'A' - 10
		default:
			c -= 'a' - 10
		}
		r = r<<4 | rune(c)
	}
	return r
}

// maxJSONDepth is how deep values are taken apart; below it they stay text.
const maxJSONDepth = 32

// appendJSONValue appends an AnyValue message of a JSON value.
func appendJSONValue(dst, v []byte, depth int) []byte {
	if depth > maxJSONDepth {
		return appendStringValue(dst, v)
	}
	switch v[0] {
	case '"':
		return appendStringValue(dst, unquote(v))
	case 't', 'f':
		return append(dst, valueBool<<3|asVarint, boolByte(v[0] == 't'))
	case 'n':
		return dst
	case '{':
		r := jsonReader{b: v}
		var list []byte
		for key, value := range r.members() {
			list = appendMessage(list, 1, appendKeyValue(nil, key, appendJSONValue(nil, value, depth+1)))
		}
		return appendMessage(dst, valueMap, list)
	case '[':
		r := jsonReader{b: v}
		var list []byte
		for value := range r.elements('[') {
			list = appendMessage(list, 1, appendJSONValue(nil, value, depth+1))
		}
		return appendMessage(dst, valueArray, list)
	}
	if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
		return appendVarint(append(dst, valueInt<<3|asVarint), uint64(n))
	}
	f, err := strconv.ParseFloat(string(v), 64)
	if err != nil { // a number beyond float64
		return appendStringValue(dst, v)
	}
	return appendFixed64(append(dst, valueDouble<<3|asFixed64), math.Float64bits(f))
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}
