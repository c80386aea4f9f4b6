package remotewrite

import (
	"encoding/binary"
	"math"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	promlabels "github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/prompb"

	"github.com/vedette-io/vedette/internal/labels"
)

// Protobuf tags of prometheus.WriteRequest and what is in it.
const (
	tagTimeSeries = 1<<3 | 2
	tagMetadata   = 3<<3 | 2

	tagSample    = 2<<3 | 2
	tagExemplar  = 3<<3 | 2
	tagHistogram = 4<<3 | 2

	tagValue       = 1<<3 | 1
	tagTime        = 2 << 3
	tagSampleStart = 3 << 3 // read by Vedette alone

	tagExemplarValue  = 2<<3 | 1
	tagExemplarTime   = 3 << 3
	tagHistogramStart = 17 << 3 // read by Vedette alone
)

// Builder writes 1.0 requests for sources that have no payload of their own,
// with start timestamps in the fields that only Vedette reads. The zero value is
// an empty request.
//
//	b.Begin(lset); b.Sample(0, t, v); b.End()
//	payload := b.Payload(nil); b.Reset()
type Builder struct {
	body   []byte
	msg    []byte // the series under construction
	series int
}

// Begin starts a series; lset is its labels in canonical form.
func (b *Builder) Begin(lset []byte) { b.msg = append(b.msg[:0], lset...) }

// Sample adds a sample to the series at hand. Times are unix milliseconds; a
// start of 0 is unknown.
func (b *Builder) Sample(start, t int64, v float64) {
	dst := append(b.msg, tagSample, 0, tagValue)
	size := len(dst) - 2 // the message is shorter than 128 bytes, so its length is one byte
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
	dst = append(dst, tagTime)
	dst = binary.AppendUvarint(dst, uint64(t))
	if start != 0 {
		dst = append(dst, tagSampleStart)
		dst = binary.AppendUvarint(dst, uint64(start))
	}
	dst[size] = byte(len(dst) - size - 1)
	b.msg = dst
}

// Histogram adds a native histogram, h or fh, to the series at hand.
func (b *Builder) Histogram(start, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) error {
	var p prompb.Histogram
	if h != nil {
		p = prompb.FromIntHistogram(t, h)
	} else {
		p = prompb.FromFloatHistogram(t, fh)
	}
	msg, err := p.Marshal()
	if err != nil {
		return err
	}
	if start != 0 {
		msg = binary.AppendUvarint(msg, tagHistogramStart)
		msg = binary.AppendUvarint(msg, uint64(start))
	}
	b.msg = appendMessage(b.msg, tagHistogram, msg)
	return nil
}

// Exemplar adds an exemplar to the series at hand.
func (b *Builder) Exemplar(e *exemplar.Exemplar) {
	var msg []byte
	e.Labels.Range(func(l promlabels.Label) { msg = labels.Append(msg, l.Name, l.Value) })
	msg = append(msg, tagExemplarValue)
	msg = binary.LittleEndian.AppendUint64(msg, math.Float64bits(e.Value))
	msg = append(msg, tagExemplarTime)
	msg = binary.AppendUvarint(msg, uint64(e.Ts))
	b.msg = appendMessage(b.msg, tagExemplar, msg)
}

// End finishes the series at hand.
func (b *Builder) End() {
	b.body = appendMessage(b.body, tagTimeSeries, b.msg)
	b.series++
}

// Metadata describes a metric family.
func (b *Builder) Metadata(name string, meta metadata.Metadata) {
	msg := []byte{1 << 3, byte(prompb.FromMetadataType(meta.Type))}
	for _, text := range []struct {
		tag byte
		s   string
	}{{2<<3 | 2, name}, {4<<3 | 2, meta.Help}, {5<<3 | 2, meta.Unit}} {
		if text.s != "" {
			msg = append(msg, text.tag)
			msg = binary.AppendUvarint(msg, uint64(len(text.s)))
			msg = append(msg, text.s...)
		}
	}
	b.body = appendMessage(b.body, tagMetadata, msg)
}

// Size returns how long the request is, uncompressed.
func (b *Builder) Size() int { return len(b.body) }

// Series returns how many series the request has.
func (b *Builder) Series() int { return b.series }

// Payload returns the request compressed, of buffer.FormatRemoteWriteV1; dst is
// memory that it may use.
func (b *Builder) Payload(dst []byte) []byte { return s2.EncodeSnappy(dst[:cap(dst)], b.body) }

// Reset empties the request and keeps its memory.
func (b *Builder) Reset() { b.body, b.msg, b.series = b.body[:0], b.msg[:0], 0 }

func appendMessage(dst []byte, tag byte, msg []byte) []byte {
	dst = append(dst, tag)
	dst = binary.AppendUvarint(dst, uint64(len(msg)))
	return append(dst, msg...)
}
