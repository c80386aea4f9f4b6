package kafka

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/segmentio/kafka-go/compress"

	"github.com/vedette-io/vedette/ingest/buffer"
)

// A record batch, version 2 of Kafka's message format, behind its length as a
// produce request has it. Lengths and deltas of records are zigzag varints.
//
//	 0  batch bytes (of all that follows)   int32
//	 4  base offset                         int64   0, the broker sets it
//	12  length (of all that follows)        int32
//	16  partition leader epoch              int32   -1
//	20  magic                               int8    2
//	21  CRC32C of all that follows          uint32
//	25  attributes                          int16   compression
//	27  last offset delta                   int32
//	31  first, max timestamp                2×int64
//	47  producer id, epoch, sequence        int64, int16, int32: -1
//	61  records                             int32
//	65  record: length, attributes, timestamp delta, offset delta, key, value, headers
const (
	batchPrefix      = 4
	batchHeader      = 65
	batchLengthAt    = 12
	batchCRCAt       = 21
	batchSumFrom     = 25
	batchLastDeltaAt = 27
	batchMagic       = 2
	recordOverhead   = 128 // upper bound of what a record takes beside payload and tenant
	maxTenantBytes   = 256
	maxSenderBytes   = 512                           // as buffer.CheckSender has it
	maxPositionBytes = 5*20 + 4                      // of five numbers
	originOverhead   = 2*(16+2*2) + maxPositionBytes // headers of a forwarded record, beside the sender's name
	reservedOverhead = 1024                          // of a batch with one record, with room to spare
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// recordBytes returns an upper bound of what the record takes in a batch.
func recordBytes(r *buffer.Record) int64 {
	n := int64(len(r.Payload)) + int64(len(r.Tenant)) + recordOverhead
	if r.From != nil {
		n += int64(len(r.From.Sender)) + originOverhead
	}
	return n
}

// encodeBatch writes a batch with the records of all calls to dst[:0]; spare is
// for what is compressed. Both are returned, for reuse.
func encodeBatch(dst, spare []byte, calls []*appendCall, codec compress.Compression, nowMillis int64) (batch, rest []byte, err error) {
	dst = append(dst[:0], make([]byte, batchHeader)...)
	n := int64(0)
	for _, call := range calls {
		for i := range call.records {
			dst = appendRecord(dst, &call.records[i], n)
			n++
		}
	}
	attributes := compress.None
	if codec != compress.None {
		spare = append(spare[:0], dst[:batchHeader]...)
		w := sliceWriter{spare}
		c := codec.Codec().NewWriter(&w)
		_, err = c.Write(dst[batchHeader:])
		if closeErr := c.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return dst, w.b, fmt.Errorf("compress record batch: %w", err)
		}
		spare = w.b
		if len(spare) < len(dst) {
			dst, spare, attributes = spare, dst, codec
		}
	}
	be := binary.BigEndian
	be.PutUint32(dst[0:], uint32(len(dst)-batchPrefix))
	be.PutUint32(dst[batchLengthAt:], uint32(len(dst)-batchLengthAt-4))
	be.PutUint32(dst[16:], ^uint32(0))
	dst[20] = batchMagic
	be.PutUint16(dst[25:], uint16(attributes))
	be.PutUint32(dst[batchLastDeltaAt:], uint32(n-1))
	be.PutUint64(dst[31:], uint64(nowMillis))
	be.PutUint64(dst[39:], uint64(nowMillis))
	for i := 47; i < 61; i++ {
		dst[i] = 0xff // -1, there is none
	}
	be.PutUint32(dst[61:], uint32(n))
	be.PutUint32(dst[batchCRCAt:], crc32.Checksum(dst[batchSumFrom:], castagnoli))
	return dst, spare, nil
}

// appendRecord appends one record. Its length comes first and is computed from
// the headers, which are encoded aside.
func appendRecord(dst []byte, r *buffer.Record, offsetDelta int64) []byte {
	var scratch [recordOverhead + maxTenantBytes + maxSenderBytes + originOverhead]byte
	headers := appendHeaders(scratch[:0], r)
	length := 2 + varintBytes(offsetDelta) + 1 + varintBytes(int64(len(r.Payload))) + len(r.Payload) + len(headers)
	dst = appendVarint(dst, int64(length))
	dst = append(dst, 0, 0) // attributes, timestamp delta
	dst = appendVarint(dst, offsetDelta)
	dst = appendVarint(dst, -1) // no key
	dst = appendVarint(dst, int64(len(r.Payload)))
	dst = append(dst, r.Payload...)
	return append(dst, headers...)
}

func appendVarint(dst []byte, v int64) []byte { return binary.AppendVarint(dst, v) }

func varintBytes(v int64) int {
	n := 1
	for u := uint64(v)<<1 ^ uint64(v>>63); u >= 0x80; u >>= 7 {
		n++
	}
	return n
}

// sliceWriter appends to a slice.
type sliceWriter struct{ b []byte }

func (w *sliceWriter) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}
