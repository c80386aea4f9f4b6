package door

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/ingesttest"
	"github.com/vedette-io/vedette/internal/tenant"
)

// forward sends a request as an agent does.
func (s *server) forward(offsets string, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/api/v1/write", bytes.NewReader(body))
	r.Header.Set("Content-Encoding", "snappy")
	r.Header.Set("Content-Type", typeV1)
	r.Header.Set(HeaderFrom, "embedded/x/vedette.metrics/0")
	r.Header.Set(HeaderOffsets, offsets)
	w := httptest.NewRecorder()
	s.door.Forwarded(RemoteWrite{s.entry}).ServeHTTP(w, r)
	return w
}

// remember makes a new door over the server's log that knows positions.
func (s *server) remember(t *testing.T, b buffer.Buffer, l *buffer.Log) {
	t.Helper()
	o := options(b, DefaultConfig(), prometheus.NewRegistry())
	o.Positions = l
	var err error
	s.door, err = New(o)
	require.NoError(t, err)
	s.entry = entry(t, s.door)
}

func TestForwarded(t *testing.T) {
	now := time.Now().UnixMilli()
	for _, partitions := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d partitions", partitions), func(t *testing.T) {
			s := newServer(t, partitions, nil)
			s.remember(t, s.log, s.log)
			body := v1(t, sample{"a", now, 1}, sample{"b", now, 2}, sample{"c", now, 3})

			w := s.forward("0-4", body)
			require.Equal(t, http.StatusNoContent, w.Code, w.Body)
			require.Equal(t, "4", w.Header().Get(HeaderPosition))
			require.Len(t, s.sink.Lines(), 3)

			for _, repeated := range []string{"0-4", "3-4", "1-1"} {
				w = s.forward(repeated, body)
				require.Equal(t, http.StatusOK, w.Code, w.Body)
				require.Equal(t, "4", w.Header().Get(HeaderPosition))
			}
			w = s.forward("3-8", body)
			require.Equal(t, http.StatusConflict, w.Code)
			require.Equal(t, "4", w.Header().Get(HeaderPosition))
			require.Len(t, s.sink.Lines(), 3, "a repeated request was written")

			// A part that is refused does not make the request one that failed.
			w = s.forward("9-12", v1(t, sample{"d", now, 1}, sample{"", now, 2}))
			require.Equal(t, http.StatusBadRequest, w.Code)
			require.Equal(t, "12", w.Header().Get(HeaderPosition))
			w = s.forward("13-13", []byte("no snappy"))
			require.Equal(t, http.StatusBadRequest, w.Code)
			require.Equal(t, "12", w.Header().Get(HeaderPosition))
			require.Len(t, s.sink.Lines(), 4)

			// The log knows after a restart.
			s.stop()
			l := openLog(t, s.fsys, partitions)
			defer func() { require.NoError(t, l.Close()) }()
			p, ok := l.Position("default/embedded/x/vedette.metrics/0")
			require.True(t, ok)
			require.EqualValues(t, 12, p.Held())
			var again ingesttest.Sink
			consume(t, l, &again)()
			require.Len(t, again.Lines(), 4)
		})
	}
}

func TestForwardedRefuses(t *testing.T) {
	s := newServer(t, 1, nil)
	s.remember(t, s.log, s.log)
	for _, offsets := range []string{"", "5", "5-", "-5", "6-5", "a-b", "5-9223372036854775807", "1-99999999999999999999"} {
		require.NotEqual(t, http.StatusNoContent, s.forward(offsets, v1(t, sample{"a", 1, 1})).Code, offsets)
	}
	require.Empty(t, s.sink.Lines())
}

// failing refuses every append from the nth on.
type failing struct {
	buffer.Buffer
	left atomic.Int32
}

func (b *failing) Append(ctx context.Context, topic string, partition int, records []buffer.Record) (int64, error) {
	if b.left.Add(-1) < 0 {
		return 0, errors.New("no")
	}
	return b.Buffer.Append(ctx, topic, partition, records)
}

// A request that came half way, over several partitions, is finished when it is
// repeated: what was written of it is not written again.
func TestForwardedHalfWay(t *testing.T) {
	now := time.Now().UnixMilli()
	s := newServer(t, 3, nil)
	half := &failing{Buffer: s.log}
	half.left.Store(1)
	s.remember(t, half, s.log)
	var samples []sample
	for i := range 30 {
		samples = append(samples, sample{fmt.Sprintf("m%d", i), now, float64(i)})
	}
	body := v1(t, samples...)
	require.Equal(t, http.StatusInternalServerError, s.forward("7-9", body).Code)
	half.left.Store(100)
	w := s.forward("7-9", body)
	require.Equal(t, http.StatusNoContent, w.Code, w.Body)
	require.Equal(t, "9", w.Header().Get(HeaderPosition))
	require.EqualValues(t, 98, half.left.Load(), "appends of the second attempt")
	require.Equal(t, http.StatusOK, s.forward("7-9", body).Code)
	s.stop()
	l := openLog(t, s.fsys, 3)
	var all ingesttest.Sink
	consume(t, l, &all)()
	require.NoError(t, l.Close())
	require.Len(t, all.Lines(), 30)
}

// Of many attempts at the same request at the same time one is written.
func TestForwardedAtOnce(t *testing.T) {
	now := time.Now().UnixMilli()
	s := newServer(t, 1, nil)
	s.remember(t, s.log, s.log)
	var wg sync.WaitGroup
	for i := range 20 {
		body := v1(t, sample{"a", now + int64(i/10), 1})
		wg.Go(func() { s.forward(fmt.Sprintf("%d-%d", i/10, i/10), body) })
	}
	wg.Wait()
	require.LessOrEqual(t, len(s.sink.Lines()), 2)
}

// Messages with the same offsets of another session, or of another tenant, are not
// taken for repeated ones, and their answers do not say that they are there.
func TestForwardedSessions(t *testing.T) {
	now := time.Now().UnixMilli()
	s := newServer(t, 1, nil)
	s.remember(t, s.log, s.log)
	send := func(name, session, id string, body []byte) *httptest.ResponseRecorder {
		if body == nil {
			body = v1(t, sample{name, now, 1})
		}
		r := httptest.NewRequest(http.MethodPost, "/api/v1/write", bytes.NewReader(body))
		for k, v := range map[string]string{
			"Content-Encoding": "snappy", "Content-Type": typeV1, HeaderFrom: "embedded/x/vedette.metrics/0", HeaderOffsets: "0-4",
			HeaderSession: session, tenant.Header: id,
		} {
			r.Header.Set(k, v)
		}
		w := httptest.NewRecorder()
		s.door.Forwarded(RemoteWrite{s.entry}).ServeHTTP(w, r)
		return w
	}
	require.Equal(t, http.StatusNoContent, send("a", "1", "", nil).Code)
	require.Equal(t, http.StatusNoContent, send("b", "2", "", nil).Code, "of another session")
	require.Equal(t, http.StatusOK, send("b", "2", "", nil).Code, "repeated")
	require.Equal(t, http.StatusNoContent, send("c", "2", "other", nil).Code, "of another tenant")
	w := send("", "3", "", []byte("no snappy"))
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Empty(t, w.Header().Get(HeaderPosition), "an answer about another session")
	require.Len(t, s.sink.Lines(), 3)
	require.Equal(t, http.StatusBadRequest, send("", "-1", "", nil).Code)
	require.Equal(t, http.StatusBadRequest, send("", "1", "no/such", nil).Code)
}
