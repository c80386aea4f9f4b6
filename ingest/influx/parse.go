package influx

import (
	"bytes"
	"errors"
	"math"
)

// What a line can be refused for, in the words of InfluxDB.
var (
	errMeasurement   = errors.New("missing measurement")
	errTagKey        = errors.New("missing tag key")
	errTagValue      = errors.New("missing tag value")
	errTagFormat     = errors.New("invalid tag format")
	errFields        = errors.New("missing fields")
	errFieldKey      = errors.New("missing field key")
	errFieldValue    = errors.New("missing field value")
	errFieldFormat   = errors.New("invalid field format")
	errNumber        = errors.New("invalid number")
	errInteger       = errors.New("invalid integer, or one outside of 64 bits")
	errFloatRange    = errors.New("number outside of the range of floats")
	errBoolean       = errors.New("invalid boolean")
	errQuotes        = errors.New("unbalanced quotes")
	errTimestamp     = errors.New("bad timestamp")
	errTimeRange     = errors.New("time outside range")
	errDuplicateTags = errors.New("duplicate tags")
	errNameTag       = errors.New("tag " + metricName + " is the measurement's name")
	errLabelBytes    = errors.New("tags of all fields together are too long")
)

// Classes of bytes.
const (
	endsMeasurement = 1 << iota // unless escaped
	endsTag                     // key or value, or a field's key
	endsValue                   // number or boolean
	escape
	notName  // in the name of a Prometheus metric
	notLabel // in the name of a Prometheus label
)

var classes = func() (t [256]uint8) {
	for c := range t {
		b := byte(c)
		isLabel := b == '_' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
		if !isLabel {
			t[c] |= notLabel
			if b != ':' {
				t[c] |= notName
			}
		}
	}
	for class, set := range map[uint8]string{
		endsMeasurement: ", \n", endsTag: ",= \n", endsValue: ", \r\n", escape: "\\",
	} {
		for i := range len(set) {
			t[set[i]] |= class
		}
	}
	return t
}()

// text is a name or value without its escapes, and the classes of its bytes.
type text struct {
	b     []byte
	class uint8
}

type tag struct{ key, value text }

type field struct {
	key   text
	value float64
}

// parser splits a body into lines. What a line holds is valid until the next
// one.
type parser struct {
	b []byte
	i int

	measurement text
	tags        []tag // those with a value, in the line's order
	fields      []field
	strings     int   // fields that are strings, which are left out
	time        int64 // in the precision of the request
	hasTime     bool

	arena []byte // holds text that had escapes
}

func (p *parser) reset(body []byte) {
	*p = parser{b: body, tags: p.tags, fields: p.fields, arena: p.arena}
}

// next goes to the next line that is not empty or a comment, and reports
// whether there is one.
func (p *parser) next() bool {
	for p.i < len(p.b) {
		switch p.b[p.i] {
		case ' ', '\t', '\n', '\r', 0:
			p.i++
		case '#':
			p.skipLine()
		default:
			return true
		}
	}
	return false
}

// skipLine goes behind the next line end.
func (p *parser) skipLine() {
	if n := bytes.IndexByte(p.b[p.i:], '\n'); n >= 0 {
		p.i += n + 1
		return
	}
	p.i = len(p.b)
}

// line parses the line at hand and goes behind it, also if it is a bad one.
func (p *parser) line() error {
	p.tags, p.fields, p.strings, p.hasTime, p.arena = p.tags[:0], p.fields[:0], 0, false, p.arena[:0]
	err := p.parse()
	if err != nil {
		p.skipLine()
	}
	return err
}

func (p *parser) parse() error {
	p.measurement = p.text(endsMeasurement)
	if len(p.measurement.b) == 0 {
		return errMeasurement
	}
	for p.at() == ',' {
		p.i++
		if err := p.tag(); err != nil {
			return err
		}
	}
	if p.at() != ' ' {
		if p.at() == '=' {
			return errTagFormat
		}
		return errFields
	}
	p.spaces()
	if p.lineEnds() {
		return errFields
	}
	for {
		if err := p.field(); err != nil {
			return err
		}
		if p.at() != ',' {
			break
		}
		p.i++
	}
	return p.timestamp()
}

// at returns the byte at hand; the end of the body ends a line, too.
func (p *parser) at() byte {
	if p.i < len(p.b) {
		return p.b[p.i]
	}
	return '\n'
}

func (p *parser) spaces() {
	for p.i < len(p.b) && p.b[p.i] == ' ' {
		p.i++
	}
}

// lineEnds reports whether a line end, or the body's, is at hand.
func (p *parser) lineEnds() bool {
	c := p.at()
	return c == '\n' || c == '\r' && (p.i+1 == len(p.b) || p.b[p.i+1] == '\n')
}

