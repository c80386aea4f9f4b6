package forward

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/prompb"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/internal/config"
	"github.com/vedette-io/vedette/internal/tenant"
	"github.com/vedette-io/vedette/internal/vfs"
)

// What an answer means, and when the next attempt is made.
func TestAnswers(t *testing.T) {
	type answer struct {
		code   int // 0 breaks the connection
		header map[string]string
		body   string
	}
	status := func(codes ...int) (all []answer) {
		for _, code := range codes {
			all = append(all, answer{code: code})
		}
		return all
	}
	for _, c := range []struct {
		name    string
		answers []answer // the last one is repeated
		want    int      // attempts
		atLeast time.Duration
		atMost  time.Duration
		dropped int
		refused int
	}{
		{name: "ok", answers: status(200), want: 1},
		{name: "no content", answers: status(204), want: 1},
		{name: "accepted", answers: status(202), want: 1},
		{name: "network", answers: status(0, 0, 0, 200), want: 4, atLeast: 350 * time.Millisecond, atMost: 700 * time.Millisecond},
		{name: "server errors", answers: status(500, 502, 503, 504, 501, 200), want: 6, atLeast: 1550 * time.Millisecond, atMost: 3100 * time.Millisecond},
		{name: "try again", answers: status(408, 429, 200), want: 3},
		{name: "who are you", answers: status(401, 403, 404, 405, 407, 302, 200), want: 7},
		{name: "retry after seconds", answers: []answer{{code: 503, header: map[string]string{"Retry-After": "7"}}, {code: 200}}, want: 2, atLeast: 7 * time.Second, atMost: 7 * time.Second},
		{
			name:    "retry after a date",
			answers: []answer{{code: 429, header: map[string]string{"Retry-After": time.Date(2000, 1, 1, 0, 1, 0, 0, time.UTC).Format(http.TimeFormat)}}, {code: 200}},
			want:    2, atLeast: time.Minute, atMost: time.Minute,
		},
		{name: "retry after too long", answers: []answer{{code: 429, header: map[string]string{"Retry-After": "100000"}}, {code: 200}}, want: 2, atLeast: maxRetryAfter, atMost: maxRetryAfter},
		{name: "bad request", answers: []answer{{code: 400, body: "no"}}, want: 1, dropped: 1},
		{name: "too large", answers: status(413), want: 1, dropped: 1},
		{name: "media type", answers: status(415), want: 1, dropped: 1},
		{name: "not processable", answers: status(422), want: 1, dropped: 1},
		{name: "a part refused, the rest written", answers: []answer{{code: 400, header: map[string]string{door.HeaderPosition: "0"}}}, want: 1, refused: 1},
		{name: "older position", answers: []answer{{code: 400, header: map[string]string{door.HeaderPosition: "-1"}}}, want: 1, dropped: 1},
		{
			name: "partial success", want: 1, refused: 3,
			answers: []answer{{code: 200, header: map[string]string{"Content-Type": "application/x-protobuf"}, body: "\x0a\x06\x08\x03\x12\x02no"}},
		},
		{name: "hostile answer", answers: []answer{{code: 200, header: map[string]string{"Content-Type": "application/x-protobuf"}, body: "\xff\xff\xff"}}, want: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := openQueue(t, vfs.NewMem(), nil)
				defer q.Close()
				attempts := 0
				d := testHTTP(t, DefaultConfig(), func(w http.ResponseWriter, _ *http.Request) {
					a := c.answers[min(attempts, len(c.answers)-1)]
					attempts++
					if a.code == 0 {
						panic(errors.New("connection reset"))
					}
					for k, v := range a.header {
						w.Header().Set(k, v)
					}
					w.WriteHeader(a.code)
					_, _ = w.Write([]byte(a.body))
				})
				addLogs(t, q, 0, 1, 0)
				begin := time.Now()
				stop := forwarding(t, q, DefaultConfig(), d)
				waitDone(t, q, buffer.TopicLogs, 1)
				took := time.Since(begin).Round(time.Millisecond)
				stop()
				dropped, items := droppedOf(q, buffer.TopicLogs, dropRefused)
				refused := int(testutil.ToFloat64(q.metrics.items.WithLabelValues(buffer.TopicLogs)))
				if attempts != c.want || dropped != c.dropped || items != c.dropped || refused != c.refused {
					t.Errorf("got %d attempts, %d dropped (%d records), %d refused; want %d, %d, %d", attempts, dropped, items, refused, c.want, c.dropped, c.refused)
				}
				if took < c.atLeast || c.atMost > 0 && took > c.atMost+commitInterval {
					t.Errorf("took %s, want %s to %s", took, c.atLeast, c.atMost)
				}
			})
		})
	}
}

