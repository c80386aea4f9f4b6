package buffer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/vedette-io/vedette/internal/vfs"
)

// history is what a log has promised so far.
type history struct {
	mu        sync.Mutex
	acked     map[int64]string // by offset: appends that returned nil
	delivered map[int64]string // what consumers got
	committed int64
}

func newHistory() *history {
	return &history{acked: map[int64]string{}, delivered: map[int64]string{}}
}

func (h *history) clone() *history {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := newHistory()
	for o, p := range h.acked {
		c.acked[o] = p
	}
	for o, p := range h.delivered {
		c.delivered[o] = p
	}
	c.committed = h.committed
	return c
}

// crashPoint is a file system as a power failure left it, and what had been
// promised before.
type crashPoint struct {
	at   string
	fs   *vfs.Mem
	then *history
}

// check opens the log and compares it with the promises.
func (c *crashPoint) check(t *testing.T, cfg Config) {
	t.Helper()
	l := openTest(t, cfg, c.fs)
	all := readAll(t, l, "checker", 0, false)
	have := map[int64]string{}
	for _, g := range all {
		have[g.offset] = g.payload
	}
	oldest := l.openTopics()[0].partitions[0].stats().oldest
	if oldest > c.then.committed {
		t.Errorf("crash at %s: records from %d on are kept, group has committed %d only", c.at, oldest, c.then.committed)
	}
	if cfg.Sync == SyncAlways {
		for o, p := range c.then.acked {
			if o >= c.then.committed && have[o] != p {
				t.Errorf("crash at %s: acknowledged record %d: got %.20q, want %.20q", c.at, o, have[o], p)
			}
		}
	}
	checkWhole(t, c.at, all)
	for o, p := range c.then.delivered {
		if now, ok := have[o]; ok && now != p {
			t.Errorf("crash at %s: offset %d was %.20q, is %.20q", c.at, o, p, now)
		}
	}
	first := appendTest(t, l, "1/0/1/new")
	for o := range c.then.delivered {
		if o >= first {
			t.Errorf("crash at %s: a new record has offset %d, but a consumer has seen %d", c.at, first, o)
		}
	}
	if all := readAll(t, l, "checker", first, false); len(all) != 1 || all[0].offset != first {
		t.Errorf("crash at %s: appended one record at %d, got %v", c.at, first, all)
	}
	closeTest(t, l)
}

// checkWhole checks that messages are whole appends: payloads are named
// <id>/<index>/<length>/….
func checkWhole(t *testing.T, at string, all []got) {
	t.Helper()
	var prevID string
	var prev, length int
	for _, g := range all {
		parts := strings.SplitN(g.payload, "/", 4)
		if len(parts) != 4 {
			t.Errorf("crash at %s: torn payload %.20q", at, g.payload)
			return
		}
		var i, n int
		if _, err := fmt.Sscan(parts[1], &i); err != nil {
			t.Errorf("crash at %s: torn payload %.20q", at, g.payload)
		}
		if _, err := fmt.Sscan(parts[2], &n); err != nil {
			t.Errorf("crash at %s: torn payload %.20q", at, g.payload)
		}
		if i > 0 && (parts[0] != prevID || i != prev+1) || i == 0 && length > 0 && prev != length-1 {
			t.Errorf("crash at %s: part of an append: %.20q after %s/%d", at, g.payload, prevID, prev)
		}
		prevID, prev, length = parts[0], i, n
	}
	if length > 0 && prev != length-1 {
		t.Errorf("crash at %s: part of an append at the end: %s/%d of %d", at, prevID, prev, length)
	}
}

// workload appends from several producers while a consumer reads and commits.
// Appends may fail; the history has those that did not.
func workload(t *testing.T, l *Log, h *history, rng *rand.Rand, appends int, mayFail bool) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() {
		consume := func(ctx context.Context, c Claim) error {
			for n := 0; ; n++ {
				msgs, err := c.Next(ctx)
				if err != nil {
					if mayFail && ctx.Err() == nil {
						continue // the consumer tries again
					}
					return err
				}
				h.mu.Lock()
				for _, m := range msgs {
					h.delivered[m.Offset] = string(m.Payload)
				}
				h.mu.Unlock()
				if n%5 != 4 {
					continue
				}
				next := msgs[len(msgs)-1].Offset + 1
				h.mu.Lock()
				h.committed = next // a commit that fails may still be durable
				h.mu.Unlock()
				if err := c.Commit(ctx, next); err != nil && !mayFail {
					return err
				}
			}
		}
		err := l.Consume(ctx, "store", testTopic, consume)
		for err != nil && mayFail && ctx.Err() == nil {
			err = l.Consume(ctx, "store", testTopic, consume)
		}
		ended <- err
	}()
	var producers sync.WaitGroup
	for w := range 3 {
		seed := rng.Uint64()
		producers.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 0))
			for i := range appends {
				var names []string
				n := 1 + rng.IntN(3)
				for j := range n {
					name := fmt.Sprintf("w%d.%d/%d/%d/", w, i, j, n)
					names = append(names, name+strings.Repeat("x", rng.IntN(1500)))
				}
				first, err := tryAppend(l, names...)
				if err != nil {
					if !mayFail {
						t.Error(err)
					}
					continue
				}
				h.mu.Lock()
				for j, name := range names {
					h.acked[first+int64(j)] = name
				}
				h.mu.Unlock()
			}
		})
	}
	producers.Wait()
	synctest.Wait()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// changing says whether an operation changes what a crash would leave.
func changing(k vfs.OpKind) bool {
	switch k {
	case vfs.OpCreate, vfs.OpMkdirAll, vfs.OpRename, vfs.OpRemove, vfs.OpSyncDir, vfs.OpWrite, vfs.OpSync, vfs.OpTruncate:
		return true
	}
	return false
}

