package remotewrite

import (
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/signal"
)

// sample decodes the Sample message at [i, end) of the series at hand, whose
// field begins at tag.
func (r *Request) sample(tag, i, end int) error {
	b := r.body[i:end]
	var v float64
	var t, st int64
	// Nearly every sample is a value followed by a timestamp.
	n := -1
	if len(b) > 10 && b[0] == 0x09 && b[9] == 0x10 {
		var u uint64
		v = math.Float64frombits(binary.LittleEndian.Uint64(b[1:]))
		u, n = wire.UvarintLong(b, 10)
		t = int64(u)
	}
	if n != len(b) {
		var err error
		if v, t, st, err = r.sampleFields(i, end); err != nil {
			return err
		}
	}
	r.row.samplesSeen = true
	if t > r.maxTime {
		return r.refuseFuture(tag, end, t, &r.Rejects.Samples)
	}
	m := &r.Metrics
	if len(m.Times) == cap(m.Times) || len(m.Values) == cap(m.Values) {
		var err error
		if m.Times, err = wire.Grow(&r.budget, m.Times, 8); err != nil {
			return err
		}
		if m.Values, err = wire.Grow(&r.budget, m.Values, 8); err != nil {
			return err
		}
	}
	m.Times = append(m.Times, t)
	m.Values = append(m.Values, v)
	if st != 0 {
		return r.setStart(st)
	}
	return nil
}

// sampleFields decodes a sample whose fields stand in any order.
func (r *Request) sampleFields(i, end int) (v float64, t, st int64, err error) {
	b := r.body[:end]
	for i < end {
		num, wt, next := wire.Field(b, i)
		if next < 0 || num == 1 && wt != wire.Fixed64 || num == 2 && wt != wire.Varint {
			return 0, 0, 0, r.syntax(i, "sample: no valid field tag")
		}
		if num == 3 && wt != wire.Varint && r.format == buffer.FormatRemoteWriteV2 {
			return 0, 0, 0, r.syntax(i, "sample: no valid field tag")
		}
		val := next
		if next = wire.Skip(b, next, wt); next < 0 {
			return 0, 0, 0, r.syntax(i, "sample: field %d is cut short", num)
		}
		switch {
		case num == 1:
			v = math.Float64frombits(binary.LittleEndian.Uint64(b[val:]))
		case num == 2:
			u, _ := wire.Uvarint(b, val)
			t = int64(u)
		case num == 3 && wt == wire.Varint:
			u, _ := wire.Uvarint(b, val)
			st = int64(u)
		}
		i = next
	}
	return v, t, st, nil
}

// setStart sets the start timestamp of the last sample.
func (r *Request) setStart(st int64) error {
	m := &r.Metrics
	if cap(m.Starts) < len(m.Times) {
		if err := r.budget.Charge(8 * (cap(m.Times) - cap(m.Starts))); err != nil {
			return err
		}
		bigger := make([]int64, len(m.Starts), cap(m.Times))
		copy(bigger, m.Starts)
		m.Starts = bigger
	}
	r.padStarts()
	m.Starts[len(m.Starts)-1] = st
	return nil
}

// padStarts makes the start column as long as Times.
func (r *Request) padStarts() {
	m := &r.Metrics
	for len(m.Starts) < len(m.Times) {
		m.Starts = append(m.Starts, 0)
	}
}

// refuseFuture leaves the sample or exemplar whose field is [tag, end) out.
func (r *Request) refuseFuture(tag, end int, t int64, count *int) error {
	detail := ""
	if r.Rejects.First == nil {
		detail = fmt.Sprintf("timestamp %d is too far in the future, want <= %d", t, r.maxTime)
	}
	return r.refuseField(tag, end, wire.ReasonTooFarInFuture, detail, count)
}

// refuseField leaves the field at [tag, end) of the series at hand out.
func (r *Request) refuseField(tag, end int, reason wire.Reason, detail string, count *int) error {
	if !r.row.refused {
		r.row.refused = true
		r.before = r.Rejects
	}
	*count++
	r.Rejects.ByReason[reason]++
	if r.Rejects.First == nil {
		r.describe()
		r.noteFirst(reason, detail)
	}
	var err error
	if r.drops, err = wire.Grow(&r.budget, r.drops, 8); err != nil {
		return err
	}
	r.drops = append(r.drops, signal.RangeOf(tag, end))
	return nil
}