// waitDone lets the bubble's clock go until the forwarder has committed.
func waitDone(t *testing.T, q *Queue, topic string, next int64) {
	t.Helper()
	for range 100_000 {
		synctest.Wait()
		if at, err := q.log.CommittedBy(group, topic, 0); err != nil || at >= next {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Fatalf("%s is not delivered", topic)
}

// Messages that wait share requests, in order; what is of another tenant or cannot
// be joined goes alone.
func TestJoins(t *testing.T) {
	for _, compression := range []string{compressionSnappy, compressionNone} {
		t.Run(compression, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := openQueue(t, vfs.NewMem(), nil)
				defer q.Close()
				addLogs(t, q, 0, 25, 1000)
				if err := q.Add(t.Context(), "other", buffer.FormatOTLPLogs, logRequest("25", 0)); err != nil {
					t.Fatal(err)
				}
				if err := q.Add(t.Context(), "tenant", buffer.FormatOTLPLogsSnappy, s2.EncodeSnappy(nil, logRequest("26", 0))); err != nil {
					t.Fatal(err)
				}
				addLogs(t, q, 27, 30, 20_000)
				c := DefaultConfig()
				c.Compression, c.BatchBytes = compression, 10_500
				var got, offsets []string
				d := testHTTP(t, c, func(w http.ResponseWriter, r *http.Request) {
					if want := "embedded/"; r.URL.Path != "/v1/logs" || !strings.HasPrefix(r.Header.Get(door.HeaderFrom), want) || !strings.HasSuffix(r.Header.Get(door.HeaderFrom), "/vedette.logs/0") {
						t.Errorf("request: got %s from %s", r.URL, r.Header.Get(door.HeaderFrom))
					}
					offsets = append(offsets, r.Header.Get(tenant.Header)+":"+r.Header.Get(door.HeaderOffsets))
					got = append(got, bodies(plainBody(r))...)
					w.WriteHeader(http.StatusOK)
				})
				stop := forwarding(t, q, c, d)
				waitDone(t, q, buffer.TopicLogs, 30)
				stop()
				wantBodies(t, got, numbers(0, 30))
				if want := "[tenant:0-9 tenant:10-19 tenant:20-24 other:25-25 tenant:26-26 tenant:27-27 tenant:28-28 tenant:29-29]"; fmt.Sprint(offsets) != want {
					t.Errorf("requests: got %v, want %s", offsets, want)
				}
			})
		})
	}
}

// Remote write 1.0 joins, too; 2.0, whose symbols do not, goes message by message.
func TestJoinsRemoteWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := openQueue(t, vfs.NewMem(), nil)
		defer q.Close()
		for i := range 10 {
			b, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
				Labels: []prompb.Label{{Name: "__name__", Value: "m"}}, Samples: []prompb.Sample{{Timestamp: int64(i), Value: 1}},
			}}}).Marshal()
			if err != nil {
				t.Fatal(err)
			}
			format := buffer.FormatRemoteWriteV1
			if i >= 5 {
				format = buffer.FormatRemoteWriteV2 // the handler does not look
			}
			if err := q.Add(t.Context(), "tenant", format, s2.EncodeSnappy(nil, b)); err != nil {
				t.Fatal(err)
			}
		}
		var times []int64
		requests := 0
		d := testHTTP(t, DefaultConfig(), func(w http.ResponseWriter, r *http.Request) {
			requests++
			var m prompb.WriteRequest
			if err := m.Unmarshal(plainBody(r)); err != nil {
				t.Error(err)
			}
			for _, s := range m.Timeseries {
				times = append(times, s.Samples[0].Timestamp)
			}
			w.WriteHeader(http.StatusNoContent)
		})
		stop := forwarding(t, q, DefaultConfig(), d)
		waitDone(t, q, buffer.TopicMetrics, 10)
		stop()
		if fmt.Sprint(times) != "[0 1 2 3 4 5 6 7 8 9]" || requests != 6 {
			t.Errorf("got %v in %d requests, want 0 to 9 in 6", times, requests)
		}
	})
}

// One message that is refused does not take those with it that share its request.
func TestOneOfManyRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := openQueue(t, vfs.NewMem(), nil)
		defer q.Close()
		addLogs(t, q, 0, 20, 0)
		var got []string
		d := testHTTP(t, DefaultConfig(), func(w http.ResponseWriter, r *http.Request) {
			all := bodies(plainBody(r))
			for _, b := range all {
				if b == "13" {
					w.WriteHeader(http.StatusBadRequest)
					return
				}
			}
			got = append(got, all...)
		})
		stop := forwarding(t, q, DefaultConfig(), d)
		waitDone(t, q, buffer.TopicLogs, 20)
		stop()
		wantBodies(t, got, append(numbers(0, 13), numbers(14, 20)...))
		if n, items := droppedOf(q, buffer.TopicLogs, dropRefused); n != 1 || items != 1 {
			t.Errorf("dropped: got %d messages, %d records, want 1", n, items)
		}
	})
}

