package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/buffer/kafkatest"
)

var (
	shared   kafkatest.Shared
	prefixes atomic.Int64
)

func TestMain(m *testing.M) {
	code := m.Run()
	shared.Close()
	os.Exit(code)
}

const testTopic = buffer.TopicMetrics

// testConfig is for topics of the test alone. Sessions do not end only because the
// machine is busy.
func testConfig(t testing.TB, addr string) Config {
	cfg := DefaultConfig()
	cfg.Brokers = []string{addr}
	cfg.Topics.Prefix = fmt.Sprintf("t%d.", prefixes.Add(1))
	cfg.Topics.Partitions = map[string]int{testTopic: 2}
	cfg.Topics.MaxMessageBytes = 1 << 20
	cfg.Consumer.SessionTimeout = 30 * time.Second
	return cfg
}

func openTest(t testing.TB, cfg Config) *Buffer {
	t.Helper()
	return openWith(t, cfg, options{})
}

func openWith(t testing.TB, cfg Config, o options) *Buffer {
	t.Helper()
	if o.logger == nil {
		o.logger = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	b, err := open(ctx, cfg, []string{testTopic}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return b
}

// testWriter sends logs to a test.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}
