package forward

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/vedette-io/vedette/ingest/buffer"
)

// Batch is a run of messages of one partition that are sent together.
type Batch struct {
	// Source, Topic and Partition say which log the messages' offsets are of.
	Source     string
	Topic      string
	Partition  int
	Partitions int // that the topic has there

	// Session tells these messages apart from others that have the same offsets, as
	// there are once the log was copied.
	Session uint64

	// Tries say when any of these messages may have been sent before.
	Tries buffer.Tries

	Messages []buffer.Message // at least one; valid during a Send
}

func (b *Batch) first() int64 { return b.Messages[0].Offset }
func (b *Batch) last() int64  { return b.Messages[len(b.Messages)-1].Offset }

func (b *Batch) sender() string { return fmt.Sprintf("%s/%s/%d", b.Source, b.Topic, b.Partition) }

func (b *Batch) payloadBytes() (n int) {
	for i := range b.Messages {
		n += len(b.Messages[i].Payload)
	}
	return n
}

// wireFormat says how messages of a buffer format travel over HTTP.
type wireFormat struct {
	path        string
	contentType string
	version     string // of remote write
	snappy      bool   // the payload is a snappy block
	joins       bool   // payloads, uncompressed, may be put one behind the other
}

// wireFormats are the formats that can be sent. Those that join are protobuf
// messages of which everything is repeated, so that their concatenation is the
// message with the content of both; of remote write 2.0 the symbols are not.
func wireFormats(f buffer.Format) (w wireFormat, ok bool) {
	const protobuf = "application/x-protobuf"
	switch f {
	case buffer.FormatRemoteWriteV1:
		return wireFormat{"/api/v1/write", protobuf, "0.1.0", true, true}, true
	case buffer.FormatRemoteWriteV2:
		return wireFormat{"/api/v1/write", protobuf + ";proto=io.prometheus.write.v2.Request", "2.0.0", true, false}, true
	case buffer.FormatOTLP, buffer.FormatOTLPSnappy:
		return wireFormat{"/v1/metrics", protobuf, "", f == buffer.FormatOTLPSnappy, true}, true
	case buffer.FormatOTLPTraces, buffer.FormatOTLPTracesSnappy:
		return wireFormat{"/v1/traces", protobuf, "", f == buffer.FormatOTLPTracesSnappy, true}, true
	case buffer.FormatOTLPLogs, buffer.FormatOTLPLogsSnappy:
		return wireFormat{"/v1/logs", protobuf, "", f == buffer.FormatOTLPLogsSnappy, true}, true
	}
	return wireFormat{}, false
}

// plainBytes returns the size of a payload uncompressed.
func (w *wireFormat) plainBytes(payload []byte) int {
	if !w.snappy {
		return len(payload)
	}
	n, err := s2.DecodedLen(payload)
	if err != nil {
		return len(payload)
	}
	return n
}

// joinable returns how many of the first messages may share a request of at most
// maxBytes uncompressed; the first one always goes.
func joinable(messages []buffer.Message, maxBytes int) int {
	first, ok := wireFormats(messages[0].Format)
	if !ok || !first.joins {
		return 1
	}
	size := first.plainBytes(messages[0].Payload)
	n := 1
	for ; n < len(messages); n++ {
		m := &messages[n]
		next, ok := wireFormats(m.Format)
		if !ok || next.path != first.path || !next.joins || m.Tenant != messages[0].Tenant {
			break
		}
		if size += next.plainBytes(m.Payload); size > maxBytes {
			break
		}
	}
	return n
}

// encoder makes request bodies. It is safe for concurrent use.
type encoder struct {
	compression string
	zstd        *zstd.Encoder // nil unless needed
	plain       sync.Pool     // *[]byte, for what is joined
}

func newEncoder(compression string) (*encoder, error) {
	e := &encoder{compression: compression}
	e.plain.New = func() any { return new([]byte) }
	if compression != compressionZstd {
		return e, nil
	}
	var err error
	e.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithLowerEncoderMem(true))
	return e, err
}

// body returns the body of a batch and its Content-Encoding, empty for none. What
// came in the right form is sent as it is.
func (e *encoder) body(b *Batch, w *wireFormat) (body []byte, encoding string, err error) {
	to := e.compression
	if w.version != "" {
		to = compressionSnappy // remote write knows nothing else
	}
	only := &b.Messages[0]
	if len(b.Messages) == 1 {
		switch {
		case w.snappy && to == compressionSnappy:
			return only.Payload, compressionSnappy, nil
		case !w.snappy && to == compressionNone:
			return only.Payload, "", nil
		}
	}
	plain := e.plain.Get().(*[]byte)
	defer func() {
		const keep = 4 << 20
		if cap(*plain) <= keep {
			e.plain.Put(plain)
		}
	}()
	*plain = (*plain)[:0]
	for i := range b.Messages {
		m := &b.Messages[i]
		if f, _ := wireFormats(m.Format); !f.snappy {
			*plain = append(*plain, m.Payload...)
			continue
		}
		if *plain, err = appendPlain(*plain, m.Payload); err != nil {
			return nil, "", &PermanentError{Reason: fmt.Sprintf("uncompress message %d: %v", m.Offset, err)}
		}
	}
	body, err = e.compress(*plain, to)
	if to == compressionNone {
		to = ""
	}
	return body, to, err
}

// appendPlain appends what is in a snappy block to dst.
func appendPlain(dst, block []byte) ([]byte, error) {
	n, err := s2.DecodedLen(block)
	if err != nil {
		return dst, err
	}
	from := len(dst)
	for cap(dst) < from+n {
		dst = append(dst[:cap(dst)], 0)
	}
	dst = dst[:from+n]
	_, err = s2.Decode(dst[from:], block)
	return dst, err
}

func (e *encoder) compress(plain []byte, to string) ([]byte, error) {
	switch to {
	case compressionSnappy:
		return s2.EncodeSnappy(nil, plain), nil
	case compressionZstd:
		return e.zstd.EncodeAll(plain, nil), nil
	case compressionGzip:
		var b bytes.Buffer
		w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
		if err == nil {
			_, err = w.Write(plain)
		}
		if err == nil {
			err = w.Close()
		}
		return b.Bytes(), err
	}
	return bytes.Clone(plain), nil
}

// close lets go of what is kept.
func (e *encoder) close() error {
	if e.zstd == nil {
		return nil
	}
	return e.zstd.Close()
}

// drain reads what is left of an answer, so that its connection can be used again.
func drain(r io.Reader) { _, _ = io.Copy(io.Discard, io.LimitReader(r, 256<<10)) }