// A server that has a part of a request already gets the others alone.
func TestHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := openQueue(t, vfs.NewMem(), nil)
		defer q.Close()
		addLogs(t, q, 0, 20, 0)
		var got []string
		d := testHTTP(t, DefaultConfig(), func(w http.ResponseWriter, r *http.Request) {
			if first, _, _ := strings.Cut(r.Header.Get(door.HeaderOffsets), "-"); first < "8" && len(first) == 1 {
				w.Header().Set(door.HeaderPosition, strconv.Itoa(7))
				w.WriteHeader(http.StatusConflict)
				return
			}
			got = append(got, bodies(plainBody(r))...)
		})
		stop := forwarding(t, q, DefaultConfig(), d)
		waitDone(t, q, buffer.TopicLogs, 20)
		stop()
		wantBodies(t, got, numbers(8, 20))
	})
}

// A queue that is full drops the oldest and says how much: what is said and what
// arrives is everything, in order.
func TestOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		small := func(c *QueueConfig) { c.MaxBytes = 256 << 10 }
		q := openQueue(t, fsys, small)
		up := false
		var got []string
		handle := func(w http.ResponseWriter, r *http.Request) {
			if !up {
				panic(errors.New("away"))
			}
			got = append(got, bodies(plainBody(r))...)
		}
		stop := forwarding(t, q, DefaultConfig(), testHTTP(t, DefaultConfig(), handle))
		addLogs(t, q, 0, 5, 1000)
		synctest.Wait()
		const all = 2000
		addLogs(t, q, 5, all, 1000)
		if size := q.SizeBytes(); size > 256<<10 {
			t.Errorf("queue: got %d bytes, want at most %d", size, 256<<10)
		}
		up = true
		waitDone(t, q, buffer.TopicLogs, all)
		stop()
		n, items := droppedOf(q, buffer.TopicLogs, dropFull)
		if n == 0 || n != items || n+len(got) != all {
			t.Errorf("got %d, %d messages (%d records) said to be dropped, want %d together", len(got), n, items, all)
		}
		last := -1
		for _, b := range got {
			if i, _ := strconv.Atoi(b); i <= last {
				t.Fatalf("%d comes behind %d", i, last)
			} else {
				last = i
			}
		}
		if last != all-1 || got[0] != "0" {
			t.Errorf("got %s to %d, want what was under way (0) and the newest (%d)", got[0], last, all-1)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// An agent that dies while its queue is full says at the next start what was under
// way then and is lost, and not again what was said before.
func TestOverflowThenKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		small := func(c *QueueConfig) { c.MaxBytes = 256 << 10 }
		q := openQueue(t, fsys, small)
		away := testHTTP(t, DefaultConfig(), func(http.ResponseWriter, *http.Request) { panic(errors.New("away")) })
		addLogs(t, q, 0, 5, 1000)
		stop := forwarding(t, q, DefaultConfig(), away)
		synctest.Wait()
		const all = 1000
		addLogs(t, q, 5, all, 1000)
		said, _ := droppedOf(q, buffer.TopicLogs, dropFull)
		killed := fsys.CrashClone(1)
		stop()
		_ = q.Close()

		q = openQueue(t, killed, small)
		defer q.Close()
		var got []string
		stop = forwarding(t, q, DefaultConfig(), testHTTP(t, DefaultConfig(), func(_ http.ResponseWriter, r *http.Request) {
			got = append(got, bodies(plainBody(r))...)
		}))
		waitDone(t, q, buffer.TopicLogs, all)
		stop()
		if n, _ := droppedOf(q, buffer.TopicLogs, dropRestart); n != 5 || said+n+len(got) != all {
			t.Errorf("got %d, %d said before the kill and %d after it, want 5 after it and %d together", len(got), said, n, all)
		}
	})
}

// Messages beyond the age limit are dropped and counted.
func TestMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := openQueue(t, vfs.NewMem(), func(c *QueueConfig) { c.MaxAge = time.Hour })
		defer q.Close()
		stop := forwarding(t, q, DefaultConfig(), testHTTP(t, DefaultConfig(), func(http.ResponseWriter, *http.Request) { panic(errors.New("away")) }))
		defer stop()
		addLogs(t, q, 0, 1, 0)
		synctest.Wait() // the first is under way, and goes as the others do: it never arrives
		addLogs(t, q, 1, 10, 0)
		<-time.After(50 * time.Minute)
		addLogs(t, q, 10, 20, 0)
		<-time.After(15 * time.Minute)
		if n, items := droppedOf(q, buffer.TopicLogs, dropAge); n != 10 || items != 10 {
			t.Errorf("dropped after 65m: got %d messages (%d records), want 10", n, items)
		}
	})
}

