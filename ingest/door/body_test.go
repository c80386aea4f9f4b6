package door

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ingest/ingesttest"
)

func pack(t testing.TB, encoding string, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch encoding {
	case "":
		return plain
	case Gzip:
		w = gzip.NewWriter(&b)
	case Deflate:
		w = zlib.NewWriter(&b)
	case Zstd:
		z, err := zstd.NewWriter(&b)
		require.NoError(t, err)
		w = z
	case Snappy:
		return s2.EncodeSnappy(nil, plain)
	case "snappy frames":
		w = s2.NewWriter(&b, s2.WriterSnappyCompat())
	}
	_, err := w.Write(plain)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

func TestReadBody(t *testing.T) {
	s := newServer(t, 1, func(c *Config, _ *ingesttest.Sink) {
		c.MaxBodyBytes, c.MaxDecodedBytes, c.MaxInFlightBytes = 50_000, 100_000, 1<<20
	})
	plain := bytes.Repeat([]byte("some text "), 4_000)
	bomb := make([]byte, 200_000)
	read := func(body []byte, encoding string) ([]byte, int) {
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		r.Header.Set("Content-Encoding", strings.TrimSuffix(encoding, " frames"))
		b, err := s.entry.ReadBody(httptest.NewRecorder(), r, Gzip, Zstd, Deflate, Snappy)
		whole := bytes.Clone(bodyBytes(b))

		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), strings.NewReader("the next message")))
		m, messageErr := s.entry.ReadMessage(httptest.NewRecorder(), r, len(body), strings.TrimSuffix(encoding, " frames"))
		require.Equal(t, whole, bytes.Clone(bodyBytes(m)))
		code, _ := Status(err)
		messageCode, _ := Status(messageErr)
		require.Equal(t, code, messageCode)
		for _, b := range []*Body{b, m} {
			if b != nil {
				b.Release()
			}
		}
		return whole, code
	}
	for _, encoding := range []string{"", Gzip, Zstd, Deflate, Snappy, "snappy frames"} {
		t.Run(encoding, func(t *testing.T) {
			packed := pack(t, encoding, plain)
			got, code := read(packed, encoding)
			require.Equal(t, http.StatusNoContent, code)
			require.Equal(t, plain, got)
			_, code = read(pack(t, encoding, bomb), encoding)
			require.Equal(t, http.StatusRequestEntityTooLarge, code)
			if encoding != "" {
				for _, damaged := range [][]byte{nil, []byte("x"), packed[:len(packed)-5]} {
					_, code = read(damaged, encoding)
					require.Equal(t, http.StatusBadRequest, code, "%.20q", damaged)
				}
			}
		})
	}
	n, err := inFlight(s)
	require.NoError(t, err)
	require.Zero(t, n)

	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("short"))
	_, err = s.entry.ReadMessage(httptest.NewRecorder(), r, 10, "")
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	r = httptest.NewRequest(http.MethodPost, "/", strings.NewReader("body"))
	b, err := s.entry.ReadBody(httptest.NewRecorder(), r)
	require.NoError(t, err)
	require.NoError(t, b.Charge(600_000))
	other, err := s.entry.ReadBody(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", strings.NewReader("body")))
	require.NoError(t, err)
	var overload *OverloadError
	require.ErrorAs(t, other.Charge(600_000), &overload)
	require.ErrorContains(t, b.Charge(1<<20), "want <= 1048576")
	b.Release()
	other.Release()
}

func bodyBytes(b *Body) []byte {
	if b == nil {
		return nil
	}
	return b.Bytes
}

// inFlight is the memory that the door says is charged.
func inFlight(s *server) (float64, error) {
	families, err := s.reg.Gather()
	for _, f := range families {
		if f.GetName() == "vedette_ingest_in_flight_bytes" {
			return f.Metric[0].Gauge.GetValue(), err
		}
	}
	return -1, err
}
