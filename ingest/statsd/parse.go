package statsd

import (
	"bytes"
	"math"
	"strconv"
	"unsafe"
)

// kind of an event or a series.
type kind uint8

const (
	counter kind = iota
	gauge
	set
	observer // timer, histogram or distribution
)

// event is one value of a line.
type event struct {
	name  []byte // as it came, with the tags of styles that put them there
	tags  []byte // of DogStatsD, as they came
	kind  kind
	value []byte
	timer bool    // in milliseconds
	rate  float64 // sampling rate, above 0
}

// drop is why an event is not counted in.
type drop uint8

const (
	dropMalformed drop = iota
	dropUnsupportedType
	dropConflict
	dropNegativeCounter
	dropSeriesLimit
	dropSetLimit
	dropTruncated
	dropTooLarge
	numDrops
)

func (d drop) String() string {
	return [numDrops]string{
		"malformed", "unsupported_type", "type_conflict", "negative_counter", "series_limit", "set_limit", "truncated", "frame_too_large",
	}[d]
}

// tally is what a packet held.
type tally struct {
	accepted int
	dropped  [numDrops]int
	events   int // of DogStatsD, which are not metrics
	checks   int
	sketches int // observations without a place among the quantiles
}

// lines takes every line of a packet into the table.
func (t *table) lines(packet []byte, n *tally) {
	for len(packet) > 0 {
		line := packet
		if i := bytes.IndexByte(packet, '\n'); i >= 0 {
			line, packet = packet[:i], packet[i+1:]
		} else {
			packet = nil
		}
		if k := len(line); k > 0 && line[k-1] == '\r' {
			line = line[:k-1]
		}
		if len(line) > 0 {
			t.line(line, n)
		}
	}
}

// line parses
//
//	name:value[:value…]|type[|@rate][|#tags][|…][:value…|type…]
//
// and takes its values in. Sections that are not known are passed over, as
// DogStatsD's container id (c:…) and timestamp (T…) are.
func (t *table) line(b []byte, n *tally) {
	if b[0] == '_' {
		switch {
		case bytes.HasPrefix(b, []byte("_e{")):
			n.events++
			return
		case bytes.HasPrefix(b, []byte("_sc|")):
			n.checks++
			return
		}
	}
	colon := bytes.IndexByte(b, ':')
	if colon <= 0 {
		n.dropped[dropMalformed]++
		return
	}
	e := event{name: b[:colon]}
	for rest := b[colon+1:]; ; {
		bar := bytes.IndexByte(rest, '|')
		if bar <= 0 {
			n.dropped[dropMalformed]++
			return
		}
		values := rest[:bar]
		var d drop
		var ok bool
		if rest, d, ok = e.sections(rest[bar+1:]); !ok {
			n.dropped[d] += 1 + bytes.Count(values, []byte{':'})
			return
		}
		t.values(&e, values, n)
		if rest == nil {
			return
		}
	}
}

// sections parses what stands behind the values: the type and all that follows
// up to the next value of the old form a:1|c:2|c. rest is nil if there is none.
func (e *event) sections(b []byte) (rest []byte, d drop, ok bool) {
	e.tags, e.rate, e.timer = nil, 1, false
	section, b, end := cut(b, true)
	switch string(section) {
	case "c":
		e.kind = counter
	case "g":
		e.kind = gauge
	case "ms":
		e.kind, e.timer = observer, true
	case "h", "d":
		e.kind = observer
	case "s":
		e.kind = set
	default:
		return nil, dropUnsupportedType, false
	}
	for end == '|' {
		isRate := len(b) > 0 && b[0] == '@'
		section, b, end = cut(b, isRate)
		switch {
		case isRate:
			rate, valid := number(section[1:])
			if !valid || rate < 0 || rate > 1 {
				return nil, dropMalformed, false
			}
			if rate > 0 { // 0 is no rate, as for other servers
				e.rate = rate
			}
		case len(section) > 0 && section[0] == '#':
			e.tags = section[1:]
		}
	}
	if end == ':' {
		return b, 0, true
	}
	return nil, 0, true
}

// cut splits a section off at a bar, or at a colon if that ends it, too. end is
// what it was, or 0.
func cut(b []byte, colon bool) (section, rest []byte, end byte) {
	for i, c := range b {
		if c == '|' || c == ':' && colon {
			return b[:i], b[i+1:], c
		}
	}
	return b, nil, 0
}

// values takes in all values of an event.
func (t *table) values(e *event, values []byte, n *tally) {
	s, d, ok := t.find(e)
	if !ok {
		n.dropped[d] += 1 + bytes.Count(values, []byte{':'})
		return
	}
	for values != nil {
		e.value = values
		if i := bytes.IndexByte(values, ':'); i >= 0 {
			e.value, values = values[:i], values[i+1:]
		} else {
			values = nil
		}
		if d, ok := t.take(s, e, n); ok {
			n.accepted++
		} else {
			n.dropped[d]++
		}
	}
}

// number parses a finite decimal number.
func number(b []byte) (float64, bool) {
	if len(b) == 0 || len(b) > 64 {
		return 0, false
	}
	if len(b) <= 15 { // an integer that is exact
		v, i := uint64(0), 0
		for ; i < len(b) && b[i]-'0' <= 9; i++ {
			v = v*10 + uint64(b[i]-'0')
		}
		if i == len(b) {
			return float64(v), true
		}
	}
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9', c == '.', c == '-', c == '+', c == 'e', c == 'E':
		default:
			return 0, false // strconv takes names and other bases
		}
	}
	// The string does not outlive the call.
	v, err := strconv.ParseFloat(unsafe.String(&b[0], len(b)), 64)
	return v, err == nil && !math.IsInf(v, 0)
}
