package otlp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
)

// maxExemplarRunes is Prometheus's limit on an exemplar's label set.
const maxExemplarRunes = 128

// exemplars holds those of the point at hand until it is clear where they go.
type exemplars struct {
	list        []signal.Exemplar // Labels.Off is in buf
	attached    int
	buf         []byte // labels of all exemplars of the request
	pairs       []pair
	vals        []byte
	bufBefore   int // length of buf before the point at hand
	dropsBefore int
}

// begin forgets the exemplars of the point before.
func (x *exemplars) begin(drops int) {
	x.list, x.attached = x.list[:0], 0
	x.bufBefore, x.dropsBefore = len(x.buf), drops
}

// takeBack takes the labels of the point at hand out of buf.
func (x *exemplars) takeBack() { x.buf = x.buf[:x.bufBefore] }

func (x *exemplars) reset() {
	x.list, x.buf, x.vals = x.list[:0], x.buf[:0], x.vals[:0]
	clear(x.pairs)
	x.pairs = x.pairs[:0]
}

func (x *exemplars) capBytes() int {
	return 32*cap(x.list) + cap(x.buf) + cap(x.vals) + 96*cap(x.pairs)
}

// exemplar decodes the Exemplar message at [i, end) of the point at hand, whose
// field begins at tag. A bad one is refused, the point is kept.
func (r *Request) exemplar(tag, i, end int) error {
	const what = "exemplar"
	x := &r.ex
	x.pairs, x.vals = x.pairs[:0], x.vals[:0]
	var e signal.Exemplar
	var trace, span []byte
	hasValue := false
	b := r.body[:end]
	for i < end {
		num, wt, s, next, err := r.field(b, i, what)
		if err != nil {
			return err
		}
		want := wt
		switch num {
		case 2, 3, 6:
			want = wire.Fixed64
		case 4, 5, 7:
			want = wire.Bytes
		}
		if wt != want {
			return r.wrongType(i, what, num, wt, want)
		}
		switch num {
		case 2:
			e.Time = floorMillis(int64(binary.LittleEndian.Uint64(b[s:])))
		case 3:
			e.Value, hasValue = math.Float64frombits(binary.LittleEndian.Uint64(b[s:])), true
		case 6:
			e.Value, hasValue = float64(int64(binary.LittleEndian.Uint64(b[s:]))), true
		case 4:
			if span, err = r.id(b[s:next], 8, i); err != nil {
				return err
			}
		case 5:
			if trace, err = r.id(b[s:next], 16, i); err != nil {
				return err
			}
		case 7:
			if err := r.exemplarAttribute(b[s:next], s); err != nil {
				return err
			}
		}
		i = next
	}
	detail := ""
	if !hasValue {
		detail = "it has no value"
	} else {
		detail = r.exemplarLabels(trace, span)
	}
	if detail != "" {
		return r.dropExemplar(tag, end, wire.ReasonInvalidExemplar, detail)
	}
	if e.Time > r.maxTime {
		return r.dropExemplar(tag, end, wire.ReasonTooFarInFuture, fmt.Sprintf("timestamp %d is too far in the future, want <= %d", e.Time, r.maxTime))
	}
	return r.keepExemplar(e)
}

// floorMillis converts a timestamp, rounding down as Prometheus does for
// exemplars.
func floorMillis(nanos int64) int64 {
	ms := nanos / 1_000_000
	if nanos%1_000_000 < 0 {
		ms--
	}
	return ms
}

// id checks a trace or span id; one of zeros is none.
func (r *Request) id(b []byte, size, at int) ([]byte, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) != size {
		return nil, r.syntax(at, "exemplar: id of %d bytes, want %d", len(b), size)
	}
	for _, c := range b {
		if c != 0 {
			return b, nil
		}
	}
	return nil, nil
}

func (r *Request) exemplarAttribute(b []byte, at int) error {
	x := &r.ex
	key, val, err := r.keyValue(b, at)
	if err != nil {
		return err
	}
	text, err := r.text(val, at, &x.vals)
	if err != nil {
		return err
	}
	if x.pairs, err = wire.Grow(&r.budget, x.pairs, 96); err != nil {
		return err
	}
	x.pairs = append(x.pairs, pair{name: key, value: text})
	return nil
}

// exemplarLabels settles the labels in r.ex.pairs: attributes that would make
// them too long are left out.
func (r *Request) exemplarLabels(trace, span []byte) (detail string) {
	x := &r.ex
	runes := 0
	for _, p := range x.pairs {
		runes += utf8.RuneCount(p.name) + utf8.RuneCount(p.value)
	}
	if trace != nil {
		runes += len("trace_id") + 32
	}
	if span != nil {
		runes += len("span_id") + 16
	}
	if runes > maxExemplarRunes {
		x.pairs = x.pairs[:0]
	}
	x.addID("trace_id", trace)
	x.addID("span_id", span)
	slices.SortStableFunc(x.pairs, func(a, b pair) int { return bytes.Compare(a.name, b.name) })
	for i, p := range x.pairs {
		if len(p.name) == 0 || !utf8.Valid(p.name) || !utf8.Valid(p.value) {
			return fmt.Sprintf("label %.64q has an empty name or is not valid UTF-8", p.name)
		}
		if i > 0 && bytes.Equal(x.pairs[i-1].name, p.name) {
			return fmt.Sprintf("label %.64q occurs twice", p.name)
		}
	}
	return ""
}

func (x *exemplars) addID(name string, id []byte) {
	if id == nil {
		return
	}
	n := len(x.vals)
	x.vals = append(x.vals, name...)
	x.vals = hex.AppendEncode(x.vals, id)
	x.pairs = append(x.pairs, pair{name: x.vals[n : n+len(name)], value: x.vals[n+len(name):]})
}

func (r *Request) keepExemplar(e signal.Exemplar) error {
	x := &r.ex
	size := 0
	for _, p := range x.pairs {
		size += labels.Size(len(p.name), len(p.value))
	}
	var err error
	if x.buf, err = grow(&r.budget, x.buf, size, 1); err != nil {
		return err
	}
	if x.list, err = grow(&r.budget, x.list, 1, 32); err != nil {
		return err
	}
	off := len(x.buf)
	for _, p := range x.pairs {
		if len(p.value) > 0 {
			x.buf = labels.Append(x.buf, p.name, p.value)
		}
	}
	e.Labels = signal.RangeOf(off, len(x.buf))
	x.list = append(x.list, e)
	return nil
}

// dropExemplar leaves the exemplar in the field [tag, end) out of its point.
func (r *Request) dropExemplar(tag, end int, reason wire.Reason, detail string) error {
	r.Rejects.Exemplars++
	e := wire.InvalidError{Reason: reason}
	if r.Rejects.First == nil {
		e.Series, e.Detail = r.seriesText(), "exemplar: "+detail
	}
	r.Rejects.Note(1, e)
	var err error
	if r.drops, err = wire.Grow(&r.budget, r.drops, 8); err != nil {
		return err
	}
	r.drops = append(r.drops, signal.RangeOf(tag, end))
	return nil
}

// attachExemplars gives the next n pending exemplars to a row.
func (r *Request) attachExemplars(row, n int) error {
	x, m := &r.ex, &r.Metrics
	var err error
	if m.Exemplars, err = grow(&r.budget, m.Exemplars, n, 32); err != nil {
		return err
	}
	for _, e := range x.list[x.attached : x.attached+n] {
		e.Series = uint32(row)
		m.Exemplars = append(m.Exemplars, e)
	}
	x.attached += n
	return nil
}
