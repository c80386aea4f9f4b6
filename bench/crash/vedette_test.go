package crash

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/vedette-io/vedette/bench/peer"
	"github.com/vedette-io/vedette/ingest/buffer/kafkatest"
)

// TestVedetteKeepsWhatItAcknowledged is a short run of make crash.
func TestVedetteKeepsWhatItAcknowledged(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the server and kills it five times; skipped with -short")
	}
	spec, err := peer.BuildVedette(t.Context(), "../..", filepath.Join(t.TempDir(), "vedette"))
	if err != nil {
		t.Fatal(err)
	}
	o := DefaultOptions(spec, t.TempDir())
	o.Rounds, o.Groups = 5, 4
	o.MinLoad, o.MaxLoad = 50*time.Millisecond, 500*time.Millisecond
	o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	runAll(t, o)
}

// TestVedetteOnKafkaKeepsWhatItAcknowledged is a short run of each variant with
// Kafka as the buffer.
func TestVedetteOnKafkaKeepsWhatItAcknowledged(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the server and kills it, and a broker, several times; skipped with -short")
	}
	if why := kafkatest.Missing(); why != "" {
		t.Skip(why)
	}
	spec, err := peer.BuildVedette(t.Context(), "../..", filepath.Join(t.TempDir(), "vedette"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name       string
		stores     int
		killBroker bool
	}{{"store", 1, false}, {"one of two stores", 2, false}, {"broker", 1, true}} {
		t.Run(c.name, func(t *testing.T) {
			broker, err := peer.StartBroker(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := broker.Kill(); err != nil {
					t.Error(err)
				}
			})
			o := DefaultOptions(spec, t.TempDir()).WithKafka(broker)
			o.Rounds, o.Groups, o.Stores, o.KillBroker = 2, 4, c.stores, c.killBroker
			o.MinLoad, o.MaxLoad = 50*time.Millisecond, 500*time.Millisecond
			o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
			runAll(t, o)
		})
	}
}

// runAll fails the test if anything acknowledged is not as it was sent.
func runAll(t *testing.T, o Options) {
	t.Helper()
	rep, err := Run(t.Context(), o)
	if err != nil {
		t.Fatalf("seed %d: %v", o.Seed, err)
	}
	judge(t, o, rep)
}

// judge fails the test if anything was lost or doubled.
func judge(t *testing.T, o Options, rep *Report) {
	t.Helper()
	if rep.Acked() == 0 {
		t.Fatal("nothing was acknowledged")
	}
	if rep.Lost()+rep.Doubled() > 0 {
		t.Errorf("seed %d: of %d acknowledged %s %d are lost, %d doubled or altered", o.Seed, rep.Acked(), rep.Unit(), rep.Lost(), rep.Doubled())
	}
	for i, r := range rep.Rounds {
		for _, x := range r.Verdict.Examples {
			t.Errorf("round %d: %s", i+1, x)
		}
	}
	for _, x := range rep.Final.Examples {
		t.Errorf("after a stop in good order: %s", x)
	}
}
