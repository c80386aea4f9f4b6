package otlp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/vedette-io/vedette/ingest/remotewrite"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
)

// writeRows writes the rows of the point at hand from r.build.seg and, if it is
// to be remembered and there is room, puts them into the cache.
func (r *Request) writeRows(key labels.Hash, s shape, remember bool) ([]series, error) {
	u, c := &r.build, &r.cache
	name := r.mt.promName
	if s == shapeTarget {
		name = targetInfo
	}
	texts, longest := r.texts(s)
	suffix := 0
	if s == shapeClassic || s == shapeSummary {
		suffix = len("_bucket")
	}
	u.m.name = max(u.m.name, uint32(len(metricLabel)))
	u.m.value = max(u.m.value, uint32(len(name)+suffix), uint32(longest))
	if !utf8.ValidString(name) {
		r.refuseRows(s, &labelError{wire.ReasonInvalidUTF8, "the metric's name is not valid UTF-8"})
		return nil, nil
	}
	if !r.fits(u.m) {
		r.refuseRows(s, r.tooLarge())
		return nil, nil
	}
	c.rows = c.rows[:c.kept]
	first := c.kept
	var err error
	if c.rows, err = grow(&r.budget, c.rows, 4+len(texts), 24); err != nil {
		return nil, err
	}
	if s == shapeSingle || s == shapeTarget {
		err = r.writeRow(name, "", "", "")
	} else {
		err = r.writeGroup(name, s, texts)
	}
	if err != nil {
		return nil, err
	}
	rows := c.rows[first:]
	if !remember || c.full(len(r.Metrics.Buf)) {
		return rows, nil
	}
	c.kept, c.bytes = len(c.rows), len(r.Metrics.Buf)
	return rows, r.remember(entry{key: key, first: uint32(first), n: uint32(len(rows)), measures: u.m})
}

// remember puts an entry into the cache.
func (r *Request) remember(e entry) error {
	c := &r.cache
	if n := c.needsSlots(); n > 0 {
		if err := r.budget.Charge(40 * n); err != nil {
			return err
		}
		c.rehash(n)
	}
	c.put(e)
	return nil
}

// rememberNone remembers that a key has no rows.
func (r *Request) rememberNone(key labels.Hash) error {
	if r.cache.full(len(r.Metrics.Buf)) || r.cache.find(key) != nil {
		return nil
	}
	return r.remember(entry{key: key, first: 1})
}

// writeGroup writes the rows of a classic histogram or a summary: the hash of
// the base series, _sum, _count, and one for each of texts.
func (r *Request) writeGroup(name string, s shape, texts []string) error {
	u, c := &r.build, &r.cache
	n := len(u.seg)
	base := append(u.seg, u.seg[:u.name]...)
	base = appendText(base, metricLabel, name, "")
	base = append(base, u.seg[u.name:u.extra]...)
	base = append(base, u.seg[u.rest:n]...)
	c.rows = append(c.rows, series{hash: labels.HashCanonical(base[n:])})
	u.seg = base[:n]
	if err := r.writeRow(name, "_sum", "", ""); err != nil {
		return err
	}
	if err := r.writeRow(name, "_count", "", ""); err != nil {
		return err
	}
	suffix := ""
	if s == shapeClassic {
		suffix = "_bucket"
	}
	for _, text := range texts {
		if err := r.writeRow(name, suffix, s.extra(), text); err != nil {
			return err
		}
	}
	return nil
}

// writeRow writes one row: the labels in r.build.seg with the metric's name and,
// if there is one, the extra label in place of the attribute of that name.
func (r *Request) writeRow(name, suffix, extra, text string) error {
	u := &r.build
	if err := r.growBuf(len(u.seg) + len(name) + len(text) + 64); err != nil {
		return err
	}
	buf := r.Metrics.Buf
	off := len(buf)
	buf = append(buf, u.seg[:u.name]...)
	buf = appendText(buf, metricLabel, name, suffix)
	buf = append(buf, u.seg[u.name:u.extra]...)
	if extra == "" {
		buf = append(buf, u.seg[u.extra:]...)
	} else {
		buf = appendText(buf, extra, text, "")
		buf = append(buf, u.seg[u.rest:]...)
	}
	r.Metrics.Buf = buf
	r.cache.rows = append(r.cache.rows, series{hash: labels.HashCanonical(buf[off:]), labels: signal.RangeOf(off, len(buf))})
	return nil
}

