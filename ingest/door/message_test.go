package door

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/stretchr/testify/require"
)

// A message is read like a body, and nothing behind it.
func TestReadMessage(t *testing.T) {
	d, e := bodyDoor(t, EntryConfig{})
	text := bytes.Repeat([]byte("some text that compresses, "), 20_000)
	read := func(body []byte, length int, encoding string) (*Body, string, error) {
		in := io.MultiReader(bytes.NewReader(body), strings.NewReader("the next message"))
		r := httptest.NewRequest(http.MethodPost, "/", in)
		b, err := e.ReadMessage(httptest.NewRecorder(), r, length, encoding)
		rest, _ := io.ReadAll(in)
		return b, string(rest), err
	}
	var frames bytes.Buffer
	w := s2.NewWriter(&frames, s2.WriterSnappyCompat())
	_, err := w.Write(text)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	for _, tc := range []struct {
		encoding string
		body     []byte
	}{
		{"", text}, {"identity", text}, {Gzip, compressed(t, Gzip, text)}, {Zstd, compressed(t, Zstd, text)},
		{Deflate, compressed(t, Deflate, text)}, {Snappy, compressed(t, Snappy, text)}, {Snappy, frames.Bytes()},
	} {
		b, rest, err := read(tc.body, len(tc.body), tc.encoding)
		require.NoError(t, err, tc.encoding)
		require.Equal(t, text, b.Bytes)
		require.Equal(t, "the next message", rest)
		b.Release()
	}
	_, _, err = read(text, 1<<20+1, "")
	code, _ := Status(err)
	require.Equal(t, http.StatusRequestEntityTooLarge, code)
	_, _, err = read([]byte("short"), 100, "")
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, _, err = read(frames.Bytes()[:frames.Len()-3], frames.Len()-3, Snappy)
	code, _ = Status(err)
	require.Equal(t, http.StatusBadRequest, code, "%v", err)
	require.True(t, d.memory.TryAcquire(d.cfg.MaxInFlightBytes), "memory was not given back")
	d.memory.Release(d.cfg.MaxInFlightBytes)
}

func TestBodyCharge(t *testing.T) {
	d, e := bodyDoor(t, EntryConfig{})
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("body"))
	b, err := e.ReadBody(httptest.NewRecorder(), r)
	require.NoError(t, err)
	require.NoError(t, b.Charge(4<<20))
	other, err := e.ReadBody(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", strings.NewReader("body")))
	require.NoError(t, err)
	code, _ := Status(other.Charge(4 << 20))
	require.Equal(t, http.StatusServiceUnavailable, code)
	code, _ = Status(other.Charge(6 << 20)) // would never have room
	require.Equal(t, http.StatusRequestEntityTooLarge, code)
	b.Release()
	other.Release()
	require.True(t, d.memory.TryAcquire(d.cfg.MaxInFlightBytes), "memory was not given back")
	d.memory.Release(d.cfg.MaxInFlightBytes)
}
