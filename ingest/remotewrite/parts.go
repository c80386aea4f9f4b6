package remotewrite

import (
	"encoding/binary"

	"github.com/klauspost/compress/s2"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/labels"
)

// Parts implements wire.Decoder: the payload stays as it is if it goes to one
// partition, fits, and nothing of it was refused; otherwise the messages of the
// series are copied. 1.0 metadata belongs to no series and goes with the first
// part; 2.0's is repeated by the series, so that any part may bring it.
func (r *Request) Parts(payload []byte, o wire.PartOptions) ([]wire.Part, error) {
	r.Metrics.Tenant = ""
	if o.Partitions == 1 && !r.Rejects.Any() && (o.MaxBytes == 0 || len(payload) <= o.MaxBytes) {
		return r.parter.Whole(&r.Metrics, r.format, payload), nil
	}
	if err := r.budget.Charge(2*len(r.body) + 64*len(r.Metrics.Hash) + 16*len(r.Metrics.Times)); err != nil {
		return nil, err
	}
	n, inRows := o.Partitions, r.format == buffer.FormatRemoteWriteV2
	return r.parter.Divide(&r.Metrics, r.format, o, inRows, func(row int) int { return PartitionOf(r.Metrics.Hash[row], n) }, r.encode)
}

// PartitionOf returns the partition of n to which a series belongs.
func PartitionOf(h labels.Hash, n int) int { return int(h.Lo % uint64(n)) }

// encode is a wire.Encoder: a request of the series' messages copied without the
// refused fields, the symbols all, the 1.0 metadata with the first.
func (r *Request) encode(payload []byte, rows []uint32, first bool) []byte {
	dst := r.scratch[:0]
	tag := byte(0x0a) // field 1
	if r.format == buffer.FormatRemoteWriteV2 {
		tag = 0x2a // field 5
		for _, s := range r.symbols {
			dst = append(dst, 0x22) // field 4
			dst = binary.AppendUvarint(dst, uint64(s.text.Len))
			dst = append(dst, r.at(s.text)...)
		}
	}
	drop := 0
	for _, i := range rows {
		msg := r.spans[i]
		end := msg.Off + msg.Len
		for drop < len(r.drops) && r.drops[drop].Off < msg.Off {
			drop++
		}
		begin, size := drop, msg.Len
		for ; drop < len(r.drops) && r.drops[drop].Off < end; drop++ {
			size -= r.drops[drop].Len
		}
		dst = append(dst, tag)
		dst = binary.AppendUvarint(dst, uint64(size))
		pos := msg.Off
		for _, d := range r.drops[begin:drop] {
			dst = append(dst, r.body[pos:d.Off]...)
			pos = d.Off + d.Len
		}
		dst = append(dst, r.body[pos:end]...)
	}
	if first {
		for _, m := range r.metas {
			dst = append(dst, 0x1a) // field 3
			dst = binary.AppendUvarint(dst, uint64(m.Len))
			dst = append(dst, r.at(m)...)
		}
	}
	r.scratch = dst
	return s2.EncodeSnappy(payload[:cap(payload)], dst)
}
