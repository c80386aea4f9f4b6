package otlptraces

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"github.com/klauspost/compress/s2"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/signal"
)

// PartitionOf returns the partition of n to which a trace belongs: both halves of
// its id, big-endian, are mixed as
//
//	h = high*0x9e3779b97f4a7c15 + low
//	h = (h ^ h>>32) * 0xd6e8feb86659fd93
//	h = h ^ h>>32
//
// modulo 2^64, and the partition is the upper half of the 128-bit product h*n.
// Every producer must use the same. Ids are often not random in one of the
// halves.
func PartitionOf(id signal.TraceID, n int) int {
	h := binary.BigEndian.Uint64(id[:8])*0x9e3779b97f4a7c15 + binary.BigEndian.Uint64(id[8:])
	h = (h ^ h>>32) * 0xd6e8feb86659fd93
	h ^= h >> 32
	partition, _ := bits.Mul64(h, uint64(n))
	return int(partition)
}

// share is a part under construction and the memory it keeps for the next one.
type share struct {
	partition int
	rows      []uint32 // of the batch, rising
	own       signal.Spans
	payload   []byte
}

// parter divides batches.
type parter struct {
	shares []share
	parts  []wire.Part
	out    []byte // uncompressed message
}

func (p *parter) capBytes() int {
	n := cap(p.out)
	for _, s := range p.shares[:cap(p.shares)] {
		n += rowBytes*cap(s.own.SpanIDs) + 4*cap(s.rows) + cap(s.payload)
	}
	return n
}

func (p *parter) reset() {
	clear(p.parts)
	p.parts = p.parts[:0]
	for i := range p.shares {
		p.shares[i].reset(0)
	}
	p.shares = p.shares[:0]
}

func (s *share) reset(partition int) {
	s.partition = partition
	s.rows, s.payload = s.rows[:0], s.payload[:0]
	d := &s.own
	d.Buf, d.Resources, d.Scopes, d.Attrs, d.Events, d.Links = nil, nil, nil, nil, nil, nil // they are the batch's
	d.Reset()
}

// add returns a new share at the end.
func (p *parter) add(partition int) *share {
	if n := len(p.shares); n < cap(p.shares) {
		p.shares = p.shares[:n+1]
	} else {
		p.shares = append(p.shares, share{})
	}
	s := &p.shares[len(p.shares)-1]
	s.reset(partition)
	return s
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
		if whole := r.whole(payload, format); o.MaxBytes == 0 || len(whole) <= o.MaxBytes {
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

// whole returns the message as it came, in the given format.
func (r *Request) whole(payload []byte, format buffer.Format) []byte {
	p := &r.parter
	switch body := r.Spans.Buf[:r.body]; {
	case format == r.format:
		return payload
	case format == buffer.FormatOTLPTraces:
		return body
	default:
		p.out = s2.EncodeSnappy(p.out[:cap(p.out)], body)
		return p.out
	}
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
		sizes := func() int { return int(r.resources[resource].size + r.scopes[scope].size + envelopeBytes) }
		if sizes()+int(r.messages[i].Len) <= limit {
			continue
		}
		if int(r.resources[resource].size) > limit/4 {
			if err := r.cutResource(int(resource), upTo(limit/4), false); err != nil {
				return err
			}
		}
		if int(r.scopes[scope].size) > limit/4 {
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
	p.shares = p.shares[:0]
	for k := range max(o.Partitions, 1) {
		p.add(k)
	}
	for i, id := range s.TraceIDs {
		k := 0
		if o.Partitions > 1 {
			k = PartitionOf(id, o.Partitions)
		}
		p.shares[k].rows = append(p.shares[k].rows, uint32(i))
	}
	p.parts = p.parts[:0]
	for i := 0; i < len(p.shares); i++ {
		sh := &p.shares[i]
		if len(sh.rows) == 0 {
			continue
		}
		p.out = r.appendRows(p.out[:0], sh.rows)
		if format == buffer.FormatOTLPTraces {
			sh.payload = append(sh.payload[:0], p.out...)
		} else {
			sh.payload = s2.EncodeSnappy(sh.payload[:cap(sh.payload)], p.out)
		}
		if o.MaxBytes > 0 && len(sh.payload) > o.MaxBytes {
			if len(sh.rows) == 1 {
				return nil, &wire.SizeError{What: "payload of one span for the buffer", Got: len(sh.payload), Limit: o.MaxBytes}
			}
			half := p.add(sh.partition)
			sh = &p.shares[i] // add may have moved it
			mid := len(sh.rows) / 2
			half.rows = append(half.rows, sh.rows[mid:]...)
			sh.rows = sh.rows[:mid]
			i--
		}
	}
	for i := range p.shares {
		if len(p.shares[i].rows) > 0 {
			p.parts = append(p.parts, p.shares[i].part(s, format))
		}
	}
	return p.parts, nil
}

// part finishes a share.
func (sh *share) part(s *signal.Spans, format buffer.Format) wire.Part {
	d := &sh.own
	d.Buf, d.Resources, d.Scopes = slices.Clip(s.Buf), slices.Clip(s.Resources), slices.Clip(s.Scopes)
	d.Attrs, d.Events, d.Links = slices.Clip(s.Attrs), slices.Clip(s.Events), slices.Clip(s.Links)
	growColumns(d, len(sh.rows))
	for _, i := range sh.rows {
		appendRow(d, s, i)
	}
	part := wire.Part{Partition: sh.partition, Format: format, Spans: d, Payload: sh.payload}
	part.MinTime, part.MaxTime = TimeRange(d)
	return part
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
	for i := 0; i < len(rows); {
		resource := s.Scopes[s.Scope[rows[i]]].Resource
		dst = append(dst, fieldResourceSpans<<3|asBytes, 0, 0, 0, 0, 0)
		outer := len(dst)
		dst = r.appendExtras(dst, &r.resources[resource])
		for i < len(rows) && s.Scopes[s.Scope[rows[i]]].Resource == resource {
			scope := s.Scope[rows[i]]
			dst = append(dst, fieldScopeSpans<<3|asBytes, 0, 0, 0, 0, 0)
			inner := len(dst)
			dst = r.appendExtras(dst, &r.scopes[scope])
			for ; i < len(rows) && s.Scope[rows[i]] == scope; i++ {
				m := s.Bytes(r.messages[rows[i]])
				dst = append(dst, fieldSpan<<3|asBytes)
				dst = binary.AppendUvarint(dst, uint64(len(m)))
				dst = append(dst, m...)
			}
			dst = closeMessage(dst, inner)
		}
		dst = closeMessage(dst, outer)
	}
	return dst
}

// appendExtras appends what an envelope holds beside the messages.
func (r *Request) appendExtras(dst []byte, e *envelope) []byte {
	for _, x := range r.extras[e.begin:e.end] {
		dst = append(dst, r.Spans.Bytes(x)...)
	}
	return dst
}

// closeMessage sets the length of the message whose content begins at the given
// index, behind five bytes for it, and moves the content to where the length ends.
func closeMessage(dst []byte, content int) []byte {
	size := len(dst) - content
	var b [5]byte
	n := binary.PutUvarint(b[:], uint64(size))
	if n < len(b) {
		copy(dst[content-len(b)+n:], dst[content:])
		dst = dst[:len(dst)-len(b)+n]
	}
	copy(dst[content-len(b):], b[:n])
	return dst
}
