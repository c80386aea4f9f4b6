package promql

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestActivityLogTellsWhatRan(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queries.active")
	a, err := openActivityLog(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	long := "sum(" + strings.Repeat("ü", 3*slotSize) + ")"
	ended := a.begin(RunningQuery{Query: "up", Tenant: "x"})
	a.begin(RunningQuery{Query: "left_over", Tenant: "y", Started: time.Unix(1, 0).UTC()})
	a.begin(RunningQuery{Query: long, Tenant: "z"})
	a.end(ended)
	if again := a.begin(RunningQuery{Query: "again"}); again != ended {
		t.Errorf("slot %d, want %d used again", again, ended)
	}
	a.end(ended)
	// The process ends here without close.
	var out bytes.Buffer
	b, err := openActivityLog(path, slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	log := out.String()
	if strings.Count(log, "query was running") != 2 || !strings.Contains(log, "left_over") ||
		!strings.Contains(log, "tenant=y") || !strings.Contains(log, "truncated=true") || strings.Contains(log, "again") {
		t.Errorf("log says:\n%s", log)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != 0 {
		t.Errorf("file after open: %v, %v, want empty", info, err)
	}
}

func TestActivityLogWithoutFile(t *testing.T) {
	a, err := openActivityLog("", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	a.end(a.begin(RunningQuery{Query: "up"}))
	if err := a.close(); err != nil {
		t.Error(err)
	}
}

func TestActivityLogGivesUpOnAFaultyFile(t *testing.T) {
	a, err := openActivityLog(filepath.Join(t.TempDir(), "q"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	a.file.Close()
	a.end(a.begin(RunningQuery{Query: "up"}))
	if a.file != nil {
		t.Error("file is still written to")
	}
}

func FuzzDecodeActivity(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(appendActivity(nil, RunningQuery{Query: "up", Tenant: "t"}))
	f.Add(bytes.Repeat([]byte{'{'}, 3*slotSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, q := range decodeActivity(b) {
			out := appendActivity(nil, q)
			if len(out) != slotSize {
				t.Fatalf("slot of %d bytes, want %d", len(out), slotSize)
			}
		}
	})
}
