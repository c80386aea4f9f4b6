package otlpserver

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/doortest"
	"github.com/vedette-io/vedette/internal/config"
)

// post sends a request to the HTTP listener.
func (s *server) post(t testing.TB, path string, h http.Header, body []byte) (int, http.Header, string) {
	t.Helper()
	return s.send(t, http.MethodPost, path, h, body)
}

func (s *server) send(t testing.TB, method, path string, h http.Header, body []byte) (int, http.Header, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.HTTPAddr().String()+path, bytes.NewReader(body))
	require.NoError(t, err)
	r.Header = h
	answer, err := webClient(t).Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, answer.Header, string(text)
}

// pack compresses as exporters do.
func pack(t testing.TB, encoding string, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch encoding {
	case "", "identity":
		return plain
	case "snappy":
		return s2.EncodeSnappy(nil, plain)
	case "gzip":
		w = gzip.NewWriter(&b)
	case "deflate", "zlib":
		w = zlib.NewWriter(&b)
	case "zstd":
		z, err := zstd.NewWriter(&b)
		require.NoError(t, err)
		w = z
	case "x-snappy-framed":
		w = s2.NewWriter(&b, s2.WriterSnappyCompat())
	default:
		t.Fatalf("no encoding %q", encoding)
	}
	_, err := w.Write(plain)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

// Both formats come in with every encoding, and the answer has the request's
// format.
func TestHTTPEncodings(t *testing.T) {
	s := newServer(t, doortest.Options{}, nil)
	var want []string
	for i, encoding := range []string{"", "identity", "gzip", "zstd", "deflate", "zlib", "snappy", "x-snappy-framed"} {
		request := gauge(fmt.Sprintf("m%d", i), time.Now(), 1)
		for media, body := range map[string][]byte{typeProtobuf: marshal(t, request), typeJSON: []byte(protojson.Format(request))} {
			h := http.Header{"Content-Type": {media}}
			if encoding != "" {
				h.Set("Content-Encoding", encoding)
			}
			code, answer, text := s.post(t, MetricsPath, h, pack(t, encoding, body))
			require.Equal(t, http.StatusOK, code, "%s %s: %s", media, encoding, text)
			require.Equal(t, media, answer.Get("Content-Type"))
			if media == typeJSON {
				require.Equal(t, "{}", text)
			} else {
				require.Empty(t, text)
			}
			want = append(want, fmt.Sprintf(`default {__name__="m%d", i="0"} 1`, i))
		}
	}
	require.Equal(t, want, s.timeless())
}

// The request that docs/otlp.md sends with curl.
func TestHTTPExample(t *testing.T) {
	body, err := os.ReadFile("testdata/example.json")
	require.NoError(t, err)
	now := fmt.Sprint(time.Now().UnixNano())
	s := newServer(t, doortest.Options{}, nil)
	code, _, text := s.post(t, MetricsPath, http.Header{"Content-Type": {typeJSON}}, bytes.ReplaceAll(body, []byte("NOW"), []byte(now)))
	require.Equal(t, http.StatusOK, code, text)
	require.Equal(t, []string{`default {__name__="backup_duration_seconds", job="nightly", target="photos"} 12.5`}, s.timeless())
}

// Failures are answered as the OTLP specification says.
func TestHTTPErrors(t *testing.T) {
	s := newServer(t, doortest.Options{Config: func(c *door.Config) {
		c.MaxBodyBytes, c.MaxDecodedBytes, c.MaxInFlightBytes = 50_000, 100_000, 1<<20
	}}, nil)
	binary, json := http.Header{"Content-Type": {typeProtobuf}}, http.Header{"Content-Type": {typeJSON + "; charset=utf-8"}}
	with := func(h http.Header, name, value string) http.Header {
		h = h.Clone()
		h.Set(name, value)
		return h
	}
	good := marshal(t, gauge("a", time.Now(), 1))
	for _, tc := range []struct {
		name, method, path string
		header             http.Header
		body               []byte
		code               int
		grpc               codes.Code
		text               string
	}{
		{"method", "GET", MetricsPath, json, nil, 405, codes.Unimplemented, "method: got GET, want POST"},
		{"path", "POST", "/v2/metrics", binary, good, 404, codes.Unimplemented, `path: got "/v2/metrics", want /v1/metrics`},
		{"profiles", "POST", "/v1development/profiles", binary, good, 404, codes.Unimplemented, "profiles are not taken in: this server takes metrics at /v1/metrics, traces at /v1/traces and logs at /v1/logs"},
		{"profiles", "POST", "/v1development/profiles", json, good, 404, codes.Unimplemented, "profiles are not taken in"},
		{"no type", "POST", MetricsPath, http.Header{}, good, 415, codes.Unimplemented, "want application/x-protobuf or application/json"},
		{"type", "POST", MetricsPath, http.Header{"Content-Type": {"text/plain"}}, good, 415, codes.Unimplemented, `got "text/plain"`},
		{"encoding", "POST", MetricsPath, with(binary, "Content-Encoding", "br"), good, 415, codes.Unimplemented, `got "br"`},
		{"not protobuf", "POST", MetricsPath, binary, []byte("\x0a\xff hello"), 400, codes.InvalidArgument, "ExportMetricsServiceRequest"},
		{"not json", "POST", MetricsPath, json, []byte(`{"resourceMetrics":[`), 400, codes.InvalidArgument, "JSON"},
		{"deep json", "POST", MetricsPath, json, []byte(strings.Repeat(`{"resourceMetrics":`, 2000)), 400, codes.InvalidArgument, "JSON"},
		{"not gzip", "POST", MetricsPath, with(binary, "Content-Encoding", "gzip"), good, 400, codes.InvalidArgument, "gzip body"},
		{"large", "POST", MetricsPath, binary, make([]byte, 50_001), 413, codes.InvalidArgument, "too large"},
		{"bomb", "POST", MetricsPath, with(binary, "Content-Encoding", "zstd"), pack(t, "zstd", make([]byte, 200_000)), 413, codes.InvalidArgument, "uncompressed body"},
		{"json bomb", "POST", MetricsPath, json, []byte(`{"resourceMetrics":[` + strings.Repeat("{},", 15_000) + `{}]}`), 413, codes.InvalidArgument, "memory to read the body"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, h, body := s.send(t, tc.method, tc.path, tc.header, tc.body)
			require.Equal(t, tc.code, code, body)
			var got spb.Status
			if h.Get("Content-Type") == typeProtobuf {
				require.NoError(t, proto.Unmarshal([]byte(body), &got))
				require.Equal(t, typeProtobuf, tc.header.Get("Content-Type"))
			} else {
				require.Equal(t, typeJSON, h.Get("Content-Type"))
				require.NoError(t, protojson.Unmarshal([]byte(body), &got))
			}
			require.Equal(t, tc.grpc, codes.Code(got.Code))
			require.Contains(t, got.Message, tc.text)
			require.Empty(t, h.Get("Retry-After"))
		})
	}
	require.Empty(t, s.timeless())
}

