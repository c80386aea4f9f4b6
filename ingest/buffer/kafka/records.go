package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/compress"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/internal/tenant"
)

// A fetched record batch lies as batch.go draws it, without its first field.
const (
	fetchedBatchHeader = batchHeader - batchPrefix
	// beforeLength is what the length of a batch does not count.
	beforeLength = 12
	// maxDecompressed bounds what the records of one batch may take in memory.
	maxDecompressed  = 256 << 20
	attributeControl = 1 << 5
	attributeCodec   = 7
)

// recordBatch is one batch of what a fetch returned. Only base and next have
// been read, and not been checked.
type recordBatch struct {
	raw  []byte
	base int64 // offset of its first record
	next int64 // offset behind its last one
}

// cutBatch takes the first batch off set; it returns false if there is none, or
// only the beginning of one. A length that makes no sense takes all of set.
func cutBatch(set []byte) (b recordBatch, rest []byte, ok bool) {
	if len(set) < beforeLength {
		return b, nil, false
	}
	n := int64(int32(binary.BigEndian.Uint32(set[8:])))
	switch {
	case n > int64(len(set)-beforeLength):
		return b, nil, false
	case n < fetchedBatchHeader-beforeLength:
		n = int64(len(set) - beforeLength)
	}
	b.raw, rest = set[:beforeLength+n], set[beforeLength+n:]
	b.base = int64(binary.BigEndian.Uint64(set))
	b.next = b.base + 1
	if len(b.raw) >= fetchedBatchHeader {
		b.next += int64(int32(binary.BigEndian.Uint32(b.raw[batchLastDeltaAt-batchPrefix:])))
	}
	return b, rest, true
}

// check says whether the batch is what its producer made.
func (b *recordBatch) check() error {
	const at = batchSumFrom - batchPrefix
	if len(b.raw) < fetchedBatchHeader {
		return fmt.Errorf("got %d bytes, want %d or more", len(b.raw), fetchedBatchHeader)
	}
	if magic := b.raw[20-batchPrefix]; magic != batchMagic {
		return fmt.Errorf("got version %d of the message format, want %d", magic, batchMagic)
	}
	if sum, want := crc32.Checksum(b.raw[at:], castagnoli), binary.BigEndian.Uint32(b.raw[batchCRCAt-batchPrefix:]); sum != want {
		return fmt.Errorf("got checksum %08x, want %08x", sum, want)
	}
	if b.next <= b.base {
		return fmt.Errorf("got offsets from %d to before %d", b.base, b.next)
	}
	return nil
}

func (b *recordBatch) attributes() uint16 {
	return binary.BigEndian.Uint16(b.raw[batchSumFrom-batchPrefix:])
}

// isControl says whether the batch holds marks of transactions and no messages.
func (b *recordBatch) isControl() bool { return b.attributes()&attributeControl != 0 }

// batchDecoder decodes batches; it belongs to one goroutine.
type batchDecoder struct {
	zstd    *zstd.Decoder
	arena   []byte // what was decompressed since reset
	headers []kafkago.Header
}

// reset lets go of all that was decoded.
func (d *batchDecoder) reset() {
	const most = 4 * buffer.MaxNextBytes
	d.arena = d.arena[:0]
	if cap(d.arena) > most {
		d.arena = nil
	}
}

// decode calls add for every record. Values are valid until reset or as long as
// the batch is, headers until the next record.
func (d *batchDecoder) decode(b *recordBatch, add func(offset int64, value []byte, headers []kafkago.Header)) error {
	records := b.raw[fetchedBatchHeader:]
	if codec := compress.Compression(b.attributes() & attributeCodec); codec != compress.None {
		out, err := d.decompress(d.arena[len(d.arena):], records, codec)
		if err != nil {
			return fmt.Errorf("decompress %s: %w", codec, err)
		}
		if n := len(d.arena) + len(out); n <= cap(d.arena) {
			d.arena = d.arena[:n]
		} else {
			d.arena = out // messages keep the old one alive
		}
		records = out
	}
	r := recordReader{b: records}
	count := int32(binary.BigEndian.Uint32(b.raw[fetchedBatchHeader-4:]))
	last := int64(-1)
	for i := range count {
		one := recordReader{b: r.bytes(r.varint())}
		one.skip(1)  // attributes
		one.varint() // time
		delta := one.varint()
		one.bytes(one.varint()) // key
		value := one.bytes(one.varint())
		d.headers = one.headers(d.headers[:0])
		if r.bad || one.bad {
			return fmt.Errorf("got a record that does not end where it says, %d of %d", i, count)
		}
		if delta <= last || delta >= b.next-b.base {
			return fmt.Errorf("got a record of offset %d+%d after %d+%d", b.base, delta, b.base, last)
		}
		last = delta
		add(b.base+delta, value, d.headers)
	}
	return nil
}

