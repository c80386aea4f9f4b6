package buffer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vedette-io/vedette/internal/vfs"
)

func TestAppendReadReopen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		l := openTest(t, testConfig(), fsys)
		source := l.Source()
		var want []string
		for i := range 100 {
			p := fmt.Sprintf("%03d%s", i, strings.Repeat("x", i*7))
			if got := appendTest(t, l, p); got != int64(i) {
				t.Fatalf("got offset %d, want %d", got, i)
			}
			want = append(want, p)
		}
		want = append(want, "a", "", big("b", 50<<10), "c")
		if got := appendTest(t, l, want[100:]...); got != 100 {
			t.Fatalf("got offset %d, want 100", got)
		}
		wantPayloads(t, readAll(t, l, "g", 0, false), want...)
		wantPayloads(t, readAll(t, l, "g", 42, false), want[42:]...)
		closeTest(t, l)

		l = openTest(t, testConfig(), fsys)
		if l.Source() != source {
			t.Fatalf("source was %s, is %s", source, l.Source())
		}
		wantPayloads(t, readAll(t, l, "g", -1, true), want...)
		if got := appendTest(t, l, "next"); got != 104 {
			t.Fatalf("got offset %d, want 104", got)
		}
		wantPayloads(t, readAll(t, l, "g", -1, false), "next")
		closeTest(t, l)
		l = openTest(t, testConfig(), fsys)
		wantPayloads(t, readAll(t, l, "g", -1, false), "next")
		closeTest(t, l)
	})
}

func TestConsumedSegmentsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		cfg := testConfig()
		l := openTest(t, cfg, fsys)
		for range 50 {
			appendTest(t, l, big("p", 1000))
		}
		readAll(t, l, "slow", -1, false)
		readAll(t, l, "fast", -1, true)
		if got := len(segmentFiles(t, fsys)); got < 6 {
			t.Fatalf("%d segments are left, though a group has not committed", got)
		}
		readAll(t, l, "slow", -1, true)
		if got := segmentFiles(t, fsys); !slices.Equal(got, []string{segmentName(50)}) {
			t.Fatalf("segments are left that nobody needs: %v", got)
		}
		closeTest(t, l)

		l = openTest(t, cfg, fsys)
		if got := appendTest(t, l, "after"); got != 50 {
			t.Fatalf("got offset %d, want 50", got)
		}
		wantPayloads(t, readAll(t, l, "slow", 0, false), "after")
		closeTest(t, l)
	})
}

func TestRetention(t *testing.T) {
	tests := []struct {
		name string
		set  Retention
		wait time.Duration
		want int // segments that are left of 13 of 8 KB and what follows them
	}{
		{"none", Retention{}, 0, 1},
		{"by time, young", Retention{Time: time.Hour}, 30 * time.Minute, 15},
		{"by time, old", Retention{Time: time.Hour}, 2 * time.Hour, 2},
		{"by bytes", Retention{Bytes: 20 << 10}, 0, 3},
		{"both, bytes first", Retention{Time: time.Hour, Bytes: 20 << 10}, 0, 3},
		{"both, time first", Retention{Time: time.Hour, Bytes: 1 << 30}, 2 * time.Hour, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fsys := vfs.NewMem()
				cfg := testConfig()
				cfg.Retention = tt.set
				l := openTest(t, cfg, fsys)
				for range 91 { // 7 in a segment
					appendTest(t, l, big("p", 1000))
				}
				readAll(t, l, "g", -1, true)
				if tt.wait > 0 {
					time.Sleep(tt.wait) // the bubble's clock
					appendTest(t, l, big("q", 1000))
					readAll(t, l, "g", -1, true)
				}
				if got := len(segmentFiles(t, fsys)); got != tt.want {
					t.Fatalf("got %d segments, want %d: %v", got, tt.want, segmentFiles(t, fsys))
				}
				closeTest(t, l)
			})
		})
	}
}

