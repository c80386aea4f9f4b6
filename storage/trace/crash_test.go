package trace

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
	"time"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/block"
)

// crashRun is a store whose power fails before a chosen file operation.
type crashRun struct {
	t       *testing.T
	mem     *vfs.Mem
	after   *vfs.Mem // what a disk could hold then
	ops     atomic.Int64
	armed   atomic.Int64 // the operation before which the power fails; 0 is none
	db      *DB
	clock   clock
	options Options
	log     []*signal.Spans
	durable int64
}

func newCrashRun(t *testing.T, seed uint64, o Options) *crashRun {
	r := &crashRun{t: t, mem: vfs.NewMem()}
	fs := vfs.Faulty(r.mem, func(vfs.Op) error {
		if r.ops.Add(1) == r.armed.Load() {
			r.after = r.mem.CrashClone(seed)
		}
		return nil
	})
	o.Now = r.clock.now
	r.options = o
	r.db = openTest(t, fs, o)
	return r
}

func (r *crashRun) append(b *signal.Spans) {
	r.t.Helper()
	r.log = append(r.log, b)
	appendAt(r.t, r.db, b, int64(len(r.log)-1))
}

// arm lets the power fail before the op-th operation from now, the first being 1.
func (r *crashRun) arm(op int64) {
	r.durable = r.db.Durable("src", "traces", 0)
	r.armed.Store(r.ops.Load() + op)
}

// restart opens what the disk holds, replays the log from what was durable, and
// returns the store. The power failed at the end if the operations were fewer
// than was armed; then last is true.
func (r *crashRun) restart(seed uint64) (db *DB, last bool) {
	r.t.Helper()
	if r.after == nil {
		r.after, last = r.mem.CrashClone(seed), true
	}
	db = openTest(r.t, r.after, r.options)
	for off := r.durable; off < int64(len(r.log)); off++ {
		appendAt(r.t, db, r.log[off], off)
	}
	if got := db.totals().broken; got != 0 {
		r.t.Fatalf("%d blocks are damaged after a power failure", got)
	}
	return db, last
}

// everyOperation runs f with the power failing before the first, the second, …
// operation until it says that there are no more, for some seeds of what the disk
// then keeps of what was not synced.
func everyOperation(t *testing.T, f func(t *testing.T, seed uint64, op int64) (last bool)) {
	for seed := range uint64(5) {
		for op := int64(1); ; op++ {
			last := false
			if !t.Run(fmt.Sprintf("seed=%d,op=%d", seed, op), func(t *testing.T) { last = f(t, seed, op) }) || last {
				break
			}
		}
	}
}

// TestPowerFailure cuts the power before every file operation of a flush and a
// merge, opens what a disk could hold then, replays the log from the offset that
// was known to be durable, and expects every span once.
func TestPowerFailure(t *testing.T) {
	everyOperation(t, func(t *testing.T, seed uint64, op int64) bool {
		rng := rand.New(rand.NewPCG(seed, 2))
		r := newCrashRun(t, seed, Options{})
		g := newGenerator(seed)
		m := make(model)
		ctx := context.Background()
		for round := range 4 {
			for range 1 + rng.IntN(6) {
				b := g.batch(false)
				m.add(b)
				r.append(b)
			}
			if round == 3 {
				r.arm(op)
			}
			mustFlush(t, r.db)
			if round != 1 {
				if err := r.db.Compact(ctx); err != nil {
					t.Fatal(err)
				}
			}
		}
		db, last := r.restart(seed)
		m.check(t, db)
		mustFlush(t, db)
		if err := db.Compact(ctx); err != nil {
			t.Fatal(err)
		}
		m.check(t, db)
		mustClose(t, db)
		mustClose(t, r.db)
		return last
	})
}

// TestPowerFailureInRewrite cuts the power while blocks are rewritten without the
// spans of a service, and without the traces that sampling drops.
func TestPowerFailureInRewrite(t *testing.T) {
	c := DefaultConfig()
	c.RetentionByService = map[string]time.Duration{"chatty": time.Hour}
	everyOperation(t, func(t *testing.T, seed uint64, op int64) bool {
		r := newCrashRun(t, seed, Options{Config: c, Sampler: &keepSome{}})
		m := make(model)
		for i := range uint64(3) {
			chatty := testSpan{trace: i + 1, id: 1, service: "chatty", name: "x"}
			kept := testSpan{trace: i + 1, id: 2, service: "a", name: "x", status: 2}
			boring := testSpan{trace: 100 + i, id: 3, service: "a", name: "x"}
			r.append(batch("default", chatty, kept, boring))
			m.add(batch("default", kept))
			mustFlush(t, r.db)
			r.clock.advance(20 * time.Minute)
			maintain(t, r.db)
		}
		r.clock.advance(2 * time.Hour)
		r.arm(op)
		maintain(t, r.db)
		m.check(t, r.db)
		db, last := r.restart(seed)
		maintain(t, db)
		m.check(t, db)
		mustClose(t, db)
		mustClose(t, r.db)
		return last
	})
}

