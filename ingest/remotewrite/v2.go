package remotewrite

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
)

// symbol is an entry of the symbols table; it lies in the body.
type symbol struct {
	text  signal.ByteRange
	clean bool // valid UTF-8, and not longer than a label's name or value may be
}

// metaRefs is the metadata of a 2.0 series.
type metaRefs struct {
	typ        int32
	help, unit uint32
}

// decodeV2 decodes an io.prometheus.write.v2.Request: first all symbols, which
// may stand anywhere, then the series.
func (r *Request) decodeV2() error {
	if err := r.eachV2(4, r.addSymbol); err != nil {
		return err
	}
	return r.eachV2(5, r.seriesV2)
}

// eachV2 calls f with the bounds of every top-level field of the given number.
func (r *Request) eachV2(want int32, f func(off, end int) error) error {
	b := r.body
	for i := 0; i < len(b); {
		num, wt, next := wire.Field(b, i)
		if next < 0 {
			return r.syntax(i, "no valid field tag")
		}
		if num != 4 && num != 5 {
			if next = wire.Skip(b, next, wt); next < 0 {
				return r.syntax(i, "field %d is cut short", num)
			}
			i = next
			continue
		}
		s, e := wire.Span(b, next)
		if wt != wire.Bytes || s < 0 {
			return r.syntax(i, "field %d is cut short or has a wrong wire type", num)
		}
		if num == want {
			if err := f(s, e); err != nil {
				return err
			}
		}
		i = e
	}
	return nil
}

func (r *Request) addSymbol(off, end int) error {
	var err error
	if r.symbols, err = wire.Grow(&r.budget, r.symbols, 12); err != nil {
		return err
	}
	n := end - off
	l := &r.limits
	clean := utf8.Valid(r.body[off:end]) &&
		(l.MaxLabelNameBytes == 0 || n <= l.MaxLabelNameBytes) &&
		(l.MaxLabelValueBytes == 0 || n <= l.MaxLabelValueBytes)
	r.symbols = append(r.symbols, symbol{signal.RangeOf(off, end), clean})
	return nil
}

// seriesV2 decodes the TimeSeries message at [off, end).
func (r *Request) seriesV2(off, end int) error {
	r.beginRow(off, end)
	r.refs, r.pairs = r.refs[:0], r.pairs[:0]
	r.meta = metaRefs{}
	if err := r.fieldsV2(off, end); err != nil {
		return err
	}
	r.pairs = r.pairs[:0]
	lset, name, ok, err := r.canonicalRefs()
	if err != nil {
		return err
	}
	if !ok {
		reason, detail := wire.ReasonBadReference, r.resolve(r.refs)
		if detail == "" {
			reason, detail = r.checkPairs()
		}
		if reason != wire.ReasonNone {
			r.refuseRow(reason, detail)
			return nil
		}
		if lset, err = r.appendPairs(); err != nil {
			return err
		}
		name = r.nameOfPairs()
	}
	if n := uint32(len(r.symbols)); r.meta.help >= n && r.meta.help > 0 || r.meta.unit >= n && r.meta.unit > 0 {
		r.describe()
		r.refuseRow(wire.ReasonBadReference, fmt.Sprintf("metadata refers to symbol %d, but there are %d", max(r.meta.help, r.meta.unit), n))
		return nil
	}
	if !r.row.samplesSeen {
		r.describe()
		r.refuseRow(wire.ReasonNoSamples, "a series needs at least one sample or histogram")
		return nil
	}
	m := &r.Metrics
	if len(m.Times) == r.row.times && len(m.Histograms) == r.row.histograms {
		// Every sample was refused, so the exemplars have nothing to stand on.
		r.Rejects.Exemplars += len(m.Exemplars) - r.row.exemplars
		r.takeBack()
		return nil
	}
	if err := r.endRow(labels.HashCanonical(m.Bytes(lset)), lset, signal.RangeOf(off, end)); err != nil {
		return err
	}
	r.remember(ok)
	if r.meta != (metaRefs{}) {
		return r.addSeriesMetadata(name)
	}
	return nil
}

// fieldsV2 decodes the fields of the series at hand.
func (r *Request) fieldsV2(i, end int) error {
	b := r.body[:end]
	for i < end {
		num, wt, next := wire.Field(b, i)
		if next < 0 {
			return r.syntax(i, "timeseries: no valid field tag")
		}
		if num == 1 {
			var err error
			if r.refs, i, err = r.uint32s(r.refs, wt, next, end); err != nil {
				return err
			}
			continue
		}
		if num > 5 {
			if next = wire.Skip(b, next, wt); next < 0 {
				return r.syntax(i, "timeseries: field %d is cut short", num)
			}
			i = next
			continue
		}
		s, e := wire.Span(b, next)
		if wt != wire.Bytes || s < 0 {
			return r.syntax(i, "timeseries: field %d is cut short or not a message", num)
		}
		var err error
		switch num {
		case 2:
			err = r.sample(i, s, e)
		case 3:
			err = r.histogram(i, s, e)
		case 4:
			err = r.exemplar(i, s, e)
		case 5:
			err = r.metadataV2(s, e)
		}
		if err != nil {
			return err
		}
		i = e
	}
	return nil
}