// A topic with a retention of its own has that one, and no other.
func TestRetentionByTopic(t *testing.T) {
	for _, tt := range []struct {
		name string
		own  map[string]Retention
		want int
	}{
		{"kept", map[string]Retention{testTopic: {Time: time.Hour, Bytes: 20 << 10}}, 3},
		{"not kept", map[string]Retention{testTopic: {}}, 1},
		{"another's", map[string]Retention{TopicLogs: {}}, 14},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fsys := vfs.NewMem()
				cfg := testConfig()
				cfg.Retention = Retention{Bytes: 1 << 30}
				cfg.RetentionByTopic = tt.own
				l := openTest(t, cfg, fsys)
				for range 91 { // 7 in a segment
					appendTest(t, l, big("p", 1000))
				}
				readAll(t, l, "g", -1, true)
				if got := len(segmentFiles(t, fsys)); got != tt.want {
					t.Fatalf("got %d segments, want %d: %v", got, tt.want, segmentFiles(t, fsys))
				}
				closeTest(t, l)
			})
		})
	}
	if own := DefaultConfig().RetentionByTopic; len(own) != 1 || own[TopicLogs].Time != 24*time.Hour {
		t.Errorf("got %v, want a day of logs and nothing else", own)
	}
}

func TestAttachments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.TailBytes = 1000
		l := openTest(t, cfg, vfs.NewMem())
		ctx, cancel := context.WithCancel(t.Context())
		proceed := make(chan struct{})
		var all []got
		ended := make(chan error)
		go func() {
			ended <- l.Consume(ctx, "g", testTopic, func(ctx context.Context, c Claim) error {
				for {
					<-proceed
					msgs, err := c.Next(ctx)
					if err != nil {
						return nil
					}
					for _, m := range msgs {
						all = append(all, got{m.Offset, string(m.Payload), m.Attachment})
					}
				}
			})
		}()
		synctest.Wait()
		var attached []*attachment
		for i := range 5 {
			a := &attachment{}
			attached = append(attached, a)
			r := record(big(fmt.Sprint(i), 400))
			r.Attachment = a
			if _, err := l.Append(ctx, testTopic, 0, []Record{r, record("plain")}); err != nil {
				t.Fatal(err)
			}
		}
		close(proceed)
		synctest.Wait()
		if len(all) != 10 {
			t.Fatalf("got %d messages, want 10", len(all))
		}
		for i, g := range all {
			a := attached[i/2]
			handed := i%2 == 0 && i < 4 // two fit
			switch {
			case g.offset != int64(i):
				t.Errorf("message %d has offset %d", i, g.offset)
			case handed && (g.attachment != a || g.payload != "" || a.discarded != 0):
				t.Errorf("message %d lacks its attachment", i)
			case !handed && (g.attachment != nil || g.payload == ""):
				t.Errorf("message %d: got an attachment or no payload", i)
			case !handed && i%2 == 0 && a.discarded != 1:
				t.Errorf("attachment %d was discarded %d times, want 1", i/2, a.discarded)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		a := &attachment{}
		r := record("nobody listens")
		r.Attachment = a
		if _, err := l.Append(context.Background(), testTopic, 0, []Record{r}); err != nil || a.discarded != 1 {
			t.Fatalf("without a consumer: %v, discarded %d times, want 1", err, a.discarded)
		}
		closeTest(t, l)
	})
}

type attachment struct{ discarded int }

func (a *attachment) Discard() { a.discarded++ }

func TestMaxBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.MaxBytes = 3 * cfg.SegmentBytes
		cfg.Retention.Time = time.Hour // what is consumed stays, but never in the way
		l := openTest(t, cfg, vfs.NewMem())
		var n int
		fill := func() {
			t.Helper()
			for {
				_, err := tryAppend(l, big("p", 1000))
				var full *FullError
				if errors.As(err, &full) {
					if full.RetryAfter <= 0 || !strings.Contains(err.Error(), "max_bytes") {
						t.Fatalf("got %v, retry after %v", err, full.RetryAfter)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				n++
			}
		}
		fill()
		if n < 20 || n > 24 {
			t.Fatalf("%d KB fit into 24", n)
		}
		if got := len(readAll(t, l, "g", -1, true)); got != n {
			t.Fatalf("got %d messages, want %d", got, n)
		}
		before := n
		fill()
		if n-before < 20 {
			t.Fatalf("%d KB fit after all was consumed", n-before)
		}
		closeTest(t, l)
	})
}