func TestCrashAtEveryStep(t *testing.T) {
	for _, mode := range []SyncMode{SyncAlways, SyncInterval, SyncNever} {
		t.Run(string(mode), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := testConfig()
				cfg.Sync = mode
				cfg.SegmentBytes = minSegmentBytes
				var (
					mem    = vfs.NewMem()
					h      = newHistory()
					mu     sync.Mutex
					points []crashPoint
				)
				fsys := vfs.Faulty(mem, func(op vfs.Op) error {
					if !changing(op.Kind) {
						return nil
					}
					mu.Lock()
					defer mu.Unlock()
					then := h.clone() // before the clone: what it promises, the clone must hold
					n := uint64(len(points))
					points = append(points, crashPoint{fmt.Sprintf("op %d: %+v", n, op), mem.CrashClone(n), then})
					return nil
				})
				rng := rand.New(rand.NewPCG(1, 2))
				for range 2 { // and through a clean restart
					l := openTest(t, cfg, fsys)
					workload(t, l, h, rng, 25, false)
					closeTest(t, l)
				}
				t.Logf("%d crash points, %d appended, %d delivered", len(points), len(h.acked), len(h.delivered))
				for i := range points {
					if points[i].check(t, cfg); t.Failed() {
						return
					}
				}
			})
		})
	}
}

// TestFaultsAndCrashes lets operations fail at random, with a crash at random
// moments.
func TestFaultsAndCrashes(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := testConfig()
				cfg.SegmentBytes = minSegmentBytes
				var (
					mem    = vfs.NewMem()
					h      = newHistory()
					mu     sync.Mutex
					rng    = rand.New(rand.NewPCG(seed, 3))
					faults = false
					points []crashPoint
				)
				fsys := vfs.Faulty(mem, func(op vfs.Op) error {
					mu.Lock()
					defer mu.Unlock()
					if !changing(op.Kind) || !faults {
						return nil
					}
					if rng.IntN(8) == 0 {
						then := h.clone()
						points = append(points, crashPoint{fmt.Sprintf("op %d: %+v", len(points), op), mem.CrashClone(rng.Uint64()), then})
					}
					if rng.IntN(8) != 0 {
						return nil
					}
					err := []error{syscall.EIO, syscall.ENOSPC}[rng.IntN(2)]
					if op.Kind == vfs.OpWrite {
						return &vfs.ShortWrite{N: rng.IntN(op.Len + 1), Err: err}
					}
					return err
				})
				l := openTest(t, cfg, fsys)
				mu.Lock()
				faults = true
				mu.Unlock()
				workload(t, l, h, rand.New(rand.NewPCG(seed, 4)), 20, true)
				mu.Lock()
				faults = false
				mu.Unlock()
				appendTest(t, l, "1/0/1/healthy again")
				closeTest(t, l)
				points = append(points, crashPoint{"end", mem.CrashClone(seed), h.clone()})
				for i := range points {
					points[i].check(t, cfg)
				}
			})
		})
	}
}

func TestDiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		room := 1 << 20
		fsys := vfs.Faulty(mem, func(op vfs.Op) error {
			if op.Kind != vfs.OpWrite {
				return nil
			}
			if op.Len > room {
				return &vfs.ShortWrite{N: room, Err: syscall.ENOSPC}
			}
			room -= op.Len
			return nil
		})
		l := openTest(t, testConfig(), fsys)
		appendTest(t, l, "a")
		for _, left := range []int{0, 1, 70, 500} {
			room = left
			_, err := tryAppend(l, big("refused", 1000))
			var full *FullError
			if !errors.As(err, &full) || !errors.Is(err, syscall.ENOSPC) || full.RetryAfter <= 0 {
				t.Fatalf("got %v, want a FullError", err)
			}
		}
		room = 1 << 20
		if got := appendTest(t, l, "b"); got != 1 {
			t.Fatalf("got offset %d, want 1", got)
		}
		wantPayloads(t, readAll(t, l, "g", 0, false), "a", "b")
		closeTest(t, l)
		l = openTest(t, testConfig(), mem)
		wantPayloads(t, readAll(t, l, "g", 0, false), "a", "b")
		closeTest(t, l)
	})
}

func TestFailedFsync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		failing, failTruncate := false, false
		fsys := vfs.Faulty(mem, func(op vfs.Op) error {
			if failing && op.Kind == vfs.OpSync || failTruncate && op.Kind == vfs.OpTruncate {
				return syscall.EIO
			}
			return nil
		})
		l := openTest(t, testConfig(), fsys)
		appendTest(t, l, "a")
		failing = true
		if _, err := tryAppend(l, "refused"); !errors.Is(err, syscall.EIO) {
			t.Fatalf("got %v, want EIO", err)
		}
		if _, err := tryAppend(l, "refused too"); !errors.Is(err, syscall.EIO) {
			t.Fatalf("got %v, want EIO", err)
		}
		failing = false
		appendTest(t, l, "b")
		failing, failTruncate = true, true
		if _, err := tryAppend(l, "refused, and the disk keeps it"); !errors.Is(err, syscall.EIO) {
			t.Fatalf("got %v, want EIO", err)
		}
		failing = false
		appendTest(t, l, "c")
		wantPayloads(t, readAll(t, l, "g", 0, false), "a", "b", "c")
		for seed := range uint64(50) {
			c := openTest(t, testConfig(), mem.CrashClone(seed))
			wantPayloads(t, readAll(t, c, "g", 0, false), "a", "b", "c")
			closeTest(t, c)
		}
		closeTest(t, l)
		l = openTest(t, testConfig(), mem)
		wantPayloads(t, readAll(t, l, "g", 0, false), "a", "b", "c")
		closeTest(t, l)
	})
}
