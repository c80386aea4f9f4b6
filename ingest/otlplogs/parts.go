package otlplogs

import (
	"encoding/binary"
	"math/bits"

	"github.com/klauspost/compress/s2"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/signal"
)

// wrapBytes is more than tags and lengths around a record take.
const wrapBytes = 32

// PartitionOf returns the partition of n to which a stream belongs: resource and
// scope are xxHash64 of the bytes that their envelopes (ResourceLogs and ScopeLogs)
// hold beside the messages within, and are mixed as
//
//	h = resource*0x9e3779b97f4a7c15 + scope
//	h = (h ^ h>>32) * 0xd6e8feb86659fd93
//	h = h ^ h>>32
//
// modulo 2^64; the partition is the upper half of the 128-bit product h*n.
func PartitionOf(resource, scope uint64, n int) int {
	h := resource*0x9e3779b97f4a7c15 + scope
	h = (h ^ h>>32) * 0xd6e8feb86659fd93
	h ^= h >> 32
	partition, _ := bits.Mul64(h, uint64(n))
	return int(partition)
}

// share is a part under construction and the memory it keeps for the next one.
type share struct {
	partition int
	rows      []uint32 // of the request, rising
	own       signal.Logs
	payload   []byte
}

// parter divides requests.
type parter struct {
	shares []share
	parts  []wire.Part
	out    []byte // uncompressed message
}

func (p *parter) capBytes() int {
	n := cap(p.out)
	for _, s := range p.shares[:cap(p.shares)] {
		n += serviceBytes*cap(s.own.Services) + 4*cap(s.rows) + cap(s.payload)
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
	s.own.Buf = nil // it is the batch's
	s.own.Reset()
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
// which nothing was refused stays as it is. Otherwise the messages of the records
// are copied into new envelopes.
func (r *Request) Parts(payload []byte, o wire.PartOptions) ([]wire.Part, error) {
	r.Logs.Tenant = ""
	if len(r.records) == 0 {
		return nil, nil
	}
	if err := r.budget.Charge(3*len(r.body) + 4*len(r.records)); err != nil {
		return nil, err
	}
	format := buffer.FormatOTLPLogsSnappy
	if o.Plain {
		format = buffer.FormatOTLPLogs
	}
	if partition, ok := r.onePartition(o.Partitions); ok && !r.changed {
		if whole := r.whole(payload, format); o.MaxBytes == 0 || len(whole) <= o.MaxBytes {
			r.parter.parts = append(r.parter.parts[:0], partOf(&r.Logs, partition, format, whole))
			return r.parter.parts, nil
		}
	}
	return r.divide(format, o)
}

func partOf(l *signal.Logs, partition int, format buffer.Format, payload []byte) wire.Part {
	return wire.Part{
		Partition: partition, Format: format, Logs: l, Payload: payload,
		MinTime: l.MinTime / nanosPerMilli, MaxTime: l.MaxTime / nanosPerMilli,
	}
}

// home returns the partition of n of a scope's records.
func (r *Request) home(scope uint32, n int) int {
	if n <= 1 {
		return 0
	}
	s := &r.scopes[scope]
	return PartitionOf(r.resources[s.resource].hash, s.hash, n)
}

// onePartition returns the partition of all records, if there is one.
func (r *Request) onePartition(n int) (partition int, ok bool) {
	partition = r.home(r.records[0].scope, n)
	for i := range r.scopes {
		if r.home(uint32(i), n) != partition {
			return 0, false
		}
	}
	return partition, true
}

// whole returns the message as it came, in the given format.
func (r *Request) whole(payload []byte, format buffer.Format) []byte {
	p := &r.parter
	switch {
	case format == r.format:
		return payload
	case format == buffer.FormatOTLPLogs:
		return r.body
	default:
		p.out = s2.EncodeSnappy(p.out[:cap(p.out)], r.body)
		return p.out
	}
}

// divide routes every record to its partition and encodes the shares; one whose
// payload is too large is halved until it fits.
func (r *Request) divide(format buffer.Format, o wire.PartOptions) ([]wire.Part, error) {
	p := &r.parter
	p.shares = p.shares[:0]
	for k := range max(o.Partitions, 1) {
		p.add(k)
	}
	last, home := uint32(0), r.home(0, o.Partitions)
	for i := range r.records {
		if scope := r.records[i].scope; scope != last {
			last, home = scope, r.home(scope, o.Partitions)
		}
		p.shares[home].rows = append(p.shares[home].rows, uint32(i))
	}
	p.parts = p.parts[:0]
	for i := 0; i < len(p.shares); i++ {
		sh := &p.shares[i]
		if len(sh.rows) == 0 {
			continue
		}
		p.out = r.appendRecords(p.out[:0], sh.rows)
		if format == buffer.FormatOTLPLogs {
			sh.payload = append(sh.payload[:0], p.out...)
		} else {
			sh.payload = s2.EncodeSnappy(sh.payload[:cap(sh.payload)], p.out)
		}
		if o.MaxBytes > 0 && len(sh.payload) > o.MaxBytes {
			if len(sh.rows) == 1 {
				return nil, &wire.SizeError{What: "payload of one log record for the buffer", Got: len(sh.payload), Limit: o.MaxBytes}
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
		if sh := &p.shares[i]; len(sh.rows) > 0 {
			r.fill(sh)
			p.parts = append(p.parts, partOf(&sh.own, sh.partition, format, sh.payload))
		}
	}
	return p.parts, nil
}

// fill counts the records of a share.
func (r *Request) fill(sh *share) {
	l := &sh.own
	l.Buf = r.Logs.Buf[:len(r.Logs.Buf):len(r.Logs.Buf)]
	last := -1
	for _, row := range sh.rows {
		k := &r.records[row]
		if resource := int(r.scopes[k.scope].resource); resource != last {
			last = resource
			l.Services = append(l.Services, signal.LogService{Name: r.Logs.Services[resource].Name})
		}
		count(l, k)
	}
}

// appendRecords appends a message of the given records, as they came.
func (r *Request) appendRecords(dst []byte, rows []uint32) []byte {
	for i := 0; i < len(rows); {
		resource := r.scopes[r.records[rows[i]].scope].resource
		dst = append(dst, fieldResourceLogs<<3|asBytes, 0, 0, 0, 0, 0)
		outer := len(dst)
		dst = r.appendExtras(dst, &r.resources[resource])
		for i < len(rows) && r.scopes[r.records[rows[i]].scope].resource == resource {
			scope := r.records[rows[i]].scope
			dst = append(dst, fieldScopeLogs<<3|asBytes, 0, 0, 0, 0, 0)
			inner := len(dst)
			dst = r.appendExtras(dst, &r.scopes[scope].envelope)
			for ; i < len(rows) && r.records[rows[i]].scope == scope; i++ {
				m := r.at(r.records[rows[i]].at)
				dst = append(dst, fieldRecord<<3|asBytes)
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
		dst = append(dst, r.at(x)...)
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