// TestPowerFailureInRetention cuts the power while blocks past their retention
// are dropped. What stays is whole blocks, and a replay brings none of the others
// back.
func TestPowerFailureInRetention(t *testing.T) {
	everyOperation(t, func(t *testing.T, seed uint64, op int64) bool {
		r := newCrashRun(t, seed, Options{})
		var batches []model
		for i := range 6 {
			m := make(model)
			b := apart(i)
			m.add(b)
			batches = append(batches, m)
			r.append(b)
			mustFlush(t, r.db)
			r.clock.advance(time.Hour)
		}
		r.clock.advance(DefaultConfig().Retention - 3*time.Hour - time.Minute)
		r.arm(op)
		maintain(t, r.db)
		r.options.Config = DefaultConfig()
		r.options.Config.Retention *= 2 // so that opening it drops nothing
		db, last := r.restart(seed)
		if c := db.Covered("src", "traces", 0); c != 6 {
			t.Fatalf("covered %d, want 6", c)
		}
		v := db.View("default", math.MinInt64, math.MaxInt64)
		for i, m := range batches {
			err := m.compare(v)
			if i >= 3 && err != nil {
				t.Fatalf("batch %d, within its retention: %v", i, err)
			}
			if i < 3 && (err == nil) != hasBlock(db, uint32(i)) {
				t.Fatalf("batch %d has a block: %v, and its spans: %v", i, hasBlock(db, uint32(i)), err)
			}
		}
		v.Close()
		mustClose(t, db)
		mustClose(t, r.db)
		return last
	})
}

func hasBlock(db *DB, flush uint32) bool {
	for _, b := range db.lookupTenant("default").snapshotBlocks() {
		if b.origin.First <= flush && flush <= b.origin.Last {
			return true
		}
	}
	return false
}

// TestCoverageOutlivesRetention drops every block, restarts, and replays all: the
// store knows that it had it.
func TestCoverageOutlivesRetention(t *testing.T) {
	fs := vfs.NewMem()
	var c clock
	db := openTest(t, fs, Options{Now: c.now})
	fill(t, db, 3)
	c.advance(DefaultConfig().Retention + time.Hour)
	if err := db.Maintain(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := db.totals(); got.blocks != 0 || len(db.Services("default")) != 0 {
		t.Fatalf("%d blocks and services %q, want none", got.blocks, db.Services("default"))
	}
	mustClose(t, db)
	db = openTest(t, fs, Options{Now: c.now})
	if c := db.Covered("src", "traces", 0); c != 3 {
		t.Fatalf("covered %d, want 3", c)
	}
	g := newGenerator(7)
	for i := range int64(3) {
		if res := appendAt(t, db, g.batch(false), i); res.Appended != 0 {
			t.Fatalf("replay of offset %d appended %d spans past their retention", i, res.Appended)
		}
	}
	m := make(model)
	b := g.batch(false)
	m.add(b)
	appendAt(t, db, b, 3)
	mustFlush(t, db)
	if name := db.lookupTenant("default").blocks[0].origin.Name(); name != (block.Flushes{First: 3, Last: 3}).Name() {
		t.Fatalf("the next block is %s, want number 3", name)
	}
	m.check(t, db)
	mustClose(t, db)
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
			db := openTest(t, fs, Options{})
			g := newGenerator(1)
			m := make(model)
			add := func(offset int64) {
				b := g.batch(false)
				m.add(b)
				appendAt(t, db, b, offset)
			}
			for i := range int64(2) {
				add(i)
				mustFlush(t, db)
			}
			ctx := context.Background()
			broken.Store(true)
			add(2)
			if err := db.Flush(ctx); err == nil {
				t.Fatal("flush to a broken disk: no error")
			}
			if err := db.Compact(ctx); err == nil {
				t.Fatal("merge on a broken disk: no error")
			}
			if d := db.Durable("src", "traces", 0); d != 2 {
				t.Fatalf("durable %d, want 2", d)
			}
			m.check(t, db)
			add(3)
			m.check(t, db)
			broken.Store(false)
			mustFlush(t, db)
			if d := db.Durable("src", "traces", 0); d != 4 {
				t.Fatalf("durable %d, want 4", d)
			}
			if db.spans.Load() != 0 || db.bytes.Load() != 0 {
				t.Fatalf("%d spans, %d bytes in heads after a flush", db.spans.Load(), db.bytes.Load())
			}
			mustClose(t, db)
			db = openTest(t, fs, Options{})
			m.check(t, db)
			mustClose(t, db)
		})
	}
}

// A retention that cannot note what it drops drops nothing.
func TestRetentionOnBrokenDisk(t *testing.T) {
	var broken atomic.Bool
	fs := vfs.Faulty(vfs.NewMem(), func(op vfs.Op) error {
		if broken.Load() && op.Kind == vfs.OpWrite {
			return syscall.ENOSPC
		}
		return nil
	})
	var c clock
	db := openTest(t, fs, Options{Now: c.now})
	m := fill(t, db, 2)
	c.advance(DefaultConfig().Retention + time.Hour)
	broken.Store(true)
	if err := db.Maintain(context.Background()); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("retention on a full disk: %v", err)
	}
	m.check(t, db)
	broken.Store(false)
	mustClose(t, db)
}
