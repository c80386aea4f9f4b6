package otlp

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/value"

	"github.com/vedette-io/vedette/ingest/remotewrite"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/labels"
)

// flagNoRecordedValue says that a series has ended.
const flagNoRecordedValue = 1

// dataPoint holds the fields of the point at hand.
type dataPoint struct {
	tag, end    int // its field in the body
	time, start uint64
	flags       uint64
	value       float64 // of a number; the sum of others
	hasValue    bool
	count       uint64
	bounds      []byte // of a histogram, or the quantiles of a summary; eight bytes each
	counts      []byte // of its buckets, eight bytes each

	attrOff, attrEnd int    // its attributes in the body, if they lie together
	scattered        []byte // otherwise
	isScattered      bool

	anyStart bool // some point of the request has a start
}

func (p *dataPoint) begin(tag, end int) {
	*p = dataPoint{tag: tag, end: end, scattered: p.scattered[:0], anyStart: p.anyStart}
}

// attribute adds the field at [off, end) of the body b.
func (p *dataPoint) attribute(b []byte, off, end int) {
	switch {
	case p.isScattered:
		p.scattered = append(p.scattered, b[off:end]...)
	case p.attrEnd == 0:
		p.attrOff, p.attrEnd = off, end
	case p.attrEnd == off:
		p.attrEnd = end
	default:
		p.isScattered = true
		p.scattered = append(append(p.scattered[:0], b[p.attrOff:p.attrEnd]...), b[off:end]...)
	}
}

// attributes returns the fields with the attributes, tags included, and the
// offset that errors name.
func (r *Request) attributes() ([]byte, int) {
	p := &r.pt
	if p.isScattered {
		return p.scattered, p.tag
	}
	return r.body[p.attrOff:p.attrEnd], p.attrOff
}

func (p *dataPoint) stale() bool { return p.flags&flagNoRecordedValue != 0 }

// val is v, or the mark of a series' end.
func (p *dataPoint) val(v float64) float64 {
	if p.stale() {
		return math.Float64frombits(value.StaleNaN)
	}
	return v
}

// millis converts a timestamp, truncating as Prometheus does.
func millis(nanos uint64) int64 { return int64(nanos) / 1_000_000 }

// Field tags that the loops below know, of fields with numbers below 16.
const (
	tagStart = 2<<3 | wire.Fixed64 // of all kinds
	tagTime  = 3<<3 | wire.Fixed64
)

// fixed reads the eight bytes behind the tag at b[i:].
func fixed(b []byte, i int) (v uint64, ok bool) {
	if len(b)-i < 9 {
		return 0, false
	}
	return binary.LittleEndian.Uint64(b[i+1:]), true
}

// content returns the bounds of the message or string behind the tag at b[i:];
// s is -1 if it does not fit.
func content(b []byte, i int) (s, e int) {
	if i+1 < len(b) && b[i+1] < 0x80 {
		if s, e = i+2, i+2+int(b[i+1]); e <= len(b) {
			return s, e
		}
		return -1, -1
	}
	return wire.Span(b, i+1)
}

// otherField passes over the field at b[i:], which none of the tags of its
// message has matched: it is unknown, or has a wrong wire type.
func (r *Request) otherField(b []byte, i int, what string, known ...int32) (next int, err error) {
	num, wt, _, e, err := r.field(b, i, what)
	if err != nil {
		return 0, err
	}
	for _, k := range known {
		if num == k {
			return 0, r.syntax(i, "%s: field %d has wire type %d", what, num, wt)
		}
	}
	return e, nil
}

