package crash

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/vedette-io/vedette/bench/peer"
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
	rep, err := Run(t.Context(), o)
	if err != nil {
		t.Fatalf("seed %d: %v", o.Seed, err)
	}
	if rep.Acked() == 0 {
		t.Fatal("nothing was acknowledged")
	}
	if rep.Lost()+rep.Doubled() > 0 {
		t.Errorf("seed %d: of %d acknowledged samples %d are lost, %d doubled or altered", o.Seed, rep.Acked(), rep.Lost(), rep.Doubled())
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