// uint32s appends the packed or single values of a repeated uint32 field whose
// content begins at i.
func (r *Request) uint32s(dst []uint32, wt, i, end int) (_ []uint32, next int, err error) {
	b := r.body[:end]
	e := end
	switch wt {
	case wire.Bytes:
		var s int
		if s, e = wire.Span(b, i); s < 0 {
			return dst, 0, r.syntax(i, "references are cut short")
		}
		i = s
		b = b[:e]
	case wire.Varint:
		_, e = wire.Uvarint(b, i)
	default:
		return dst, 0, r.syntax(i, "references have wire type %d", wt)
	}
	for i < e {
		// Nearly every reference has one byte or two.
		var v uint64
		next := i + 1
		switch {
		case b[i] < 0x80:
			v = uint64(b[i])
		case i+1 < len(b) && b[i+1] < 0x80:
			v, next = uint64(b[i]&0x7f)|uint64(b[i+1])<<7, i+2
		default:
			if v, next = wire.UvarintLong(b, i); next < 0 {
				return dst, 0, r.syntax(i, "a reference is cut short")
			}
		}
		if len(dst) == cap(dst) {
			if dst, err = wire.Grow(&r.budget, dst, 4); err != nil {
				return dst, 0, err
			}
		}
		dst = append(dst, uint32(v))
		i = next
	}
	if e < 0 {
		return dst, 0, r.syntax(i, "a reference is cut short")
	}
	return dst, e, nil
}

// layout remembers how the labels of a series were written, since the next one
// tends to differ in few of them.
type layout struct {
	refs []uint32 // name and value of every label
	offs []uint32 // where label k begins in the batch's Buf, and where the last ends
	name int      // index of the metric name
}

// canonicalRefs writes the labels of the series at hand in canonical form if
// they are sorted, clean and name a metric; otherwise ok is false and the slow
// path finds out what they are. Labels that the series before had in the same
// place are checked already and are copied in runs.
func (r *Request) canonicalRefs() (lset signal.ByteRange, name []byte, ok bool, err error) {
	refs, prev := r.refs, r.prev.refs
	if len(refs) == 0 || len(refs)%2 != 0 || r.limits.MaxLabels > 0 && len(refs) > 2*r.limits.MaxLabels {
		return lset, nil, false, nil
	}
	off := len(r.Metrics.Buf)
	offs := r.offs[:0]
	named := -1
	if len(prev) != len(refs) {
		prev = nil
	} else if n := r.prev.name; refs[2*n] == prev[2*n] {
		named = n
	}
	newName := true // the label before has another name than its predecessor had
	for k := 0; k < len(refs); {
		begin := k
		if prev != nil {
			for k < len(refs) && refs[k] == prev[k] && refs[k+1] == prev[k+1] {
				k += 2
			}
		}
		if k > begin {
			if newName && begin > 0 && !r.ordered(refs[begin-2], refs[begin]) {
				return r.notCanonical(off)
			}
			if offs, err = r.copyRun(offs, begin/2, k/2); err != nil {
				return lset, nil, false, err
			}
			newName = false
			continue
		}
		sameName := prev != nil && refs[k] == prev[k]
		n, v := refs[k], refs[k+1]
		if n >= uint32(len(r.symbols)) || v >= uint32(len(r.symbols)) {
			return r.notCanonical(off)
		}
		sn, sv := &r.symbols[n], &r.symbols[v]
		if !sn.clean || !sv.clean || sn.text.Len == 0 || sv.text.Len == 0 ||
			k > 0 && (newName || !sameName) && !r.ordered(refs[k-2], n) {
			return r.notCanonical(off)
		}
		label := r.at(sn.text)
		if named < 0 && string(label) == metricName {
			named = k / 2
		}
		if err := r.growBuf(16 + len(label) + int(sv.text.Len)); err != nil {
			return lset, nil, false, err
		}
		buf := r.Metrics.Buf
		offs = append(offs, uint32(len(buf)))
		r.Metrics.Buf = buf[:putLabel(buf[:cap(buf)], len(buf), label, r.at(sv.text))]
		newName = !sameName
		k += 2
	}
	end := len(r.Metrics.Buf)
	r.offs = append(offs, uint32(end))
	if named < 0 {
		return r.notCanonical(off)
	}
	r.named = named
	return signal.RangeOf(off, end), r.at(r.symbols[refs[2*named+1]].text), true, nil
}

func (r *Request) notCanonical(off int) (signal.ByteRange, []byte, bool, error) {
	r.Metrics.Buf = r.Metrics.Buf[:off]
	return signal.ByteRange{}, nil, false, nil
}

// ordered reports whether the name a sorts before b.
func (r *Request) ordered(a, b uint32) bool {
	return string(r.at(r.symbols[a].text)) < string(r.at(r.symbols[b].text))
}