// describe fills r.pairs for an error message where only the slow path has.
func (r *Request) describe() {
	if len(r.pairs) > 0 {
		return
	}
	if r.format == buffer.FormatRemoteWriteV1 {
		_ = r.collect(r.row.off, r.row.end) // what is gathered before an error is good enough
	} else {
		_ = r.resolve(r.refs)
	}
}

// exemplar decodes the Exemplar message at [i, end) of the series at hand,
// whose field begins at tag.
func (r *Request) exemplar(tag, i, end int) error {
	b := r.body[:end]
	e := signal.Exemplar{Series: uint32(len(r.Metrics.Hash))}
	pairs := len(r.pairs)
	r.exRefs = r.exRefs[:0]
	for i < end {
		num, wt, next := wire.Field(b, i)
		if next < 0 || num == 2 && wt != wire.Fixed64 || num == 3 && wt != wire.Varint {
			return r.syntax(i, "exemplar: no valid field tag")
		}
		if num == 1 {
			var err error
			if i, err = r.exemplarLabels(wt, next, end); err != nil {
				return err
			}
			continue
		}
		val := next
		if next = wire.Skip(b, next, wt); next < 0 {
			return r.syntax(i, "exemplar: field %d is cut short", num)
		}
		switch num {
		case 2:
			e.Value = math.Float64frombits(binary.LittleEndian.Uint64(b[val:]))
		case 3:
			u, _ := wire.Uvarint(b, val)
			e.Time = int64(u)
		}
		i = next
	}
	err := r.endExemplar(e, tag, end, pairs)
	r.pairs = r.pairs[:pairs]
	return err
}

// exemplarLabels decodes one labels field of an exemplar at i: a Label message,
// which goes to r.pairs, or references, which go to r.exRefs.
func (r *Request) exemplarLabels(wt, i, end int) (next int, err error) {
	if r.format == buffer.FormatRemoteWriteV2 {
		r.exRefs, next, err = r.uint32s(r.exRefs, wt, i, end)
		return next, err
	}
	s, e := wire.Span(r.body[:end], i)
	if wt != wire.Bytes || s < 0 {
		return 0, r.syntax(i, "exemplar: labels are cut short or not a message")
	}
	p, err := r.label(s, e)
	if err != nil {
		return 0, err
	}
	if r.pairs, err = wire.Grow(&r.budget, r.pairs, 16); err != nil {
		return 0, err
	}
	r.pairs = append(r.pairs, p)
	return e, nil
}

// endExemplar settles the labels that the exemplar has put behind the first
// pairs entries of r.pairs or into r.exRefs, and keeps or refuses it.
func (r *Request) endExemplar(e signal.Exemplar, tag, end, pairs int) error {
	detail := ""
	if r.format == buffer.FormatRemoteWriteV2 {
		detail = r.resolve(r.exRefs)
	}
	all := r.pairs
	if detail == "" {
		r.pairs = all[pairs:]
		detail = r.checkExemplarLabels()
	}
	if detail != "" {
		r.pairs = all[:pairs]
		return r.refuseField(tag, end, wire.ReasonInvalidExemplar, "exemplar: "+detail, &r.Rejects.Exemplars)
	}
	if e.Time > r.maxTime {
		r.pairs = all[:pairs]
		return r.refuseFuture(tag, end, e.Time, &r.Rejects.Exemplars)
	}
	var err error
	e.Labels, err = r.appendPairs()
	r.pairs = all[:pairs]
	if err != nil {
		return err
	}
	m := &r.Metrics
	if m.Exemplars, err = wire.Grow(&r.budget, m.Exemplars, 32); err != nil {
		return err
	}
	m.Exemplars = append(m.Exemplars, e)
	return nil
}

// maxExemplarRunes is Prometheus's limit on an exemplar's label set.
const maxExemplarRunes = 128

func (r *Request) checkExemplarLabels() (detail string) {
	runes := 0
	for _, p := range r.pairs {
		name, value := r.at(p.name), r.at(p.value)
		if len(name) == 0 || !utf8.Valid(name) || !utf8.Valid(value) {
			return "label " + quote(name) + " has an empty name or is not valid UTF-8"
		}
		runes += utf8.RuneCount(name) + utf8.RuneCount(value)
	}
	if runes > maxExemplarRunes {
		return fmt.Sprintf("labels have %d characters, want <= %d", runes, maxExemplarRunes)
	}
	if name := r.sortPairs(); name != nil {
		return "label " + quote(name) + " occurs twice"
	}
	return ""
}
