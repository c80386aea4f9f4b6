package door

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ingest"
	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/ingesttest"
	"github.com/vedette-io/vedette/ingest/remotewrite"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/labels"
)

func TestEntryLimits(t *testing.T) {
	cfg := DefaultConfig()
	cfg.QueueTimeout, cfg.StoreTimeout = time.Millisecond, 0
	d, err := New(options(&fakeBuffer{}, cfg, prometheus.NewRegistry()))
	require.NoError(t, err)
	e, err := d.Entry("test", EntryConfig{MaxBodyBytes: 10, MaxConcurrent: 1, SamplesPerSecond: 0.001, SamplesBurst: 1})
	require.NoError(t, err)
	require.Equal(t, 10, e.MaxBodyBytes())
	payload := v1(t, sample{"a", 1, 1}, sample{"b", 1, 1}) // more than the burst
	_, err = e.Write(t.Context(), "t", buffer.FormatRemoteWriteV1, payload)
	require.NoError(t, err)
	_, err = e.Write(t.Context(), "t", buffer.FormatRemoteWriteV1, payload)
	code, retryAfter := Status(err)
	require.Equal(t, http.StatusTooManyRequests, code)
	require.Positive(t, retryAfter)
	require.ErrorContains(t, err, "all senders to test send more than 0.001 samples per second")

	require.True(t, e.slots.TryAcquire(1))
	_, err = e.Write(t.Context(), "t", buffer.FormatRemoteWriteV1, payload)
	code, _ = Status(err)
	require.Equal(t, http.StatusServiceUnavailable, code)

	_, err = e.Write(t.Context(), "t", buffer.FormatUnknown, payload)
	require.Error(t, err)
	require.Error(t, EntryConfig{MaxBodyBytes: -1}.Validate())
}

// Every entry counts what it received, accepted and refused for itself.
func TestEntryMetrics(t *testing.T) {
	s := newServer(t, 1, nil)
	other, err := s.door.Entry("other", EntryConfig{})
	require.NoError(t, err)
	s.post(v1(t, sample{"a", 1, 1}, sample{"b", 1, 1}, sample{"", 1, 1}))
	_, err = other.Write(t.Context(), "t", buffer.FormatRemoteWriteV1, v1(t, sample{"a", 1, 1}))
	require.NoError(t, err)
	other.Reject(wire.ReasonInvalidLine, 2)
	require.NoError(t, testutil.GatherAndCompare(s.reg, strings.NewReader(`
# HELP vedette_ingest_accepted_samples_total Samples, floats and histograms, that were acknowledged, duplicates of stored ones included.
# TYPE vedette_ingest_accepted_samples_total counter
vedette_ingest_accepted_samples_total{door="other"} 1
vedette_ingest_accepted_samples_total{door="remote_write"} 2
# HELP vedette_ingest_received_samples_total Samples, floats and histograms, that were decoded, refused ones included.
# TYPE vedette_ingest_received_samples_total counter
vedette_ingest_received_samples_total{door="other"} 1
vedette_ingest_received_samples_total{door="remote_write"} 3
# HELP vedette_ingest_refused_total Samples, exemplars, metadata entries, empty series, spans and log records refused by validation or by the store, by reason.
# TYPE vedette_ingest_refused_total counter
vedette_ingest_refused_total{door="other",reason="invalid_line"} 2
vedette_ingest_refused_total{door="remote_write",reason="missing_metric_name"} 1
`), "vedette_ingest_accepted_samples_total", "vedette_ingest_received_samples_total", "vedette_ingest_refused_total"))
}

// sizedBuffer keeps what fits.
type sizedBuffer struct {
	fakeBuffer
	mu       sync.Mutex
	most     int
	payloads [][]byte
}

func (b *sizedBuffer) Append(_ context.Context, _ string, _ int, rs []buffer.Record) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range rs {
		if len(r.Payload) > b.most {
			return 0, buffer.ErrTooLarge
		}
		b.payloads = append(b.payloads, slices.Clone(r.Payload))
		if d, ok := r.Attachment.(*ingest.Delivery); ok {
			d.Discard()
		}
	}
	return 0, nil
}

// A request that is larger than a message may be is divided, not refused.
func TestRecordLimit(t *testing.T) {
	b := &sizedBuffer{most: 2000}
	o := options(b, DefaultConfig(), prometheus.NewRegistry())
	o.MaxRecordBytes = b.most
	d, err := New(o)
	require.NoError(t, err)
	var request remotewrite.Builder
	for i := range 1000 {
		request.Begin(labels.Append(nil, "__name__", strings.Repeat("m", 1+i%50)+string(rune('a'+i%26))+string(rune('a'+i/26%26))))
		request.Sample(0, int64(i), float64(i)*1.234567)
		request.End()
	}
	payload := request.Payload(nil)
	require.Greater(t, len(payload), 4*b.most)
	_, err = entry(t, d).Write(t.Context(), "t", buffer.FormatRemoteWriteV1, payload)
	require.NoError(t, err)
	require.Greater(t, len(b.payloads), 4)
	var got []string
	for _, p := range b.payloads {
		var r remotewrite.Request
		require.NoError(t, r.Decode(buffer.FormatRemoteWriteV1, p, wire.Limits{}))
		got = append(got, ingesttest.Lines(&r.Metrics)...)
	}
	var all remotewrite.Request
	require.NoError(t, all.Decode(buffer.FormatRemoteWriteV1, payload, wire.Limits{}))
	require.ElementsMatch(t, ingesttest.Lines(&all.Metrics), got)
}
