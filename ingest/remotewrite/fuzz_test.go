package remotewrite

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
)

// fuzzBody decodes arbitrary bytes: a value or an error, never a panic, and what
// was accepted survives the way through the buffer. known says whether the
// reference decoder takes the bytes; it and ours must agree.
func fuzzBody(t *testing.T, format buffer.Format, body []byte, known error) {
	compressed := s2.EncodeSnappy(nil, body)
	var r Request
	err := r.Decode(format, compressed, wire.Limits{MaxTime: now, MaxLabels: 20, MaxLabelNameBytes: 50, MaxLabelValueBytes: 300})
	if err != nil && (strings.Contains(err.Error(), "a bucket of field") || strings.Contains(err.Error(), "a reference is cut")) {
		return // the reference lets the last value of a packed field run over the field's end
	}
	if (err == nil) != (known == nil) {
		t.Fatalf("ours: %v, reference: %v", err, known)
	}
	if err != nil {
		return
	}
	checkReplay(t, &r, compressed, 1)
	require.NoError(t, r.Decode(format, compressed, wire.Limits{}))
	checkReplay(t, &r, compressed, 2)
}

func FuzzV1(f *testing.F) {
	for seed := range uint64(5) {
		f.Add(marshalV1(f, randomSeries(rand.New(rand.NewPCG(seed, 3)), 3), prompb.MetricMetadata{MetricFamilyName: "m", Help: "h"}))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var req prompb.WriteRequest
		fuzzBody(t, buffer.FormatRemoteWriteV1, body, req.Unmarshal(body))
	})
}

func FuzzV2(f *testing.F) {
	for seed := range uint64(5) {
		f.Add(marshalV2(f, randomSeries(rand.New(rand.NewPCG(seed, 3)), 3)))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var req writev2.Request
		fuzzBody(t, buffer.FormatRemoteWriteV2, body, req.Unmarshal(body))
	})
}

func FuzzCompressed(f *testing.F) {
	f.Add(s2.EncodeSnappy(nil, marshalV1(f, randomSeries(rand.New(rand.NewPCG(1, 3)), 3))), true)
	f.Add(s2.EncodeSnappy(nil, marshalV2(f, randomSeries(rand.New(rand.NewPCG(1, 3)), 3))), false)
	f.Fuzz(func(t *testing.T, compressed []byte, v1 bool) {
		format := buffer.FormatRemoteWriteV2
		if v1 {
			format = buffer.FormatRemoteWriteV1
		}
		var r Request
		_ = r.Decode(format, compressed, wire.Limits{MaxDecodedBytes: 1 << 20})
	})
}
