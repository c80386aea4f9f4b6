package zipkin

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonReader reads JSON, value by value. The first error sticks: every read
// after it returns nothing, and arrays and objects end.
type jsonReader struct {
	b      []byte
	i      int
	detail string // of the first error

	unescaped []byte // strings that were not in b as they are
	charged   int    // of the memory for them
	reserve   func(n int) error
	err       error // of reserve
}

func (r *jsonReader) failed() bool { return r.detail != "" }

// malformed refuses what is no JSON.
func (r *jsonReader) malformed(want string) {
	r.fail(fmt.Sprintf("Malformed at byte %d: want %s", r.i, want))
}

// fail makes detail the error, unless there is one.
func (r *jsonReader) fail(detail string) {
	if r.detail == "" {
		r.detail = detail
	}
	r.i = len(r.b)
}

// peek returns the next byte that is no white space; 0 is the end.
func (r *jsonReader) peek() byte {
	for r.i < len(r.b) {
		switch c := r.b[r.i]; c {
		case ' ', '\t', '\r', '\n':
			r.i++
		default:
			return c
		}
	}
	return 0
}

// begin passes over the bracket that opens an array or an object, and reports
// whether there is something in it.
func (r *jsonReader) begin(open byte) bool {
	if r.peek() != open {
		r.malformed(string(open))
		return false
	}
	r.i++
	if r.peek() == open+2 { // as it is in ASCII
		r.i++
		return false
	}
	return !r.failed()
}

// next passes over what follows an element, and reports whether there is
// another one.
func (r *jsonReader) next(open byte) bool {
	switch r.peek() {
	case ',':
		r.i++
		return true
	case open + 2:
		r.i++
		return false
	}
	r.malformed("',' or '" + string(open+2) + "'")
	return false
}

// key reads the name of a member.
func (r *jsonReader) key() []byte {
	k := r.rawString()
	if r.peek() != ':' {
		r.malformed("':'")
		return nil
	}
	r.i++
	return k
}

// null passes over a null, if that is next.
func (r *jsonReader) null() bool {
	if r.peek() == 'n' {
		return r.literal("null")
	}
	return false
}

func (r *jsonReader) literal(text string) bool {
	if !bytes.HasPrefix(r.b[r.i:], []byte(text)) {
		r.malformed(text)
		return false
	}
	r.i += len(text)
	return true
}

// bool reads true or false.
func (r *jsonReader) bool() bool {
	switch r.peek() {
	case 't':
		return r.literal("true")
	case 'f':
		r.literal("false")
		return false
	}
	r.fail("Expected a boolean but was " + r.kind())
	return false
}

// kind names the next value.
func (r *jsonReader) kind() string {
	switch c := r.peek(); {
	case c == '"':
		return "STRING"
	case c == '{':
		return "BEGIN_OBJECT"
	case c == '[':
		return "BEGIN_ARRAY"
	case c == 't' || c == 'f':
		return "BOOLEAN"
	case c == 'n':
		return "NULL"
	case c == '-' || c >= '0' && c <= '9':
		return "NUMBER"
	case c == 0:
		return "END_DOCUMENT"
	}
	return "malformed"
}

// text reads a string, or a number as it is written.
func (r *jsonReader) text() []byte {
	switch r.kind() {
	case "STRING":
		return r.rawString()
	case "NUMBER":
		return r.number()
	}
	r.fail("Expected a string but was " + r.kind())
	return nil
}

// number reads a number as it is written.
func (r *jsonReader) number() []byte {
	start := r.i
	i := start
	digits := func() bool {
		from := i
		for i < len(r.b) && r.b[i] >= '0' && r.b[i] <= '9' {
			i++
		}
		return i > from
	}
	if i < len(r.b) && r.b[i] == '-' {
		i++
	}
	from := i
	ok := digits() && (r.b[from] != '0' || i == from+1)
	if ok && i < len(r.b) && r.b[i] == '.' {
		i++
		ok = digits()
	}
	if ok && i < len(r.b) && r.b[i]|0x20 == 'e' {
		if i++; i < len(r.b) && (r.b[i] == '+' || r.b[i] == '-') {
			i++
		}
		ok = digits()
	}
	if !ok {
		r.malformed("a number")
		return nil
	}
	r.i = i
	return r.b[start:i]
}

// int reads a whole number, also one in quotes or in another notation.
func (r *jsonReader) int() int64 {
	var text []byte
	switch r.kind() {
	case "NUMBER":
		text = r.number()
	case "STRING":
		text = r.rawString()
	default:
		r.fail("Expected a long but was " + r.kind())
	}
	if r.failed() {
		return 0
	}
	const longest = 40
	if len(text) <= longest {
		if v, ok := parseInt(text); ok {
			return v
		}
		if f, err := strconv.ParseFloat(string(text), 64); err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<63 {
			return int64(f)
		}
	}
	r.fail("Expected a long but was " + cut(text, longest))
	return 0
}

