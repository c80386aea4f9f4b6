package scrape

import (
	"encoding/binary"
	"math"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	promlabels "github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"

	"github.com/vedette-io/vedette/internal/labels"
)

// Protobuf tags of prometheus.WriteRequest and what is in it.
const (
	fieldTimeSeries = 1<<3 | 2
	fieldMetadata   = 3<<3 | 2

	fieldSample    = 2<<3 | 2
	fieldExemplar  = 3<<3 | 2
	fieldHistogram = 4<<3 | 2

	fieldValue       = 1<<3 | 1
	fieldTime        = 2 << 3
	fieldSampleStart = 3 << 3 // read by Vedette alone

	fieldExemplarValue  = 2<<3 | 1
	fieldExemplarTime   = 3 << 3
	fieldHistogramStart = 17 << 3 // read by Vedette alone
)

func appendMessage(dst []byte, tag byte, msg []byte) []byte {
	dst = append(dst, tag)
	dst = binary.AppendUvarint(dst, uint64(len(msg)))
	return append(dst, msg...)
}

// appendSample appends a Sample message with its tag; it is shorter than 128
// bytes, so its length is one byte.
func appendSample(dst []byte, st, t int64, v float64) []byte {
	dst = append(dst, fieldSample, 0, fieldValue)
	size := len(dst) - 2
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
	dst = append(dst, fieldTime)
	dst = binary.AppendUvarint(dst, uint64(t))
	if st != 0 {
		dst = append(dst, fieldSampleStart)
		dst = binary.AppendUvarint(dst, uint64(st))
	}
	dst[size] = byte(len(dst) - size - 1)
	return dst
}

func appendHistogram(dst []byte, st, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) ([]byte, error) {
	var p prompb.Histogram
	if h != nil {
		p = prompb.FromIntHistogram(t, h)
	} else {
		p = prompb.FromFloatHistogram(t, fh)
	}
	msg, err := p.Marshal()
	if err != nil {
		return dst, err
	}
	if st != 0 {
		msg = binary.AppendUvarint(msg, fieldHistogramStart)
		msg = binary.AppendUvarint(msg, uint64(st))
	}
	return appendMessage(dst, fieldHistogram, msg), nil
}

func appendExemplar(dst []byte, e *exemplar.Exemplar) []byte {
	var msg []byte
	e.Labels.Range(func(l promlabels.Label) { msg = labels.Append(msg, l.Name, l.Value) })
	msg = append(msg, fieldExemplarValue)
	msg = binary.LittleEndian.AppendUint64(msg, math.Float64bits(e.Value))
	msg = append(msg, fieldExemplarTime)
	msg = binary.AppendUvarint(msg, uint64(e.Ts))
	return appendMessage(dst, fieldExemplar, msg)
}

func appendMetadata(dst []byte, f family) []byte {
	msg := []byte{1 << 3, byte(metricType(f.meta.Type))}
	for _, text := range []struct {
		tag byte
		s   string
	}{{2<<3 | 2, f.name}, {4<<3 | 2, f.meta.Help}, {5<<3 | 2, f.meta.Unit}} {
		if text.s != "" {
			msg = append(msg, text.tag)
			msg = binary.AppendUvarint(msg, uint64(len(text.s)))
			msg = append(msg, text.s...)
		}
	}
	return appendMessage(dst, fieldMetadata, msg)
}

func metricType(t model.MetricType) prompb.MetricMetadata_MetricType {
	return prompb.FromMetadataType(t)
}