// A browser may send from the origins that are allowed, without and with a
// token.
func TestOrigins(t *testing.T) {
	s := newServer(t, doortest.Options{}, func(o *Options) {
		o.Config.HTTP.AllowedOrigins = []string{"https://shop.example"}
		o.BearerToken = config.NewLiveSecret("secret", "")
	})
	preflight := http.Header{"Origin": {"https://shop.example"}, "Access-Control-Request-Method": {"POST"}}
	code, h, _ := s.send(t, http.MethodOptions, MetricsPath, preflight, nil)
	require.Equal(t, http.StatusNoContent, code)
	require.Equal(t, "https://shop.example", h.Get("Access-Control-Allow-Origin"))
	require.Contains(t, h.Get("Access-Control-Allow-Headers"), "Content-Type")
	preflight.Set("Origin", "https://other.example")
	code, h, _ = s.send(t, http.MethodOptions, MetricsPath, preflight, nil)
	require.Equal(t, http.StatusUnauthorized, code)
	require.Empty(t, h.Get("Access-Control-Allow-Origin"))
	code, h, _ = s.post(t, MetricsPath, http.Header{
		"Origin": {"https://shop.example"}, "Content-Type": {typeJSON}, "Authorization": {"Bearer secret"},
	}, []byte("{}"))
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "https://shop.example", h.Get("Access-Control-Allow-Origin"))
}

// The handler for another listener asks for nothing but a request.
func TestHandler(t *testing.T) {
	s := newServer(t, doortest.Options{}, func(o *Options) {
		o.Config.HTTP.Listen, o.BearerToken = "", config.NewLiveSecret("secret", "")
		o.Ready = func() bool { return false }
	})
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/api/v1/otlp/v1/metrics", bytes.NewReader(marshal(t, gauge("a", time.Now(), 1))))
	r.Header.Set("Content-Type", typeProtobuf)
	s.Handler(MetricsPath).ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, []string{`default {__name__="a", i="0"} 1`}, s.timeless())
}