func TestPartitionCount(t *testing.T) {
	fsys := vfs.NewMem()
	cfg := testConfig()
	cfg.Partitions = map[string]int{testTopic: 3}
	l := openTest(t, cfg, fsys)
	if got := l.Partitions(testTopic); got != 3 {
		t.Fatalf("got %d partitions, want 3", got)
	}
	if got := l.Partitions("other"); got != 1 {
		t.Fatalf("got %d partitions of a new topic, want 1", got)
	}
	closeTest(t, l)
	cfg.Partitions = nil
	l = openTest(t, cfg, fsys)
	if got := l.Partitions(testTopic); got != 3 {
		t.Fatalf("got %d partitions without configuration, want 3", got)
	}
	closeTest(t, l)
	cfg.Partitions = map[string]int{testTopic: 2}
	if _, err := tryOpen(t, cfg, fsys); err == nil || !strings.Contains(err.Error(), "has 3 partitions, the configuration wants 2") {
		t.Fatalf("shrinking: got %v", err)
	}
	cfg.Partitions[testTopic] = 4
	l = openTest(t, cfg, fsys)
	if got := l.Partitions(testTopic); got != 4 {
		t.Fatalf("got %d partitions, want 4", got)
	}
	closeTest(t, l)
}

func TestLock(t *testing.T) {
	fsys := vfs.NewMem()
	l := openTest(t, testConfig(), fsys)
	if _, err := tryOpen(t, testConfig(), fsys); !errors.Is(err, vfs.ErrLocked) {
		t.Fatalf("got %v, want ErrLocked", err)
	}
	closeTest(t, l)
	closeTest(t, openTest(t, testConfig(), fsys))
}

func TestCreate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		source := newSource()
		starts := map[string][]int64{testTopic: {1000, 7}, TopicTraces: {0}}
		if err := Create(fsys, testDir, source, starts); err != nil {
			t.Fatal(err)
		}
		if err := Create(fsys, testDir, source, starts); err == nil {
			t.Fatal("a second log was created over the first")
		}
		l := openTest(t, testConfig(), fsys)
		if l.Source() != source || l.Partitions(testTopic) != 2 {
			t.Fatalf("got source %s and %d partitions", l.Source(), l.Partitions(testTopic))
		}
		if got := appendTest(t, l, "first"); got != 1000 {
			t.Fatalf("got offset %d, want 1000", got)
		}
		if all := readAll(t, l, "g", 0, false); len(all) != 1 || all[0].offset != 1000 {
			t.Fatalf("got %v", all)
		}
		closeTest(t, l)
		for _, bad := range []string{"", "kafka/x", "embedded/", "embedded/0123", strings.ToUpper(source)} {
			if err := Create(fsys, "other", bad, nil); err == nil {
				t.Errorf("source %q was taken", bad)
			}
		}
	})
}

func TestConfigValidate(t *testing.T) {
	good := DefaultConfig()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	bad := Config{
		Partitions:   map[string]int{"a/b": 1, "zero": 0},
		Sync:         SyncInterval,
		SyncInterval: -1,
		MaxBytes:     -1,
		TailBytes:    -1,
		Retention:    Retention{-1, -1},
		RetentionByTopic: map[string]Retention{
			"c/d": {}, "old": {Time: -1}, "large": {Bytes: -1},
		},
	}
	err := bad.Validate()
	for _, key := range []string{
		"a/b", "partitions.zero", "sync_interval", "segment_bytes", "max_bytes", "max_record_bytes",
		"tail_bytes", "retention.time", "retention.bytes", "c/d", "retention_by_topic.old.time", "retention_by_topic.large.bytes",
	} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("the error does not name %s: %v", key, err)
		}
	}
	bad = DefaultConfig()
	bad.Sync = "sometimes"
	if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), `sync: got "sometimes"`) {
		t.Errorf("got %v", err)
	}
}