// appendText appends a label whose value is value+suffix in canonical form.
func appendText(dst []byte, name, value, suffix string) []byte {
	n := 4 + len(name) + len(value) + len(suffix)
	if n >= 0x80 {
		return labels.Append(dst, name, value+suffix)
	}
	dst = append(dst, 0x0a, byte(n), 0x0a, byte(len(name)))
	dst = append(dst, name...)
	dst = append(dst, 0x12, byte(len(value)+len(suffix)))
	dst = append(dst, value...)
	return append(dst, suffix...)
}

// texts returns the values of the extra label of the point at hand, and the
// length of the longest: its bounds with +Inf, or its quantiles. Neighbours tend
// to have the same.
func (r *Request) texts(s shape) (texts []string, longest int) {
	u := &r.build
	if s != shapeClassic && s != shapeSummary {
		return nil, 0
	}
	if len(u.texts) == 0 || !bytes.Equal(u.textBounds, r.pt.bounds) {
		u.textBounds = append(u.textBounds[:0], r.pt.bounds...)
		u.texts = u.texts[:0]
		for i := 0; i < len(r.pt.bounds); i += 8 {
			f := math.Float64frombits(binary.LittleEndian.Uint64(r.pt.bounds[i:]))
			u.texts = append(u.texts, strconv.FormatFloat(f, 'f', -1, 64))
		}
		u.texts = append(u.texts, "+Inf")
	}
	texts = u.texts
	if s == shapeSummary {
		texts = texts[:len(texts)-1]
	}
	for _, t := range texts {
		longest = max(longest, len(t))
	}
	return texts, longest
}

// tooLarge describes what of a point's labels exceeds a limit.
func (r *Request) tooLarge() *labelError {
	u, l := &r.build, &r.limits
	if most := l.MaxLabels; most > 0 && int(u.m.labels) > most {
		return &labelError{wire.ReasonTooManyLabels, fmt.Sprintf("%d labels, want <= %d", u.m.labels, most)}
	}
	for b := u.seg; len(b) > 0; {
		name, value, rest, err := labels.Next(b)
		if err != nil {
			break
		}
		if most := l.MaxLabelNameBytes; most > 0 && len(name) > most {
			return &labelError{wire.ReasonLabelNameTooLong, fmt.Sprintf("name of label %.64q: %d bytes, want <= %d", name, len(name), most)}
		}
		if most := l.MaxLabelValueBytes; most > 0 && len(value) > most {
			return &labelError{wire.ReasonLabelValueTooLong, fmt.Sprintf("value of label %.64q: %d bytes, want <= %d", name, len(value), most)}
		}
		b = rest
	}
	if most := l.MaxLabelNameBytes; most > 0 && len(metricLabel) > most {
		return &labelError{wire.ReasonLabelNameTooLong, fmt.Sprintf("name of label %q: %d bytes, want <= %d", metricLabel, len(metricLabel), most)}
	}
	return &labelError{wire.ReasonLabelValueTooLong, fmt.Sprintf("the metric's name or a bound: %d bytes, want <= %d", u.m.value, l.MaxLabelValueBytes)}
}

// refuseRows refuses the point at hand, or the target_info, whose labels have
// been built.
func (r *Request) refuseRows(s shape, e *labelError) {
	if s == shapeTarget {
		r.refuseTarget(e.reason, e.detail)
		return
	}
	series := ""
	if u := &r.build; r.Rejects.First == nil {
		lset := append([]byte{}, u.seg[:u.name]...)
		lset = appendText(lset, metricLabel, r.mt.promName, "")
		lset = append(lset, u.seg[u.name:]...)
		series = string(remotewrite.AppendText(nil, lset, 256))
	}
	r.refusePointOf(e.reason, e.detail, series)
}
