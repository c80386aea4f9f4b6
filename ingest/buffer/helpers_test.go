package buffer

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/vedette-io/vedette/internal/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testTopic = TopicMetrics
	testDir   = "data/log"
)

func testConfig() Config {
	cfg := DefaultConfig()
	cfg.SegmentBytes = 8 << 10
	return cfg
}

// tryOpen opens the log in fsys; what it logs goes to the test's output.
func tryOpen(t testing.TB, cfg Config, fsys vfs.FS) (*Log, error) {
	t.Helper()
	return Open(cfg, fsys, testDir, slog.New(slog.NewTextHandler(t.Output(), nil)), prometheus.NewRegistry())
}

func openTest(t testing.TB, cfg Config, fsys vfs.FS) *Log {
	t.Helper()
	l, err := tryOpen(t, cfg, fsys)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func closeTest(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func record(payload string) Record {
	return Record{Tenant: "tenant", Format: FormatRemoteWriteV1, MinTime: 1, MaxTime: 2, Payload: []byte(payload)}
}

func tryAppend(l *Log, payloads ...string) (int64, error) {
	records := make([]Record, len(payloads))
	for i, p := range payloads {
		records[i] = record(p)
	}
	return l.Append(context.Background(), testTopic, 0, records)
}

func appendTest(t testing.TB, l *Log, payloads ...string) int64 {
	t.Helper()
	first, err := tryAppend(l, payloads...)
	if err != nil {
		t.Fatal(err)
	}
	return first
}

// got is a message that a consumer got.
type got struct {
	offset     int64
	payload    string
	attachment any
}

// readAll consumes partition 0 from an offset (negative: where the group is)
// until nothing more comes, then commits, if told to. It has to run in a
// synctest bubble, which knows when the consumer waits.
func readAll(t testing.TB, l *Log, group string, from int64, commit bool) (all []got) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() {
		ended <- l.Consume(ctx, group, testTopic, func(ctx context.Context, c Claim) error {
			if c.Partition() != 0 {
				return nil
			}
			if from >= 0 {
				c.StartAt(from)
			}
			for {
				msgs, err := c.Next(ctx)
				if err != nil {
					return err
				}
				for _, m := range msgs {
					if m.Tenant != "tenant" || m.Format != FormatRemoteWriteV1 || m.MinTime != 1 || m.MaxTime != 2 {
						return errors.New("a message's header has changed")
					}
					if n := len(all); n > 0 && all[n-1].offset >= m.Offset {
						return errors.New("offsets do not rise")
					}
					all = append(all, got{m.Offset, string(m.Payload), m.Attachment})
				}
				if commit {
					if err := c.Commit(ctx, all[len(all)-1].offset+1); err != nil {
						return err
					}
				}
			}
		})
	}()
	synctest.Wait()
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	return all
}

func payloads(all []got) (out []string) {
	for _, g := range all {
		out = append(out, g.payload)
	}
	return out
}

func wantPayloads(t testing.TB, all []got, want ...string) {
	t.Helper()
	if !slices.Equal(payloads(all), want) {
		t.Fatalf("got %d messages %.80q, want %d %.80q", len(all), payloads(all), len(want), want)
	}
}

// segmentFiles lists the files of partition 0.
func segmentFiles(t testing.TB, fsys vfs.FS) []string {
	t.Helper()
	names, err := fsys.List(testDir + "/" + testTopic + "/0")
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// flip damages one byte of a file of partition 0; a negative position counts
// from the end.
func flip(t testing.TB, fsys vfs.FS, name string, pos int64) {
	t.Helper()
	f, err := fsys.OpenFile(testDir+"/"+testTopic+"/0/"+name, vfs.ReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if pos < 0 {
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		pos += info.Size()
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], pos); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x55
	if _, err := f.WriteAt(b[:], pos); err != nil {
		t.Fatal(err)
	}
}

// big returns a payload of n bytes that begins with name.
func big(name string, n int) string { return name + strings.Repeat(".", n-len(name)) }