// A disk that takes nothing and gives nothing for a while ends neither the agent nor
// what is delivered afterwards.
func TestDiskFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var writes, reads atomic.Bool
		fsys := vfs.Faulty(vfs.NewMem(), func(op vfs.Op) error {
			switch {
			case writes.Load() && (op.Kind == vfs.OpCreate || op.Kind == vfs.OpWrite):
				return syscall.ENOSPC
			case reads.Load() && op.Kind == vfs.OpRead && strings.HasSuffix(op.Name, ".segment"):
				return syscall.EIO
			}
			return nil
		})
		q := openQueue(t, fsys, nil)
		defer q.Close()
		addLogs(t, q, 0, 10, 100)
		writes.Store(true)
		var got []string
		stop := forwarding(t, q, DefaultConfig(), testHTTP(t, DefaultConfig(), func(_ http.ResponseWriter, r *http.Request) {
			got = append(got, bodies(plainBody(r))...)
		}))
		<-time.After(time.Minute)
		wantBodies(t, got, numbers(0, 10))
		var full *buffer.FullError
		if err := q.Add(t.Context(), "tenant", buffer.FormatOTLPLogs, logRequest("x", 0)); !errors.As(err, &full) {
			t.Errorf("add to a full disk: got %v, want a FullError", err)
		}
		writes.Store(false)
		waitDone(t, q, buffer.TopicLogs, 10)
		reads.Store(true)
		addLogs(t, q, 10, 20, 100)
		<-time.After(time.Minute)
		reads.Store(false)
		waitDone(t, q, buffer.TopicLogs, 20)
		wantBodies(t, got, numbers(0, 20))
		stop()
	})
}

// FuzzField reads what is no protobuf without harm.
func FuzzField(f *testing.F) {
	f.Add([]byte("\x0a\x06\x08\x03\x12\x02no"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		partialSuccess(b)
		statusText(b)
	})
}

func TestUntold(t *testing.T) {
	k := laneKey{"t", 0}
	s := saidFile{fs: vfs.NewMem(), said: map[string]span{}}
	for _, c := range []struct{ from, to, committed, oldest, want int64 }{
		{0, 0, 10, 10, 0},   // nothing is missing
		{0, 0, 10, 15, 5},   // never said
		{12, 30, 10, 30, 2}, // said, but for what was under way
		{12, 20, 10, 40, 22},
		{1, 5, 10, 12, 2}, // of long ago
	} {
		s.said[k.String()] = span{c.from, c.to}
		if got := s.untold(k, c.committed, c.oldest); got != c.want {
			t.Errorf("said %d to %d, committed %d, oldest %d: got %d, want %d", c.from, c.to, c.committed, c.oldest, got, c.want)
		}
	}
}

func TestConfig(t *testing.T) {
	good := DefaultConfig()
	if err := good.Validate(); err != nil || good.IsSet() {
		t.Errorf("default: got %v, set: %t", err, good.IsSet())
	}
	for want, change := range map[string]func(*Config){
		"endpoint":        func(c *Config) { c.Endpoint = "host:9190" },
		"endpoint:":       func(c *Config) { c.Endpoint, c.Kafka.Brokers = "http://h", []string{"h:1"} },
		"headers":         func(c *Config) { c.Headers = map[string]config.Secret{"a b": "c"} },
		"tls":             func(c *Config) { c.TLS.CertFile = "a" },
		"compression":     func(c *Config) { c.Compression = "lz4" },
		"timeout":         func(c *Config) { c.Timeout = 0 },
		"max_backoff":     func(c *Config) { c.MaxBackoff = 0 },
		"batch_bytes":     func(c *Config) { c.BatchBytes = 0 },
		"queue.max_bytes": func(c *Config) { c.Queue.MaxBytes = 1 },
		"queue.max_age":   func(c *Config) { c.Queue.MaxAge = -1 },
		"kafka":           func(c *Config) { c.Kafka.Brokers = []string{"x"} },
	} {
		c := DefaultConfig()
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want a fault of %s", err, want)
		}
	}
	c := DefaultConfig()
	c.Endpoint = "http://user:hush%zz@host"
	if err := c.Validate(); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("endpoint with a password: got %v", err)
	}
	c = DefaultConfig()
	c.TLS.CAFile = filepath.Join(t.TempDir(), "ca")
	c.Endpoint = "https://h"
	for _, text := range []string{"", "no certificate"} {
		if text != "" {
			if err := os.WriteFile(c.TLS.CAFile, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := NewHTTP(c, nil); err == nil {
			t.Errorf("ca_file %q is taken", text)
		}
	}
}
