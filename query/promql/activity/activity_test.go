package activity

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLogTellsWhatRan(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queries.active")
	a, err := Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	long := "sum(" + strings.Repeat("ü", 3*slotSize) + ")"
	ended := a.Begin(Query{Text: "up", Tenant: "x"})
	a.Begin(Query{Text: "left_over", Tenant: "y", Started: time.Unix(1, 0).UTC()})
	a.Begin(Query{Text: long, Tenant: "z"})
	a.End(ended)
	if again := a.Begin(Query{Text: "again"}); again != ended {
		t.Errorf("slot %d, want %d used again", again, ended)
	}
	a.End(ended)
	// The process ends here without close.
	var out bytes.Buffer
	b, err := Open(path, slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	log := out.String()
	if strings.Count(log, "query was running") != 2 || !strings.Contains(log, "left_over") ||
		!strings.Contains(log, "tenant=y") || !strings.Contains(log, "truncated=true") || strings.Contains(log, "again") {
		t.Errorf("log says:\n%s", log)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != 0 {
		t.Errorf("file after open: %v, %v, want empty", info, err)
	}
}

func TestLogWithoutFile(t *testing.T) {
	a, err := Open("", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	a.End(a.Begin(Query{Text: "up"}))
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

func TestLogGivesUpOnAFaultyFile(t *testing.T) {
	a, err := Open(filepath.Join(t.TempDir(), "q"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	a.file.Close()
	a.End(a.Begin(Query{Text: "up"}))
	if a.file != nil {
		t.Error("file is still written to")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(appendSlot(nil, Query{Text: "up", Tenant: "t"}))
	f.Add(bytes.Repeat([]byte{'{'}, 3*slotSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, q := range decode(b) {
			out := appendSlot(nil, q)
			if len(out) != slotSize {
				t.Fatalf("slot of %d bytes, want %d", len(out), slotSize)
			}
		}
	})
}