// numberPoint decodes a NumberDataPoint.
func (r *Request) numberPoint(i, end int) error {
	const what = "number data point"
	p := &r.pt
	r.ex.begin(len(r.drops))
	b := r.body[:end]
	for i < end {
		switch tag := b[i]; tag {
		case tagStart, tagTime, 4<<3 | wire.Fixed64, 6<<3 | wire.Fixed64:
			v, ok := fixed(b, i)
			if !ok {
				return r.syntax(i, "%s: field %d is cut short", what, tag>>3)
			}
			switch tag {
			case tagStart:
				p.start = v
			case tagTime:
				p.time = v
			case 4<<3 | wire.Fixed64:
				p.value, p.hasValue = math.Float64frombits(v), true
			default:
				p.value, p.hasValue = float64(int64(v)), true
			}
			i += 9
		case 7<<3 | wire.Bytes, 5<<3 | wire.Bytes:
			s, e := content(b, i)
			if s < 0 {
				return r.syntax(i, "%s: field %d is cut short", what, tag>>3)
			}
			if tag == 7<<3|wire.Bytes {
				p.attribute(b, i, e)
			} else if r.mt.kind == kindSum { // Prometheus takes none from gauges
				if err := r.exemplar(i, s, e); err != nil {
					return err
				}
			}
			i = e
		case 8<<3 | wire.Varint:
			v, next := wire.Uvarint(b, i+1)
			if next < 0 {
				return r.syntax(i, "%s: field 8 is cut short", what)
			}
			p.flags, i = v, next
		default:
			var err error
			if i, err = r.otherField(b, i, what, 2, 3, 4, 5, 6, 7, 8); err != nil {
				return err
			}
		}
	}
	if !p.hasValue && !p.stale() {
		r.refusePoint(wire.ReasonNoValue, "the data point has no value")
		return nil
	}
	return r.endNumber()
}

// endNumber adds the number at hand.
func (r *Request) endNumber() error {
	p := &r.pt
	t := millis(p.time)
	if t > r.maxTime {
		r.refuseFuture(t)
		return nil
	}
	attrs, at := r.attributes()
	rows, err := r.rowsOf(with(r.mt.ctx, attrs), shapeSingle, attrs, at)
	if rows == nil || err != nil {
		return err
	}
	if err := r.room(1); err != nil {
		return err
	}
	row := len(r.Metrics.Hash)
	r.addSample(t, millis(p.start), p.val(p.value))
	r.endRow(rows[0])
	if len(r.ex.list) > 0 {
		if err := r.attachExemplars(row, len(r.ex.list)); err != nil {
			return err
		}
	}
	return r.endPoint(row, rows[0].hash)
}

// summaryPoint decodes a SummaryDataPoint.
func (r *Request) summaryPoint(i, end int) error {
	const what = "summary data point"
	p, u := &r.pt, &r.build
	r.ex.begin(len(r.drops))
	u.ranks, u.quantiles = u.ranks[:0], u.quantiles[:0]
	b := r.body[:end]
	for i < end {
		switch tag := b[i]; tag {
		case tagStart, tagTime, 4<<3 | wire.Fixed64, 5<<3 | wire.Fixed64:
			v, ok := fixed(b, i)
			if !ok {
				return r.syntax(i, "%s: field %d is cut short", what, tag>>3)
			}
			switch tag {
			case tagStart:
				p.start = v
			case tagTime:
				p.time = v
			case 4<<3 | wire.Fixed64:
				p.count = v
			default:
				p.value = math.Float64frombits(v)
			}
			i += 9
		case 7<<3 | wire.Bytes, 6<<3 | wire.Bytes:
			s, e := content(b, i)
			if s < 0 {
				return r.syntax(i, "%s: field %d is cut short", what, tag>>3)
			}
			if tag == 7<<3|wire.Bytes {
				p.attribute(b, i, e)
			} else if err := r.quantile(s, e); err != nil {
				return err
			}
			i = e
		case 8<<3 | wire.Varint:
			v, next := wire.Uvarint(b, i+1)
			if next < 0 {
				return r.syntax(i, "%s: field 8 is cut short", what)
			}
			p.flags, i = v, next
		default:
			var err error
			if i, err = r.otherField(b, i, what, 2, 3, 4, 5, 6, 7, 8); err != nil {
				return err
			}
		}
	}
	return r.endSummary()
}

