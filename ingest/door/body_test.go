package door

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

func compressed(t testing.TB, encoding string, body []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch encoding {
	case Gzip:
		w = gzip.NewWriter(&b)
	case Deflate:
		w = zlib.NewWriter(&b)
	case Zstd:
		z, err := zstd.NewWriter(&b)
		require.NoError(t, err)
		w = z
	case Snappy:
		return s2.EncodeSnappy(nil, body)
	default:
		return body
	}
	_, err := w.Write(body)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

// bodyDoor is a door that takes bodies of 1 MB and 2 MB uncompressed.
func bodyDoor(t testing.TB, limits EntryConfig) (*Door, *Entry) {
	t.Helper()
	cfg := DefaultConfig()
	cfg.MaxBodyBytes, cfg.MaxDecodedBytes, cfg.MaxInFlightBytes = 1<<20, 2<<20, 6<<20
	cfg.QueueTimeout = time.Millisecond
	d, err := New(options(&fakeBuffer{}, cfg, prometheus.NewRegistry()))
	require.NoError(t, err)
	e, err := d.Entry("test", limits)
	require.NoError(t, err)
	return d, e
}

func read(e *Entry, encoding string, body []byte, length int64) (*Body, error) {
	r := httptest.NewRequest(http.MethodPost, "/", io.NopCloser(bytes.NewReader(body)))
	r.ContentLength = length
	r.Header.Set("Content-Encoding", encoding)
	return e.ReadBody(httptest.NewRecorder(), r, Gzip, Zstd, Deflate, Snappy)
}

func TestReadBody(t *testing.T) {
	d, e := bodyDoor(t, EntryConfig{})
	text := bytes.Repeat([]byte("some text that compresses, "), 20_000)
	bomb := make([]byte, 3<<20)
	for _, encoding := range []string{"", "identity", Gzip, Zstd, Deflate, Snappy} {
		t.Run(encoding, func(t *testing.T) {
			packed := compressed(t, encoding, text)
			for _, length := range []int64{int64(len(packed)), -1} {
				b, err := read(e, encoding, packed, length)
				require.NoError(t, err)
				require.Equal(t, text, b.Bytes)
				b.Release()
				b.Release() // twice is once
			}
			b, err := read(e, encoding, compressed(t, encoding, nil), -1)
			require.NoError(t, err)
			require.Empty(t, b.Bytes)
			b.Release()

			_, err = read(e, encoding, compressed(t, encoding, bomb), -1)
			code, _ := Status(err)
			require.Equal(t, http.StatusRequestEntityTooLarge, code, "%v", err)
			if encoding != "" && encoding != "identity" {
				_, err = read(e, encoding, packed[:len(packed)/2], -1)
				code, _ = Status(err)
				require.Equal(t, http.StatusBadRequest, code, "%v", err)
				_, err = read(e, encoding, []byte("this is not compressed"), -1)
				code, _ = Status(err)
				require.Equal(t, http.StatusBadRequest, code, "%v", err)
			}
			require.True(t, d.memory.TryAcquire(d.cfg.MaxInFlightBytes), "memory was not given back")
			d.memory.Release(d.cfg.MaxInFlightBytes)
		})
	}
	_, err := read(e, "br", text, -1)
	require.EqualError(t, err, `write: Content-Encoding: got "br", want gzip, zstd, deflate, snappy or identity`)
	code, _ := Status(err)
	require.Equal(t, http.StatusUnsupportedMediaType, code)
}

// Memory that is taken by others makes a body wait shortly and be refused.
func TestReadBodyOverload(t *testing.T) {
	d, e := bodyDoor(t, EntryConfig{})
	require.True(t, d.memory.TryAcquire(d.cfg.MaxInFlightBytes))
	for _, encoding := range []string{"", Gzip, Snappy} {
		_, err := read(e, encoding, compressed(t, encoding, []byte("text")), -1)
		code, retryAfter := Status(err)
		require.Equal(t, http.StatusServiceUnavailable, code, "%v", err)
		require.Positive(t, retryAfter)
	}
}
