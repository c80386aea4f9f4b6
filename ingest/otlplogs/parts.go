package otlplogs

import (
	"encoding/binary"
	"slices"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/signal"
)

// wrapBytes is more than tags and lengths around a record take.
const wrapBytes = 32

// PartitionOf returns the partition of n to which a stream belongs: resource and
// scope are xxHash64 of the bytes that their envelopes (ResourceLogs and ScopeLogs)
// hold beside the messages within, and are mixed as wire.Home says.
func PartitionOf(resource, scope uint64, n int) int { return wire.Home(resource, scope, n) }

// parter divides requests.
type parter struct {
	wire.Shares
	own   []signal.Logs // beside List
	parts []wire.Part
}

func (p *parter) capBytes() int {
	n := p.CapBytes()
	for _, l := range p.own[:cap(p.own)] {
		n += serviceBytes * cap(l.Services)
	}
	return n
}

func (p *parter) reset() {
	clear(p.parts)
	p.parts = p.parts[:0]
	for i := range p.own {
		p.own[i].Buf = nil // it is the batch's
		p.own[i].Reset()
	}
	p.own = p.own[:0]
	p.Reset()
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
		if whole := r.parter.Whole(payload, format == r.walk.Format, r.body, o.Plain); o.MaxBytes == 0 || len(whole) <= o.MaxBytes {
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

// divide routes every record to its partition and encodes the shares; one whose
// payload is too large is halved until it fits.
func (r *Request) divide(format buffer.Format, o wire.PartOptions) ([]wire.Part, error) {
	p := &r.parter
	p.reset()
	p.Begin(max(o.Partitions, 1))
	last, home := uint32(0), r.home(0, o.Partitions)
	for i := range r.records {
		if scope := r.records[i].scope; scope != last {
			last, home = scope, r.home(scope, o.Partitions)
		}
		p.List[home].Rows = append(p.List[home].Rows, uint32(i))
	}
	for i := 0; i < len(p.List); i++ {
		sh := &p.List[i]
		if len(sh.Rows) == 0 {
			continue
		}
		p.Out = r.appendRecords(p.Out[:0], sh.Rows)
		sh.Payload = wire.Pack(sh.Payload, p.Out, o.Plain)
		if o.MaxBytes > 0 && len(sh.Payload) > o.MaxBytes {
			if len(sh.Rows) == 1 {
				return nil, &wire.SizeError{What: "payload of one log record for the buffer", Got: len(sh.Payload), Limit: o.MaxBytes}
			}
			p.Halve(i, len(sh.Rows)/2)
			i--
		}
	}
	p.own = slices.Grow(p.own, len(p.List))[:len(p.List)]
	for i := range p.List {
		if sh := &p.List[i]; len(sh.Rows) > 0 {
			r.fill(&p.own[i], sh.Rows)
			p.parts = append(p.parts, partOf(&p.own[i], sh.Partition, format, sh.Payload))
		}
	}
	return p.parts, nil
}

// fill counts the records of a share in l.
func (r *Request) fill(l *signal.Logs, rows []uint32) {
	l.Buf = r.Logs.Buf[:len(r.Logs.Buf):len(r.Logs.Buf)]
	last := -1
	for _, row := range rows {
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
	var outer, inner int
	for i := 0; i < len(rows); {
		resource := r.scopes[r.records[rows[i]].scope].resource
		dst, outer = wire.OpenMessage(dst, fieldResourceLogs)
		dst = r.extras.Append(dst, r.body, &r.resources[resource].Envelope)
		for i < len(rows) && r.scopes[r.records[rows[i]].scope].resource == resource {
			scope := r.records[rows[i]].scope
			dst, inner = wire.OpenMessage(dst, fieldScopeLogs)
			dst = r.extras.Append(dst, r.body, &r.scopes[scope].Envelope)
			for ; i < len(rows) && r.records[rows[i]].scope == scope; i++ {
				m := r.at(r.records[rows[i]].at)
				dst = append(dst, fieldRecord<<3|wire.Bytes)
				dst = binary.AppendUvarint(dst, uint64(len(m)))
				dst = append(dst, m...)
			}
			dst = wire.CloseMessage(dst, inner)
		}
		dst = wire.CloseMessage(dst, outer)
	}
	return dst
}
