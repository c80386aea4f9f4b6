package remotewrite

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
)

const metricName = "__name__"

// canonicalPrefix walks the labels at the start of a 1.0 series, b[i:], and
// returns the index behind them. ok says that they are canonical, in ASCII, and
// name a metric; otherwise the slow path finds out what they are. All lengths
// are then below 128, so one byte each, and one scan for high bits settles that
// and UTF-8 together.
func canonicalPrefix(b []byte, i int) (next, n int, ok bool) {
	start := i
	prev, prevEnd := i, i
	named := false
	for i < len(b) && b[i] == 0x0a {
		if i+8 > len(b) {
			return i, 0, false
		}
		end := i + 2 + int(b[i+1])
		q := i + 4 + int(b[i+3]) // the value's tag
		if end > len(b) || b[i+1] >= 0x80 || b[i+2] != 0x0a || q == i+4 || q+2 >= end ||
			b[q] != 0x12 || q+2+int(b[q+1]) != end {
			return i, 0, false
		}
		name := b[i+4 : q]
		if c, p := name[0], b[prev]; n > 0 && c <= p &&
			(c < p || string(b[prev:prevEnd]) >= string(name)) {
			return i, 0, false
		}
		if string(name) == metricName {
			named = true
		}
		prev, prevEnd = i+4, q
		n++
		i = end
	}
	return i, n, named && isASCII(b[start:i])
}

func isASCII(b []byte) bool {
	const high = 0x8080808080808080
	for len(b) >= 32 {
		w := binary.LittleEndian.Uint64(b) | binary.LittleEndian.Uint64(b[8:]) |
			binary.LittleEndian.Uint64(b[16:]) | binary.LittleEndian.Uint64(b[24:])
		if w&high != 0 {
			return false
		}
		b = b[32:]
	}
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b)&high != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

// label decodes the 1.0 Label message at [i, end) of the body.
func (r *Request) label(i, end int) (pair, error) {
	b := r.body[:end]
	p := pair{name: signal.RangeOf(i, i), value: signal.RangeOf(i, i)}
	for i < end {
		num, wt, next := wire.Field(b, i)
		if next < 0 {
			return p, r.syntax(i, "label: no valid field tag")
		}
		if num != 1 && num != 2 {
			if next = wire.Skip(b, next, wt); next < 0 {
				return p, r.syntax(i, "label: field %d is cut short", num)
			}
			i = next
			continue
		}
		if wt != wire.Bytes {
			return p, r.syntax(i, "label: field %d has wire type %d, want %d", num, wt, wire.Bytes)
		}
		s, e := wire.Span(b, next)
		if s < 0 {
			return p, r.syntax(i, "label: field %d is longer than the %d bytes left", num, end-next)
		}
		if num == 1 {
			p.name = signal.RangeOf(s, e)
		} else {
			p.value = signal.RangeOf(s, e)
		}
		i = e
	}
	return p, nil
}

// collect gathers all labels of the 1.0 series at [i, end) in r.pairs,
// wherever they stand.
func (r *Request) collect(i, end int) error {
	b := r.body[:end]
	r.pairs = r.pairs[:0]
	for i < end {
		num, wt, next := wire.Field(b, i)
		if next < 0 {
			return r.syntax(i, "timeseries: no valid field tag")
		}
		if num != 1 {
			if next = wire.Skip(b, next, wt); next < 0 {
				return r.syntax(i, "timeseries: field %d is cut short", num)
			}
			i = next
			continue
		}
		s, e := wire.Span(b, next)
		if wt != wire.Bytes || s < 0 {
			return r.syntax(i, "timeseries: labels are cut short or not a message")
		}
		p, err := r.label(s, e)
		if err != nil {
			return err
		}
		if r.pairs, err = wire.Grow(&r.budget, r.pairs, 16); err != nil {
			return err
		}
		r.pairs = append(r.pairs, p)
		i = e
	}
	return nil
}

func (r *Request) at(b signal.ByteRange) []byte { return r.body[b.Off : b.Off+b.Len] }

// checkPairs validates r.pairs, sorts them and takes empty values out.
func (r *Request) checkPairs() (wire.Reason, string) {
	named := false
	for _, p := range r.pairs {
		name, value := r.at(p.name), r.at(p.value)
		if reason, detail := r.checkLabel(name, value); reason != wire.ReasonNone {
			return reason, detail
		}
		if string(name) == metricName && len(value) > 0 {
			named = true
		}
	}
	if name := r.sortPairs(); name != nil {
		return wire.ReasonDuplicateLabel, "label " + quote(name) + " occurs twice"
	}
	if n, most := len(r.pairs), r.limits.MaxLabels; most > 0 && n > most {
		return wire.ReasonTooManyLabels, fmt.Sprintf("%d labels, want <= %d", n, most)
	}
	if !named {
		return wire.ReasonMissingMetricName, "label \"__name__\" is missing or empty"
	}
	return wire.ReasonNone, ""
}

