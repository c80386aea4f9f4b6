package remotewrite

import (
	"errors"
	"unicode/utf8"

	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
)

// decodeV1 decodes a prometheus.WriteRequest.
func (r *Request) decodeV1() error {
	b := r.body
	r.Metrics.Buf = b
	for i := 0; i < len(b); {
		num, wt, next := wire.Field(b, i)
		if next < 0 {
			return r.syntax(i, "no valid field tag")
		}
		if num != 1 && num != 3 {
			if next = wire.Skip(b, next, wt); next < 0 {
				return r.syntax(i, "field %d is cut short", num)
			}
			i = next
			continue
		}
		s, e := wire.Span(b, next)
		if wt != wire.Bytes || s < 0 {
			return r.syntax(i, "field %d is cut short or not a message", num)
		}
		var err error
		if num == 1 {
			err = r.seriesV1(s, e)
		} else {
			err = r.metadataV1(s, e)
		}
		if err != nil {
			return err
		}
		i = e
	}
	return nil
}

// seriesV1 decodes the TimeSeries message at [off, end).
func (r *Request) seriesV1(off, end int) error {
	b := r.body[:end]
	if r.fastOK {
		next, n, ok := canonicalPrefix(b, off)
		if ok && (r.limits.MaxLabels == 0 || n <= r.limits.MaxLabels) {
			r.beginRow(off, end)
			r.pairs = r.pairs[:0]
			err := r.fieldsV1(next, end, true)
			if err == nil {
				if r.rowIsEmpty() {
					return nil
				}
				return r.endRow(labels.HashCanonical(b[off:next]), signal.RangeOf(off, next), signal.RangeOf(off, end))
			}
			if !errors.Is(err, errNotContiguous) {
				return err
			}
			r.startOver()
		}
	}
	return r.slowSeriesV1(off, end)
}

// slowSeriesV1 decodes a series whose labels are not canonical or stand
// anywhere in the message.
func (r *Request) slowSeriesV1(off, end int) error {
	if err := r.collect(off, end); err != nil {
		return err
	}
	r.beginRow(off, end)
	reason, detail := r.checkPairs()
	if err := r.fieldsV1(off, end, false); err != nil {
		return err
	}
	if reason != wire.ReasonNone {
		r.refuseRow(reason, detail)
		return nil
	}
	if r.rowIsEmpty() {
		return nil
	}
	lset, ok := r.inPlace(off)
	if !ok {
		var err error
		if lset, err = r.appendPairs(); err != nil {
			return err
		}
	}
	return r.endRow(labels.HashCanonical(r.Metrics.Bytes(lset)), lset, signal.RangeOf(off, end))
}

// inPlace returns where the labels in r.pairs lie in canonical form, if that is
// at the start of the series at off: every name and value stands where the
// canonical form would have put it. This is for long or non-ASCII labels.
func (r *Request) inPlace(off int) (signal.ByteRange, bool) {
	pos := off
	for _, p := range r.pairs {
		name, value := int(p.name.Len), int(p.value.Len)
		l := 2 + uvarintLen(name) + name + uvarintLen(value) + value
		nameOff := pos + 1 + uvarintLen(l) + 1 + uvarintLen(name)
		if int(p.name.Off) != nameOff || int(p.value.Off) != nameOff+name+1+uvarintLen(value) {
			return signal.ByteRange{}, false
		}
		if got, _ := wire.Uvarint(r.body, pos+1); r.body[pos] != 0x0a || got != uint64(l) {
			return signal.ByteRange{}, false
		}
		pos += labels.Size(name, value)
	}
	return signal.RangeOf(off, pos), true
}

// rowIsEmpty reports whether nothing was kept of the series at hand.
func (r *Request) rowIsEmpty() bool {
	m := &r.Metrics
	if len(m.Times) > r.row.times || len(m.Histograms) > r.row.histograms || len(m.Exemplars) > r.row.exemplars {
		return false
	}
	r.takeBack()
	return true
}

// fieldsV1 decodes the fields at [i, end) of the series at hand. With fast set
// the labels before i are settled already and one that comes later is
// errNotContiguous; otherwise labels are passed over.
func (r *Request) fieldsV1(i, end int, fast bool) error {
	b := r.body[:end]
	for i < end {
		num, wt, next := wire.Field(b, i)
		if next < 0 {
			return r.syntax(i, "timeseries: no valid field tag")
		}
		if num > 4 {
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
		case 1:
			if fast {
				return errNotContiguous
			}
		case 2:
			err = r.sample(i, s, e)
		case 3:
			err = r.exemplar(i, s, e)
		case 4:
			err = r.histogram(i, s, e)
		}
		if err != nil {
			return err
		}
		i = e
	}
	return nil
}

// metadataV1 decodes the MetricMetadata message at [off, end).
func (r *Request) metadataV1(off, end int) error {
	b := r.body[:end]
	var typ uint64
	var family, help, unit []byte
	for i := off; i < end; {
		num, wt, next := wire.Field(b, i)
		isText := num == 2 || num == 4 || num == 5
		if next < 0 || num == 1 && wt != wire.Varint || isText && wt != wire.Bytes {
			return r.syntax(i, "metadata: no valid field tag")
		}
		val := next
		if next = wire.Skip(b, next, wt); next < 0 {
			return r.syntax(i, "metadata: field %d is cut short", num)
		}
		if num == 1 {
			typ, _ = wire.Uvarint(b, val)
		} else if isText {
			s, e := wire.Span(b, val)
			switch num {
			case 2:
				family = b[s:e]
			case 4:
				help = b[s:e]
			case 5:
				unit = b[s:e]
			}
		}
		i = next
	}
	if len(family) == 0 || !utf8.Valid(family) || !utf8.Valid(help) || !utf8.Valid(unit) {
		r.Rejects.ByReason[wire.ReasonInvalidMetadata]++
		if r.Rejects.First == nil {
			r.Rejects.First = &wire.InvalidError{Reason: wire.ReasonInvalidMetadata, Detail: "metadata: family " + quote(family) + " is empty, or a text is not valid UTF-8"}
		}
		return nil
	}
	var err error
	if r.metas, err = wire.Grow(&r.budget, r.metas, 8); err != nil {
		return err
	}
	r.metas = append(r.metas, signal.RangeOf(off, end))
	return r.addMetadata(int32(typ), family, help, unit)
}

// addMetadata appends an entry to the batch. The types of both versions have
// the same numbers.
func (r *Request) addMetadata(typ int32, family, help, unit []byte) error {
	m := &r.Metrics
	if err := r.budget.Charge(2 * (len(family) + len(help) + len(unit))); err != nil {
		return err
	}
	var err error
	if m.Metadata, err = wire.Grow(&r.budget, m.Metadata, 64); err != nil {
		return err
	}
	m.Metadata = append(m.Metadata, signal.Metadata{
		Family: r.intern(family), Type: metricType(typ), Help: r.intern(help), Unit: r.intern(unit),
	})
	return nil
}

func metricType(typ int32) string {
	switch typ {
	case 1:
		return "counter"
	case 2:
		return "gauge"
	case 3:
		return "histogram"
	case 4:
		return "gaugehistogram"
	case 5:
		return "summary"
	case 6:
		return "info"
	case 7:
		return "stateset"
	}
	return "unknown"
}