// parseInt reads the usual form of a whole number.
func parseInt(b []byte) (int64, bool) {
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		b = b[1:]
	}
	const safe = 18 // digits, which fit for sure
	if len(b) == 0 || len(b) > safe {
		v, err := strconv.ParseInt(string(b), 10, 64)
		return v, err == nil && !negative
	}
	v := int64(0)
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + int64(c-'0')
	}
	if negative {
		v = -v
	}
	return v, true
}

// rawString reads a string. Its bytes stay valid with those of the body.
func (r *jsonReader) rawString() []byte {
	if r.peek() != '"' {
		r.malformed("a string")
		return nil
	}
	r.i++
	for i := r.i; i < len(r.b); i++ {
		switch c := r.b[i]; {
		case c == '"':
			s := r.b[r.i:i:i]
			r.i = i + 1
			return s
		case c == '\\':
			return r.unescape(i)
		case c < ' ':
			r.i = i
			r.malformed("no control character in a string")
			return nil
		}
	}
	r.i = len(r.b)
	r.malformed("the end of a string")
	return nil
}

// unescape reads a string whose first escape stands at i.
func (r *jsonReader) unescape(i int) []byte {
	out := len(r.unescaped)
	r.unescaped = append(r.unescaped, r.b[r.i:i]...)
	for i < len(r.b) {
		c := r.b[i]
		i++
		switch {
		case c == '"':
			r.i = i
			r.charge()
			return r.unescaped[out:len(r.unescaped):len(r.unescaped)]
		case c < ' ':
			r.i = i
			r.malformed("no control character in a string")
			return nil
		case c != '\\':
			r.unescaped = append(r.unescaped, c)
			continue
		case i == len(r.b):
			continue
		}
		c = r.b[i]
		i++
		switch c {
		case '"', '\\', '/', '\'':
			r.unescaped = append(r.unescaped, c)
		case 'b':
			r.unescaped = append(r.unescaped, '\b')
		case 'f':
			r.unescaped = append(r.unescaped, '\f')
		case 'n':
			r.unescaped = append(r.unescaped, '\n')
		case 'r':
			r.unescaped = append(r.unescaped, '\r')
		case 't':
			r.unescaped = append(r.unescaped, '\t')
		case 'u':
			u, ok := r.hex4(i)
			if !ok {
				r.i = i
				r.malformed("four hex digits")
				return nil
			}
			i += 4
			if utf16.IsSurrogate(u) {
				low, paired := rune(0), false
				if i+1 < len(r.b) && r.b[i] == '\\' && r.b[i+1] == 'u' {
					low, paired = r.hex4(i + 2)
				}
				if u = utf16.DecodeRune(u, low); paired && u != utf8.RuneError {
					i += 6
				}
			}
			r.unescaped = utf8.AppendRune(r.unescaped, u)
		default:
			r.i = i
			r.malformed("a known escape")
			return nil
		}
	}
	r.i = len(r.b)
	r.malformed("the end of a string")
	return nil
}

// charge reserves memory for unescaped strings, if they are large.
func (r *jsonReader) charge() {
	const free = 64 << 10
	n := cap(r.unescaped) - r.charged
	if n <= free || r.reserve == nil || r.err != nil {
		return
	}
	r.charged += n
	if r.err = r.reserve(n); r.err != nil {
		r.fail("no memory")
	}
}

// hex4 reads four hex digits at i.
func (r *jsonReader) hex4(i int) (rune, bool) {
	if i+4 > len(r.b) {
		return 0, false
	}
	v := rune(0)
	for _, c := range r.b[i : i+4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		v = v<<4 | rune(c)
	}
	return v, true
}

// skip passes over a value.
func (r *jsonReader) skip() { r.skipNested(maxDepth) }

func (r *jsonReader) skipNested(depth int) {
	if depth == 0 {
		r.malformed(fmt.Sprintf("values that are nested at most %d deep", maxDepth))
		return
	}
	switch c := r.peek(); {
	case c == '"':
		kept := len(r.unescaped)
		r.rawString()
		r.unescaped = r.unescaped[:kept]
	case c == '{':
		for more := r.begin('{'); more; more = r.next('{') {
			r.key()
			r.skipNested(depth - 1)
		}
	case c == '[':
		for more := r.begin('['); more; more = r.next('[') {
			r.skipNested(depth - 1)
		}
	case c == 't':
		r.literal("true")
	case c == 'f':
		r.literal("false")
	case c == 'n':
		r.literal("null")
	case c == '-' || c >= '0' && c <= '9':
		r.number()
	default:
		r.malformed("a value")
	}
}
