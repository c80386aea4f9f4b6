package check

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/vedette-io/vedette/bench/peer"
)

// TestVedetteShowsWhatItAcknowledged is a short run of the checker: through
// flushes, merges, a stop and a kill nothing acknowledged may be out of sight.
func TestVedetteShowsWhatItAcknowledged(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the server and watches it for 12 s; skipped with -short")
	}
	spec, err := peer.BuildVedette(t.Context(), "../..", filepath.Join(t.TempDir(), "vedette"))
	if err != nil {
		t.Fatal(err)
	}
	o := DefaultOptions(spec, t.TempDir())
	o.Duration, o.DisturbEach = 12*time.Second, 1500*time.Millisecond
	o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	rep, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if rep.Writes == 0 || rep.Disturbed["kill"] == 0 || rep.Disturbed["restart"] == 0 {
		t.Fatalf("the run was too short to tell anything: %s", rep)
	}
	if len(rep.Gaps) > 0 {
		t.Error(rep)
	}
}