// quantile decodes a ValueAtQuantile message.
func (r *Request) quantile(i, end int) error {
	const what = "quantile"
	u := &r.build
	b := r.body[:end]
	var q, v uint64
	for i < end {
		num, wt, s, e, err := r.field(b, i, what)
		if err != nil {
			return err
		}
		if num == 1 || num == 2 {
			if wt != wire.Fixed64 {
				return r.wrongType(i, what, num, wt, wire.Fixed64)
			}
			if bits := binary.LittleEndian.Uint64(b[s:]); num == 1 {
				q = bits
			} else {
				v = bits
			}
		}
		i = e
	}
	var err error
	if u.quantiles, err = wire.Grow(&r.budget, u.quantiles, 8); err != nil {
		return err
	}
	if u.ranks, err = grow(&r.budget, u.ranks, 8, 1); err != nil {
		return err
	}
	u.ranks = binary.LittleEndian.AppendUint64(u.ranks, q)
	u.quantiles = append(u.quantiles, math.Float64frombits(v))
	return nil
}

// endSummary adds the summary at hand: its sum, its count and the quantiles.
func (r *Request) endSummary() error {
	p := &r.pt
	t, start := millis(p.time), millis(p.start)
	if t > r.maxTime {
		r.refuseFuture(t)
		return nil
	}
	p.bounds = r.build.ranks
	attrs, at := r.attributes()
	rows, err := r.rowsOf(with(with(r.mt.ctx, attrs), p.bounds), shapeSummary, attrs, at)
	if rows == nil || err != nil {
		return err
	}
	base, rows := rows[0], rows[1:]
	if err := r.room(len(rows)); err != nil {
		return err
	}
	first := len(r.Metrics.Hash)
	r.addSample(t, start, p.val(p.value))
	r.endRow(rows[0])
	r.addSample(t, start, p.val(float64(p.count)))
	r.endRow(rows[1])
	for i, v := range r.build.quantiles {
		r.addSample(t, start, p.val(v))
		r.endRow(rows[2+i])
	}
	return r.endPoint(first, base.hash)
}

// refuseMetric refuses n points of the metric at hand.
func (r *Request) refuseMetric(n int, reason wire.Reason, detail string) {
	e := wire.InvalidError{Reason: reason}
	if r.Rejects.First == nil {
		e.Detail = fmt.Sprintf("metric %.100q: %s", r.mt.name, detail)
	}
	switch {
	case r.mt.kind == kindNone:
	case r.native():
		r.Rejects.Histograms += n
	default:
		r.Rejects.Samples += n
	}
	r.Rejects.Note(n, e)
}

// native reports whether points of the metric at hand become native histograms.
func (r *Request) native() bool {
	return r.mt.kind == kindExponential || r.mt.kind == kindHistogram && r.set.cfg.ConvertHistogramsToNHCB
}

// refusePoint refuses the point at hand with its exemplars.
func (r *Request) refusePoint(reason wire.Reason, detail string) {
	r.refusePointOf(reason, detail, r.seriesText())
}

func (r *Request) refuseFuture(t int64) {
	r.refusePoint(wire.ReasonTooFarInFuture, fmt.Sprintf("timestamp %d is too far in the future, want <= %d", t, r.maxTime))
}

func (r *Request) refusePointOf(reason wire.Reason, detail, series string) {
	if r.native() {
		r.Rejects.Histograms++
	} else {
		r.Rejects.Samples++
	}
	r.Rejects.Exemplars += len(r.ex.list)
	r.ex.takeBack()
	r.drops = r.drops[:r.ex.dropsBefore]
	r.Rejects.Note(1+len(r.ex.list), wire.InvalidError{Reason: reason, Series: series, Detail: detail})
}

// seriesText shows the metric at hand for an error message, if one is needed.
func (r *Request) seriesText() string {
	if r.Rejects.First != nil {
		return ""
	}
	name := r.mt.promName
	if len(name) > 200 {
		name = name[:200]
	}
	return string(remotewrite.AppendText(nil, labels.Append(nil, metricLabel, name), 256))
}