// copyRun copies labels [from, to) of the series before.
func (r *Request) copyRun(offs []uint32, from, to int) ([]uint32, error) {
	begin, end := r.prev.offs[from], r.prev.offs[to]
	if err := r.growBuf(int(end - begin)); err != nil {
		return offs, err
	}
	buf := r.Metrics.Buf
	shift := uint32(len(buf)) - begin
	for _, o := range r.prev.offs[from:to] {
		offs = append(offs, o+shift)
	}
	r.Metrics.Buf = append(buf, buf[begin:end]...)
	return offs, nil
}

// remember keeps the layout of the series that has just been added.
func (r *Request) remember(canonical bool) {
	if !canonical {
		r.prev.refs = r.prev.refs[:0]
		return
	}
	r.prev.refs, r.refs = r.refs, r.prev.refs
	r.prev.offs, r.offs = r.offs, r.prev.offs
	r.prev.name = r.named
}

// putLabel writes a label in canonical form at dst[i:], which has room for it,
// and returns the index behind it.
func putLabel(dst []byte, i int, name, value []byte) int {
	l := 4 + len(name) + len(value)
	if l >= 0x80 {
		l += uvarintLen(len(name)) + uvarintLen(len(value)) - 2
	}
	dst[i] = 0x0a
	i = putUvarint(dst, i+1, l)
	dst[i] = 0x0a
	i = putUvarint(dst, i+1, len(name))
	i += copy(dst[i:], name)
	dst[i] = 0x12
	i = putUvarint(dst, i+1, len(value))
	return i + copy(dst[i:], value)
}

func putUvarint(dst []byte, i, v int) int {
	if v < 0x80 {
		dst[i] = byte(v)
		return i + 1
	}
	return i + binary.PutUvarint(dst[i:], uint64(v))
}

// resolve appends the labels that refs stand for to r.pairs; detail says what is
// wrong with them.
func (r *Request) resolve(refs []uint32) (detail string) {
	if len(refs)%2 != 0 {
		return fmt.Sprintf("%d label references, want an even number", len(refs))
	}
	for k := 0; k < len(refs); k += 2 {
		n, v := refs[k], refs[k+1]
		if most := uint32(len(r.symbols)); n >= most || v >= most {
			return fmt.Sprintf("a label refers to symbol %d, but there are %d", max(n, v), most)
		}
		r.pairs = append(r.pairs, pair{r.symbols[n].text, r.symbols[v].text})
	}
	return ""
}

// nameOfPairs returns the metric name among r.pairs, which have been checked.
func (r *Request) nameOfPairs() []byte {
	for _, p := range r.pairs {
		if string(r.at(p.name)) == metricName {
			return r.at(p.value)
		}
	}
	return nil
}

// metadataV2 decodes the Metadata message at [i, end) of the series at hand.
func (r *Request) metadataV2(i, end int) error {
	b := r.body[:end]
	for i < end {
		num, wt, next := wire.Field(b, i)
		known := num == 1 || num == 3 || num == 4
		if next < 0 || known && wt != wire.Varint {
			return r.syntax(i, "metadata: no valid field tag")
		}
		val := next
		if next = wire.Skip(b, next, wt); next < 0 {
			return r.syntax(i, "metadata: field %d is cut short", num)
		}
		if known {
			v, _ := wire.Uvarint(b, val)
			switch num {
			case 1:
				r.meta.typ = int32(v)
			case 3:
				r.meta.help = uint32(v)
			case 4:
				r.meta.unit = uint32(v)
			}
		}
		i = next
	}
	return nil
}

// addSeriesMetadata turns the metadata of a series into that of its family,
// unless the series before it has said the same.
func (r *Request) addSeriesMetadata(name []byte) error {
	family := familyOf(name, r.meta.typ)
	m := &r.Metrics
	if n := len(m.Metadata); n > 0 && r.meta == r.last && m.Metadata[n-1].Family == string(family) {
		return nil
	}
	var help, unit []byte
	if n := uint32(len(r.symbols)); r.meta.help < n && r.meta.unit < n {
		h, u := r.symbols[r.meta.help], r.symbols[r.meta.unit]
		help, unit = r.at(h.text), r.at(u.text)
		if !utf8.Valid(help) || !utf8.Valid(unit) {
			return nil
		}
	}
	r.last = r.meta
	return r.addMetadata(r.meta.typ, family, help, unit)
}

// familyOf returns the metric family of a series: 2.0 hangs metadata on series,
// so the parts of a classic histogram or summary share one.
func familyOf(name []byte, typ int32) []byte {
	var suffixes []string
	switch metricType(typ) {
	case "histogram":
		suffixes = []string{"_bucket", "_count", "_sum"}
	case "gaugehistogram":
		suffixes = []string{"_bucket", "_gcount", "_gsum"}
	case "summary":
		suffixes = []string{"_count", "_sum"}
	}
	for _, s := range suffixes {
		if cut, ok := bytes.CutSuffix(name, []byte(s)); ok && len(cut) > 0 {
			return cut
		}
	}
	return name
}
