package otlptraces

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/signal"
)

// PartitionOf returns the partition of n to which a trace belongs: both halves of
// its id, big-endian, are mixed as wire.Home says.
func PartitionOf(id signal.TraceID, n int) int {
	return wire.Home(binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:]), n)
}

// parter divides batches.
type parter struct {
	wire.Shares
	own   []signal.Spans // beside List
	parts []wire.Part
}

func (p *parter) capBytes() int {
	n := p.CapBytes()
	for i := range p.own[:cap(p.own)] {
		n += rowBytes * cap(p.own[:cap(p.own)][i].SpanIDs)
	}
	return n
}

func (p *parter) reset() {
	clear(p.parts)
	p.parts = p.parts[:0]
	for i := range p.own {
		d := &p.own[i]
		d.Buf, d.Resources, d.Scopes, d.Attrs, d.Events, d.Links = nil, nil, nil, nil, nil, nil // they are the batch's
		d.Reset()
	}
	p.own = p.own[:0]
	p.Reset()
}

// Parts implements wire.Decoder. A request that goes to one partition, fits, and of
// which nothing was changed stays as it is. Otherwise the messages of the spans
// are copied into new envelopes. Spans that are too large for o.MaxBytes on their own
// are cut, in Result too. The batches of parts share what has no entry per span
// with each other, so that they may list resources and scopes that they have no
// span of.
func (r *Request) Parts(payload []byte, o wire.PartOptions) ([]wire.Part, error) {
	s := &r.Spans
	s.Tenant = ""
	if s.Len() == 0 {
		return nil, nil
	}
	if err := r.budget.Charge(3*len(s.Buf) + rowBytes*s.Len()); err != nil {
		return nil, err
	}
	format := buffer.FormatOTLPTracesSnappy
	if o.Plain {
		format = buffer.FormatOTLPTraces
	}
	if partition, ok := r.onePartition(o.Partitions); ok && !r.changed {
		if whole := r.parter.Whole(payload, format == r.walk.Format, s.Buf[:r.body], o.Plain); o.MaxBytes == 0 || len(whole) <= o.MaxBytes {
			part := wire.Part{Partition: partition, Format: format, Spans: s, Payload: whole}
			part.MinTime, part.MaxTime = TimeRange(s)
			r.parter.parts = append(r.parter.parts[:0], part)
			return r.parter.parts, nil
		}
	}
	if err := r.fit(o); err != nil {
		return nil, err
	}
	return r.divide(format, o)
}

// onePartition returns the partition of all spans, if there is one.
func (r *Request) onePartition(n int) (partition int, ok bool) {
	if n <= 1 {
		return 0, true
	}
	ids := r.Spans.TraceIDs
	partition = PartitionOf(ids[0], n)
	for i := 1; i < len(ids); i++ {
		if ids[i] != ids[i-1] && PartitionOf(ids[i], n) != partition {
			return 0, false
		}
	}
	return partition, true
}

// envelopeBytes is more than tags and lengths around a span take.
const envelopeBytes = 32

