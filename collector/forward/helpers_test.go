package forward

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/otlplogs"
	"github.com/vedette-io/vedette/ingest/otlpserver"
	"github.com/vedette-io/vedette/ingest/remotewrite"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testFormats() *wire.Formats {
	f := &wire.Formats{}
	remotewrite.Register(f)
	otlplogs.Register(f)
	return f
}

// openDoor opens a door that knows logs, and returns what takes them from forwarders.
// All that concerns the buffer is in the given options.
func openDoor(t *testing.T, o door.Options) (*door.Door, http.Handler) {
	t.Helper()
	o.Config = door.DefaultConfig()
	o.Config.StoreTimeout = time.Millisecond
	o.Formats, o.Logger, o.Registerer = testFormats(), slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	d, err := door.New(o)
	if err != nil {
		t.Fatal(err)
	}
	entry, err := d.Entry("otlp", door.EntryConfig{})
	if err != nil {
		t.Fatal(err)
	}
	server, err := otlpserver.Open(t.Context(), otlpserver.Options{Entry: entry, Logger: o.Logger, Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	return d, d.Forwarded(server.Handler(otlpserver.LogsPath))
}

func openQueue(t testing.TB, fsys vfs.FS, change func(*QueueConfig)) *Queue {
	t.Helper()
	c := DefaultConfig().Queue
	if change != nil {
		change(&c)
	}
	q, err := OpenQueue(QueueOptions{
		Config: c, Log: buffer.DefaultConfig(), FS: fsys, Dir: "queue", Formats: testFormats(),
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// logRequest is an OTLP log request with one record that says body, padded to some
// size.
func logRequest(body string, size int) []byte {
	body += strings.Repeat(" ", max(0, size-len(body)))
	message := func(number protowire.Number, content []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), content)
	}
	record := protowire.AppendFixed64(protowire.AppendTag(nil, 1, protowire.Fixed64Type), uint64(time.Now().UnixNano()))
	record = append(record, message(5, message(1, []byte(body)))...)
	return message(1, message(2, message(2, record)))
}

// bodies returns what the records of a request say, in order.
func bodies(request []byte) (all []string) {
	each := func(b []byte, number protowire.Number, see func([]byte)) {
		for len(b) > 0 {
			n, kind, length := protowire.ConsumeTag(b)
			size := protowire.ConsumeFieldValue(n, kind, b[max(length, 0):])
			if length < 0 || size < 0 {
				all = append(all, "not protobuf")
				return
			}
			if n == number && kind == protowire.BytesType {
				content, _ := protowire.ConsumeBytes(b[length:])
				see(content)
			}
			b = b[length+size:]
		}
	}
	each(request, 1, func(resource []byte) {
		each(resource, 2, func(scope []byte) {
			each(scope, 2, func(record []byte) {
				each(record, 5, func(value []byte) {
					each(value, 1, func(text []byte) { all = append(all, strings.TrimSpace(string(text))) })
				})
			})
		})
	})
	return all
}

// plainBody reads a request's body.
func plainBody(r *http.Request) []byte {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil
	}
	if r.Header.Get("Content-Encoding") == compressionSnappy {
		b, _ = s2.Decode(nil, b)
	}
	return b
}

// inMemory hands requests to a handler without a network, so that a test's clock
// stands still meanwhile.
type inMemory func(w http.ResponseWriter, r *http.Request)

func (f inMemory) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	defer func() {
		if e, ok := recover().(error); ok { // the handler's way to break the connection
			resp, err = nil, e
		}
	}()
	w := httptest.NewRecorder()
	f(w, r)
	return w.Result(), nil
}

// testHTTP is a destination that is a handler.
func testHTTP(t testing.TB, c Config, handle inMemory) *HTTP {
	t.Helper()
	c.Endpoint = "http://server"
	h, err := NewHTTP(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	h.client.Transport = handle
	return h
}

// forwarding runs a forwarder until stop.
func forwarding(t testing.TB, q *Queue, c Config, d Destination) (stop func()) {
	t.Helper()
	f, err := New(Options{Queue: q, Config: c, Destination: d, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run forwarder: %v", err)
		}
	})
}

func addLogs(t testing.TB, q *Queue, from, to, size int) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := q.Add(context.Background(), "tenant", buffer.FormatOTLPLogs, logRequest(fmt.Sprint(i), size)); err != nil {
			t.Fatal(err)
		}
	}
}

func numbers(from, to int) (all []string) {
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

func wantBodies(t testing.TB, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("arrived: got %d records %.200q, want %d %.200q", len(got), got, len(want), want)
	}
}

// wantOnce checks that each number is there once.
func wantOnce(t *testing.T, got []string, n int) {
	t.Helper()
	seen := map[string]int{}
	for _, b := range got {
		seen[b]++
	}
	wrong := 0
	for _, b := range numbers(0, n) {
		if seen[b] != 1 {
			if wrong++; wrong <= 10 {
				t.Errorf("record %s: got it %d times, want once", b, seen[b])
			}
		}
	}
	if wrong > 0 || len(got) != n {
		t.Errorf("got %d records, %d of them not once; want %d", len(got), wrong, n)
	}
}

func droppedOf(q *Queue, topic, reason string) (messages, items int) {
	return int(testutil.ToFloat64(q.metrics.droppedMessages.WithLabelValues(topic, reason))),
		int(testutil.ToFloat64(q.metrics.dropped.WithLabelValues(topic, reason)))
}

// resourceLog is logRequest with a resource of its own.
func resourceLog(body, service string) []byte {
	message := func(number protowire.Number, content []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), content)
	}
	attr := append(message(1, []byte("service.name")), message(2, message(1, []byte(service)))...)
	resource := message(1, message(1, attr))
	inner := logRequest(body, 100)
	_, _, n := protowire.ConsumeTag(inner) // the one resource
	content, _ := protowire.ConsumeBytes(inner[n:])
	return message(1, append(resource, content...))
}

// bodyOf reads a request, and returns copies of it that can be served more than once
// and for longer than it lives.
func bodyOf(r *http.Request) func(ctx context.Context) *http.Request {
	b, _ := io.ReadAll(r.Body)
	return func(ctx context.Context) *http.Request {
		again := r.Clone(ctx)
		again.Body = io.NopCloser(bytes.NewReader(b))
		return again
	}
}