var errInflated = fmt.Errorf("got more than %d bytes", maxDecompressed)

// decompress appends to dst. Codecs that panic on hostile bytes have been seen;
// this is where such a batch must not end the process.
func (d *batchDecoder) decompress(dst, src []byte, codec compress.Compression) (out []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the codec has panicked: %v", r)
		}
	}()
	switch codec {
	case compress.Zstd:
		return d.zstd.DecodeAll(src, dst)
	case compress.Snappy:
		return unsnap(dst, src)
	}
	c := codec.Codec()
	if c == nil {
		return nil, errors.New("the codec is unknown")
	}
	from := c.NewReader(bytes.NewReader(src))
	defer from.Close()
	if cap(dst) == 0 {
		dst = make([]byte, 0, max(64<<10, 4*len(src)))
	}
	for {
		if len(dst) == cap(dst) {
			dst = append(dst, 0)[:len(dst)]
		}
		n, err := from.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		switch {
		case errors.Is(err, io.EOF):
			return dst, nil
		case err != nil:
			return nil, err
		case len(dst) > maxDecompressed:
			return nil, errInflated
		}
	}
}

// xerialMagic begins what Java clients compress with snappy: blocks with their
// lengths behind a header of 16 bytes. Others write one block and no header.
const xerialMagic = "\x82SNAPPY\x00"

func unsnap(dst, src []byte) ([]byte, error) {
	if !bytes.HasPrefix(src, []byte(xerialMagic)) {
		return unsnapBlock(dst, src)
	}
	const header = 16
	for src = src[min(header, len(src)):]; len(src) > 0; {
		if len(src) < 4 {
			return nil, io.ErrUnexpectedEOF
		}
		n := int64(binary.BigEndian.Uint32(src))
		if src = src[4:]; n > int64(len(src)) {
			return nil, io.ErrUnexpectedEOF
		}
		var err error
		if dst, err = unsnapBlock(dst, src[:n]); err != nil {
			return nil, err
		}
		src = src[n:]
	}
	return dst, nil
}

func unsnapBlock(dst, block []byte) ([]byte, error) {
	n, err := snappy.DecodedLen(block)
	if err != nil {
		return nil, err
	}
	if n > maxDecompressed-len(dst) {
		return nil, errInflated
	}
	from := len(dst)
	if cap(dst)-from < n {
		dst = append(make([]byte, 0, max(2*cap(dst), from+n)), dst...)
	}
	if _, err := snappy.Decode(dst[from:from+n], block); err != nil {
		return nil, err
	}
	return dst[:from+n], nil
}

// recordReader reads fields; after one that is not there all are empty and bad
// is true.
type recordReader struct {
	b   []byte
	bad bool
}

func (r *recordReader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *recordReader) skip(n int64) { r.bytes(n) }

// bytes returns the next n; -1 is null.
func (r *recordReader) bytes(n int64) []byte {
	if n == -1 {
		return nil
	}
	if n < 0 || n > int64(len(r.b)) {
		r.b, r.bad = nil, true
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *recordReader) headers(dst []kafkago.Header) []kafkago.Header {
	for n := r.varint(); n > 0 && !r.bad; n-- {
		key := internHeader(r.bytes(r.varint()))
		dst = append(dst, kafkago.Header{Key: key, Value: r.bytes(r.varint())})
	}
	return dst
}

// internHeader spares the strings of the headers that every message of ours has.
func internHeader(key []byte) string {
	switch string(key) {
	case headerFormat:
		return headerFormat
	case headerTenant:
		return headerTenant
	case headerTime:
		return headerTime
	case headerFrom:
		return headerFrom
	case headerPosition:
		return headerPosition
	}
	return string(key)
}

// damagedMessage is what a consumer gets for a batch that nobody can read: its
// bytes as they are, in no format.
func damagedMessage(offset int64, raw []byte) buffer.Message {
	return buffer.Message{Offset: offset, Record: buffer.Record{Tenant: tenant.Default, Format: buffer.FormatUnknown, Payload: raw}}
}