// sortPairs sorts r.pairs by name and takes empty values out. It returns a name
// that occurs twice, or nil.
func (r *Request) sortPairs() (twice []byte) {
	byName := func(a, b pair) int { return bytes.Compare(r.at(a.name), r.at(b.name)) }
	if !slices.IsSortedFunc(r.pairs, byName) {
		slices.SortFunc(r.pairs, byName)
	}
	for i := 1; i < len(r.pairs); i++ {
		if byName(r.pairs[i-1], r.pairs[i]) == 0 {
			return r.at(r.pairs[i].name)
		}
	}
	r.pairs = slices.DeleteFunc(r.pairs, func(p pair) bool { return p.value.Len == 0 })
	return nil
}

func (r *Request) checkLabel(name, value []byte) (wire.Reason, string) {
	if len(name) == 0 {
		return wire.ReasonEmptyLabelName, "a label has an empty name"
	}
	if most := r.limits.MaxLabelNameBytes; most > 0 && len(name) > most {
		return wire.ReasonLabelNameTooLong, fmt.Sprintf("name of label %s: %d bytes, want <= %d", quote(name), len(name), most)
	}
	if most := r.limits.MaxLabelValueBytes; most > 0 && len(value) > most {
		return wire.ReasonLabelValueTooLong, fmt.Sprintf("value of label %s: %d bytes, want <= %d", quote(name), len(value), most)
	}
	if !utf8.Valid(name) {
		return wire.ReasonInvalidUTF8, "label name " + quote(name) + " is not valid UTF-8"
	}
	if !utf8.Valid(value) {
		return wire.ReasonInvalidUTF8, "value of label " + quote(name) + " is not valid UTF-8"
	}
	return wire.ReasonNone, ""
}

// appendPairs writes r.pairs in canonical form behind the batch's bytes.
func (r *Request) appendPairs() (signal.ByteRange, error) {
	size := 0
	for _, p := range r.pairs {
		size += labels.Size(int(p.name.Len), int(p.value.Len))
	}
	if err := r.growBuf(size); err != nil {
		return signal.ByteRange{}, err
	}
	buf := r.Metrics.Buf
	off := len(buf)
	for _, p := range r.pairs {
		buf = labels.Append(buf, r.at(p.name), r.at(p.value))
	}
	r.Metrics.Buf = buf
	return signal.RangeOf(off, len(buf)), nil
}

// growBuf makes room for n more bytes in the batch's Buf.
func (r *Request) growBuf(n int) (err error) {
	r.Metrics.Buf, err = wire.GrowBuf(&r.budget, r.Metrics.Buf, n)
	return err
}

func uvarintLen(n int) int {
	l := 1
	for ; n >= 0x80; n >>= 7 {
		l++
	}
	return l
}

// AppendText appends canonical labels to dst in the exposition format, at most
// about maxBytes of them.
func AppendText(dst, canonical []byte, maxBytes int) []byte {
	start := len(dst)
	dst = append(dst, '{')
	for n := 0; len(canonical) > 0; n++ {
		name, value, rest, err := labels.Next(canonical)
		if err != nil {
			break
		}
		if n > 0 {
			dst = append(dst, ", "...)
		}
		if len(dst)-start > maxBytes {
			dst = append(dst, "..."...)
			break
		}
		dst = appendPair(dst, name, value)
		canonical = rest
	}
	return append(dst, '}')
}

// seriesText shows the labels in r.pairs for an error message.
func (r *Request) seriesText() string {
	const most = 256
	dst := []byte{'{'}
	for i, p := range r.pairs {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		if len(dst) > most {
			dst = append(dst, "..."...)
			break
		}
		dst = appendPair(dst, r.at(p.name), r.at(p.value))
	}
	return string(append(dst, '}'))
}

func appendPair(dst, name, value []byte) []byte {
	const most = 64
	if len(name) > most {
		dst = append(dst, quote(name)...)
	} else if utf8.Valid(name) {
		dst = append(dst, name...)
	} else {
		dst = strconv.AppendQuote(dst, string(name))
	}
	dst = append(dst, '=')
	return append(dst, quote(value)...)
}

// quote shows b, cut short, for an error message.
func quote(b []byte) string {
	const most = 64
	if len(b) > most {
		return strconv.Quote(string(b[:most])) + "..."
	}
	return strconv.Quote(string(b))
}
