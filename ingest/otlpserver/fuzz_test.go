package otlpserver

import (
	"bytes"
	"encoding/binary"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/doortest"
	"github.com/vedette-io/vedette/ingest/otlp"
	"github.com/vedette-io/vedette/ingest/wire"
)

// fuzzReceiver is a receiver with small limits.
func fuzzReceiver(t testing.TB) *receiver {
	p := doortest.New(t, doortest.Options{
		Formats: func(f *wire.Formats) {
			f.Register(func() wire.Decoder { return otlp.New(otlp.DefaultConfig()) }, buffer.FormatOTLP, buffer.FormatOTLPSnappy)
		},
		Config: func(c *door.Config) {
			c.MaxBodyBytes, c.MaxDecodedBytes = 1<<20, 1<<20
			c.QueueTimeout, c.StoreTimeout = time.Millisecond, 0
		},
	})
	return &receiver{entry: p.Entry("otlp"), metrics: newMetrics(prometheus.NewRegistry())}
}

// FuzzHTTP sends hostile requests to the HTTP endpoint: it answers with a
// response or a status in the format that it says.
func FuzzHTTP(f *testing.F) {
	request := gauge("a", time.Unix(1_700_000_000, 0), 1, 2)
	for _, encoding := range []string{"", "gzip", "zstd", "deflate", "snappy", "x-snappy-framed", "br"} {
		for _, media := range []string{typeProtobuf, typeJSON, "text/plain"} {
			body := marshal(f, request)
			if media == typeJSON {
				body = []byte(protojson.Format(request))
			}
			if encoding != "br" {
				body = pack(f, encoding, body)
			}
			f.Add(media, encoding, "team", body)
			f.Add(media, encoding, "a b", body[:len(body)/2])
		}
	}
	f.Add(typeJSON, "", "", []byte(`{"resourceMetrics":[null,{"scopeMetrics":[{"metrics":[{"name":7,"gauge":{"dataPoints":[null]}}]}]}]}`))
	handler := httpHandler(fuzzReceiver(f), gate{}, []string{"*"})
	f.Fuzz(func(t *testing.T, media, encoding, tenant string, body []byte) {
		r := httptest.NewRequest(http.MethodPost, MetricsPath, bytes.NewReader(body))
		r.Header.Set("Content-Type", media)
		r.Header.Set("Content-Encoding", encoding)
		r.Header.Set("X-Scope-OrgID", tenant)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		var answer proto.Message = &spb.Status{}
		switch {
		case w.Code == http.StatusOK:
			answer = &collectorpb.ExportMetricsServiceResponse{}
		case w.Code == http.StatusInternalServerError || w.Code < 400:
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		unmarshal := proto.Unmarshal
		if w.Header().Get("Content-Type") == typeJSON {
			unmarshal = protojson.Unmarshal
		}
		require.NoError(t, unmarshal(w.Body.Bytes(), answer))
	})
}

// FuzzGRPC sends hostile calls: they end with one status.
func FuzzGRPC(f *testing.F) {
	message := marshal(f, gauge("a", time.Unix(1_700_000_000, 0), 1, 2))
	for _, encoding := range []string{"identity", "gzip", "zstd", "snappy", "deflate", "br"} {
		body := message
		if encoding != "br" && encoding != "snappy" {
			body = pack(f, encoding, body)
		}
		prefix := binary.BigEndian.AppendUint32([]byte{1}, uint32(len(body)))
		f.Add(kinds[0].method(), encoding, "1S", append(prefix, body...))
		f.Add(healthMethod, encoding, "", append([]byte{0, 0, 0, 0, 3}, "\x0a\x01a"...))
		f.Add(kinds[0].method(), encoding, "x", append(prefix, "short"...))
	}
	handler := &grpcReceiver{receiver: fuzzReceiver(f)}
	f.Fuzz(func(t *testing.T, method, encoding, timeout string, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		r.URL.Path, r.ProtoMajor = method, 2
		r.Header.Set("Content-Type", typeGRPC)
		r.Header.Set("Grpc-Encoding", encoding)
		r.Header.Set("Grpc-Timeout", timeout)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		code, err := strconv.Atoi(w.Header().Get(http.TrailerPrefix + "Grpc-Status"))
		require.NoError(t, err)
		require.Equal(t, code == 0, w.Body.Len() >= prefixBytes)
		require.Equal(t, http.StatusOK, w.Code)
	})
}
