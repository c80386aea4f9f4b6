package metric

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/vfs"
)

// TestPowerFailure cuts the power before a random file operation of a flush or
// a merge, opens what a disk could hold then, replays the log from the offset
// that was known to be durable, and expects every sample once.
func TestPowerFailure(t *testing.T) {
	for seed := range uint64(150) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { runPowerFailure(t, seed) })
	}
}

func runPowerFailure(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 2))
	mem := vfs.NewMem()
	var armed, ops atomic.Int64 // the operation before which the power fails; 0 is none
	var after *vfs.Mem
	fs := vfs.Faulty(mem, func(vfs.Op) error {
		if ops.Add(1) == armed.Load() {
			after = mem.CrashClone(seed)
		}
		return nil
	})
	db := openTest(t, fs, "/s", testConfig())
	m := &model{floats: map[string]map[int64]float64{}, hists: map[string]map[int64]bool{}, starts: map[string]map[int64]int64{}, newest: map[string]int64{}}
	now := t0
	var log []*signal.Metrics
	ctx := context.Background()
	var durable int64
	for round := range 4 {
		for range 1 + rng.IntN(20) {
			now += int64(rng.IntN(90_000))
			b := m.randomBatch(rng, now)
			b.Tenant = "default"
			log = append(log, b)
			if _, err := db.AppendMetrics(ctx, b, "src", "metrics", 0, int64(len(log)-1)); err != nil {
				t.Fatal(err)
			}
		}
		durable = db.Durable("src", "metrics", 0)
		if round == 3 {
			armed.Store(ops.Load() + 1 + rng.Int64N(40))
		}
		if err := db.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		if round >= 2 {
			if err := db.Compact(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	if after == nil {
		after = mem.CrashClone(seed)
	}
	db2 := openTest(t, after, "/s", testConfig())
	for off := durable; off < int64(len(log)); off++ {
		if _, err := db2.AppendMetrics(ctx, log[off], "src", "metrics", 0, off); err != nil {
			t.Fatal(err)
		}
	}
	m.check(t, db2, math.MinInt64, math.MaxInt64)
	if got := db2.totals().broken; got != 0 {
		t.Fatalf("%d blocks are damaged after a power failure", got)
	}
	if err := errors.Join(db2.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestFullDisk lets one kind of operation fail for a while: the flush reports it, nothing
// is lost or half-written, queries go on, and a later flush succeeds.
func TestFullDisk(t *testing.T) {
	for _, c := range []struct {
		name string
		kind vfs.OpKind
		err  error
	}{
		{"ENOSPC on write", vfs.OpWrite, syscall.ENOSPC},
		{"short write", vfs.OpWrite, &vfs.ShortWrite{N: 7, Err: syscall.ENOSPC}},
		{"EIO on fsync", vfs.OpSync, syscall.EIO},
		{"EIO on rename", vfs.OpRename, syscall.EIO},
		{"EIO on fsync of a directory", vfs.OpSyncDir, syscall.EIO},
		{"too many mappings", vfs.OpMap, syscall.ENOMEM},
	} {
		t.Run(c.name, func(t *testing.T) {
			var broken atomic.Bool
			fs := vfs.Faulty(vfs.NewMem(), func(op vfs.Op) error {
				unpublished := op.Kind == vfs.OpSyncDir && strings.Contains(op.Name, ".tmp-")
				if broken.Load() && op.Kind == c.kind && !unpublished {
					return c.err
				}
				return nil
			})
			db := openTest(t, fs, "/s", testConfig())
			m := fill(t, db, 2)
			ctx := context.Background()
			rng := rand.New(rand.NewPCG(1, 1))
			b := m.randomBatch(rng, t0+60_000)
			b.Tenant = "default"
			broken.Store(true)
			if _, err := db.AppendMetrics(ctx, b, "src", "metrics", 0, 2); err != nil {
				t.Fatal(err)
			}
			if err := db.Flush(ctx); err == nil {
				t.Fatal("flush to a broken disk: no error")
			}
			if err := db.Compact(ctx); err == nil {
				t.Fatal("merge on a broken disk: no error")
			}
			if d := db.Durable("src", "metrics", 0); d != 2 {
				t.Fatalf("durable %d, want 2", d)
			}
			m.check(t, db, math.MinInt64, math.MaxInt64)
			b = m.randomBatch(rng, t0+120_000)
			b.Tenant = "default"
			if _, err := db.AppendMetrics(ctx, b, "src", "metrics", 0, 3); err != nil {
				t.Fatal(err)
			}
			broken.Store(false)
			if err := db.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			if d := db.Durable("src", "metrics", 0); d != 4 {
				t.Fatalf("durable %d, want 4", d)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			db = openTest(t, fs, "/s", testConfig())
			m.check(t, db, math.MinInt64, math.MaxInt64)
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