// text takes bytes up to one of class end.
func (p *parser) text(end uint8) text {
	b, i := p.b, p.i
	class := uint8(0)
	for i < len(b) {
		c := classes[b[i]]
		if c&(end|escape) != 0 {
			break
		}
		class |= c
		i++
	}
	t := text{b[p.i:i], class}
	p.i = i
	if i < len(b) && b[i] == '\\' {
		return p.escaped(t, end)
	}
	return t
}

// escaped goes on with t at a backslash. It stands for the byte behind it if
// that would end the text, and else for itself. A line end cannot be escaped.
func (p *parser) escaped(t text, end uint8) text {
	start := len(p.arena)
	p.arena = append(p.arena, t.b...)
	for ; p.i < len(p.b); p.i++ {
		c := p.b[p.i]
		if c == '\\' && p.i+1 < len(p.b) && p.b[p.i+1] != '\n' && classes[p.b[p.i+1]]&end != 0 {
			p.i++
			c = p.b[p.i]
		} else if classes[c]&end != 0 {
			break
		}
		t.class |= classes[c]
		p.arena = append(p.arena, c)
	}
	t.b = p.arena[start:len(p.arena):len(p.arena)]
	return t
}

// tag parses key=value. A tag without a value is none, as with labels.
func (p *parser) tag() error {
	key := p.text(endsTag)
	if len(key.b) == 0 {
		return errTagKey
	}
	if p.at() != '=' {
		return errTagValue
	}
	p.i++
	value := p.text(endsTag)
	if p.at() == '=' {
		return errTagFormat
	}
	if len(value.b) > 0 {
		p.tags = append(p.tags, tag{key, value})
	}
	return nil
}

// field parses key=value and stops at a comma, a space or a line end.
func (p *parser) field() error {
	key := p.text(endsTag)
	if len(key.b) == 0 {
		return errFieldKey
	}
	if p.at() != '=' {
		return errFieldFormat
	}
	p.i++
	var value float64
	switch c := p.at(); {
	case c == '"':
		if err := p.quoted(); err != nil {
			return err
		}
		p.strings++
		return p.valueEnds()
	case c >= '0' && c <= '9', c == '-', c == '.':
		var err error
		if value, err = number(p.value()); err != nil {
			return err
		}
	default:
		token := p.value()
		if len(token) == 0 {
			return errFieldValue
		}
		var err error
		if value, err = boolean(token); err != nil {
			return err
		}
	}
	p.fields = append(p.fields, field{key, value})
	return p.valueEnds()
}

func (p *parser) valueEnds() error {
	if c := p.at(); c == ',' || c == ' ' || p.lineEnds() {
		return nil
	}
	return errFieldFormat
}

// value takes the bytes of a number or boolean.
func (p *parser) value() []byte {
	b, start := p.b, p.i
	i := start
	for i < len(b) && classes[b[i]]&endsValue == 0 {
		i++
	}
	p.i = i
	return b[start:i]
}

// quoted passes over a string, which may hold line ends.
func (p *parser) quoted() error {
	b := p.b
	for i := p.i + 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			p.i = i + 1
			return nil
		}
	}
	p.i = len(b)
	return errQuotes
}

// timestamp parses what may stand behind the fields, up to the line end.
func (p *parser) timestamp() error {
	p.spaces()
	if !p.lineEnds() {
		t, ok := integer(p.value())
		if !ok {
			return errTimestamp
		}
		p.time, p.hasTime = t, true
		p.spaces()
		if !p.lineEnds() {
			return errTimestamp
		}
	}
	p.skipLine()
	return nil
}

// precision is the unit of a request's timestamps.
type precision struct{ multiply, divide int64 }

// millis converts a timestamp.
func (u precision) millis(t int64) (int64, error) {
	if u.multiply > 1 {
		if t > math.MaxInt64/u.multiply || t < math.MinInt64/u.multiply {
			return 0, errTimeRange
		}
		return t * u.multiply, nil
	}
	return t / u.divide, nil
}

// precisionOf reads the query parameter of that name; both versions' units are
// understood.
func precisionOf(s string) (precision, bool) {
	switch s {
	case "", "n", "ns":
		return precision{1, 1e6}, true
	case "u", "us", "µ", "µs":
		return precision{1, 1e3}, true
	case "ms":
		return precision{1, 1}, true
	case "s":
		return precision{1e3, 1}, true
	case "m":
		return precision{60e3, 1}, true
	case "h":
		return precision{3600e3, 1}, true
	}
	return precision{}, false
}
