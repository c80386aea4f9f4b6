package check

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/vedette-io/vedette/bench/peer"
	"github.com/vedette-io/vedette/ingest/buffer/kafkatest"
)

// TestVedetteShowsWhatItAcknowledged is a short run of the checker: through
// flushes, merges, a stop and a kill nothing acknowledged may be out of sight.
func TestVedetteShowsWhatItAcknowledged(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the server and watches it for 12 s; skipped with -short")
	}
	watch(t, build(t), 12*time.Second)
}

// TestVedetteOnKafkaShowsWhatItAcknowledged is the same with Kafka as the buffer.
func TestVedetteOnKafkaShowsWhatItAcknowledged(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the server and watches it for 30 s; skipped with -short")
	}
	if why := kafkatest.Missing(); why != "" {
		t.Skip(why)
	}
	broker, err := peer.StartBroker(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := broker.Kill(); err != nil {
			t.Error(err)
		}
	})
	watch(t, build(t).WithConfig(broker.Config("consumer: {session_timeout: 2s}")), 30*time.Second)
}

func build(t *testing.T) peer.Spec {
	t.Helper()
	spec, err := peer.BuildVedette(t.Context(), "../..", filepath.Join(t.TempDir(), "vedette"))
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// watch runs the checker for some seconds, in which much is done to the server.
func watch(t *testing.T, spec peer.Spec, length time.Duration) {
	t.Helper()
	o := DefaultOptions(spec, t.TempDir())
	o.Duration, o.DisturbEach = length, 1500*time.Millisecond
	o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	rep, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if rep.Writes == 0 || rep.Traces == 0 || rep.Disturbed["kill"] == 0 || rep.Disturbed["restart"] == 0 {
		t.Fatalf("the run was too short to tell anything: %s", rep)
	}
	if len(rep.Gaps) > 0 {
		t.Error(rep)
	}
}