// fit cuts what does not fit into a payload on its own: a resource and a scope to a
// quarter each, a span to what they leave. Compression is not counted on.
func (r *Request) fit(o wire.PartOptions) error {
	s := &r.Spans
	limit := o.MaxBytes
	if !o.Plain {
		limit = (limit - 32) / 7 * 6 // a snappy block of bytes that do not compress
	}
	if o.MaxBytes == 0 || len(s.Buf) <= limit {
		return nil
	}
	for i := range s.SpanIDs {
		scope := s.Scope[i]
		resource := s.Scopes[scope].Resource
		sizes := func() int { return int(r.resources[resource].Size + r.scopes[scope].Size + envelopeBytes) }
		if sizes()+int(r.messages[i].Len) <= limit {
			continue
		}
		if int(r.resources[resource].Size) > limit/4 {
			if err := r.cutResource(int(resource), upTo(limit/4), false); err != nil {
				return err
			}
		}
		if int(r.scopes[scope].Size) > limit/4 {
			if err := r.cutScope(int(scope), upTo(limit/4), false); err != nil {
				return err
			}
		}
		if left := limit - sizes(); int(r.messages[i].Len) > left {
			if err := r.rewriteSpan(i, upTo(left), 0, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// divide routes every span to its partition and encodes the shares; one whose
// payload is too large is halved until it fits.
func (r *Request) divide(format buffer.Format, o wire.PartOptions) ([]wire.Part, error) {
	p, s := &r.parter, &r.Spans
	p.reset()
	p.Begin(max(o.Partitions, 1))
	for i, id := range s.TraceIDs {
		k := 0
		if o.Partitions > 1 {
			k = PartitionOf(id, o.Partitions)
		}
		p.List[k].Rows = append(p.List[k].Rows, uint32(i))
	}
	for i := 0; i < len(p.List); i++ {
		sh := &p.List[i]
		if len(sh.Rows) == 0 {
			continue
		}
		p.Out = r.appendRows(p.Out[:0], sh.Rows)
		sh.Payload = wire.Pack(sh.Payload, p.Out, o.Plain)
		if o.MaxBytes > 0 && len(sh.Payload) > o.MaxBytes {
			if len(sh.Rows) == 1 {
				return nil, &wire.SizeError{What: "payload of one span for the buffer", Got: len(sh.Payload), Limit: o.MaxBytes}
			}
			p.Halve(i, len(sh.Rows)/2)
			i--
		}
	}
	p.own = slices.Grow(p.own, len(p.List))[:len(p.List)]
	for i := range p.List {
		if sh := &p.List[i]; len(sh.Rows) > 0 {
			d := &p.own[i]
			fill(d, s, sh.Rows)
			part := wire.Part{Partition: sh.Partition, Format: format, Spans: d, Payload: sh.Payload}
			part.MinTime, part.MaxTime = TimeRange(d)
			p.parts = append(p.parts, part)
		}
	}
	return p.parts, nil
}

// fill makes d a batch of the given spans of s.
func fill(d, s *signal.Spans, rows []uint32) {
	d.Buf, d.Resources, d.Scopes = slices.Clip(s.Buf), slices.Clip(s.Resources), slices.Clip(s.Scopes)
	d.Attrs, d.Events, d.Links = slices.Clip(s.Attrs), slices.Clip(s.Events), slices.Clip(s.Links)
	growColumns(d, len(rows))
	for _, i := range rows {
		appendRow(d, s, i)
	}
}

// TimeRange returns the oldest and newest start of the spans in s, in unix
// milliseconds, or zeros if it has none.
func TimeRange(s *signal.Spans) (oldest, newest int64) {
	if s.Len() == 0 {
		return 0, 0
	}
	oldest, newest = math.MaxInt64, math.MinInt64
	for _, t := range s.Starts {
		oldest, newest = min(oldest, t), max(newest, t)
	}
	return oldest / nanosPerMilli, newest / nanosPerMilli
}

// appendRows appends a message of the given spans, as they came.
func (r *Request) appendRows(dst []byte, rows []uint32) []byte {
	s := &r.Spans
	var outer, inner int
	for i := 0; i < len(rows); {
		resource := s.Scopes[s.Scope[rows[i]]].Resource
		dst, outer = wire.OpenMessage(dst, fieldResourceSpans)
		dst = r.extras.Append(dst, s.Buf, &r.resources[resource])
		for i < len(rows) && s.Scopes[s.Scope[rows[i]]].Resource == resource {
			scope := s.Scope[rows[i]]
			dst, inner = wire.OpenMessage(dst, fieldScopeSpans)
			dst = r.extras.Append(dst, s.Buf, &r.scopes[scope])
			for ; i < len(rows) && s.Scope[rows[i]] == scope; i++ {
				m := s.Bytes(r.messages[rows[i]])
				dst = append(dst, fieldSpan<<3|wire.Bytes)
				dst = binary.AppendUvarint(dst, uint64(len(m)))
				dst = append(dst, m...)
			}
			dst = wire.CloseMessage(dst, inner)
		}
		dst = wire.CloseMessage(dst, outer)
	}
	return dst
}
