package buffer

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/vedette-io/vedette/internal/vfs"
)

// gate lets a test hold fsyncs of segments.
type gate struct {
	fs    vfs.FS
	hold  atomic.Bool
	open  chan struct{}
	syncs atomic.Int64
}

func newGate() *gate {
	g := &gate{open: make(chan struct{})}
	g.fs = vfs.Faulty(vfs.NewMem(), func(op vfs.Op) error {
		if op.Kind == vfs.OpSync && strings.HasSuffix(op.Name, segmentSuffix) && g.hold.Load() {
			g.syncs.Add(1)
			<-g.open
		}
		return nil
	})
	return g
}

func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		l := openTest(t, testConfig(), g.fs)
		appendTest(t, l, "first") // makes the segment
		g.hold.Store(true)
		results := make(chan error, 10)
		for range 10 {
			go func() {
				_, err := tryAppend(l, "p")
				results <- err
			}()
			synctest.Wait()
		}
		if all := readAll(t, l, "g", 0, false); len(all) != 1 {
			t.Fatalf("a consumer got %d messages, want 1: the others are not durable", len(all))
		}
		if got := g.syncs.Load(); got != 1 {
			t.Fatalf("%d fsyncs are under way, want 1", got)
		}
		close(g.open)
		for range 10 {
			if err := <-results; err != nil {
				t.Fatal(err)
			}
		}
		if got := g.syncs.Load(); got != 2 {
			t.Fatalf("%d fsyncs for 10 appends, want 2", got)
		}
		closeTest(t, l)
	})
}

func TestCancelWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		l := openTest(t, testConfig(), g.fs)
		appendTest(t, l, "first")
		g.hold.Store(true)
		ctx, cancel := context.WithCancel(context.Background())
		results := map[string]chan error{}
		for _, name := range []string{"written", "waiting", "patient"} {
			result := make(chan error, 1)
			results[name] = result
			ctx := ctx
			if name == "patient" {
				ctx = context.Background()
			}
			go func() {
				_, err := l.Append(ctx, testTopic, 0, []Record{record(name)})
				result <- err
			}()
			synctest.Wait()
		}
		cancel()
		if err := <-results["waiting"]; !errors.Is(err, context.Canceled) {
			t.Fatalf("an append that waits for its turn: got %v, want Canceled", err)
		}
		select {
		case err := <-results["written"]:
			t.Fatalf("an append that is being written returned: %v", err)
		default:
		}
		close(g.open)
		for _, name := range []string{"written", "patient"} {
			if err := <-results[name]; err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		wantPayloads(t, readAll(t, l, "g", 0, false), "first", "written", "patient")
		closeTest(t, l)
	})
}

// TestTail compares the ring with a plain list, over random operations.
func TestTail(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		ring := tail{owner: &claim{}, Tail: Tail{MaxBytes: 200}}
		var model []int64
		var bytes, next, pos int64
		for range 2000 {
			switch rng.IntN(3) {
			case 0, 1:
				n := rng.Int64N(20)
				fits := bytes+n <= ring.MaxBytes
				if got := ring.push(next, &Record{Payload: make([]byte, n)}); got != fits {
					t.Fatalf("seed %d: push of %d bytes to %d: got %v", seed, n, bytes, got)
				}
				if fits {
					model = append(model, next)
					bytes += n
				}
				next++
			case 2:
				pos = min(next, pos+rng.Int64N(5))
				ring.SkipTo(pos, nil)
				for len(model) > 0 && model[0] < pos {
					model = model[1:]
				}
				var want, got []int64
				for len(model) > 0 && model[0] == pos {
					want = append(want, pos)
					model = model[1:]
					pos++
				}
				start := pos - int64(len(want))
				for _, m := range ring.Take(start, nil) {
					got = append(got, m.Offset)
				}
				if !slices.Equal(got, want) {
					t.Fatalf("seed %d: take from %d: got %v, want %v", seed, start, got, want)
				}
				bytes = ring.bytes
			}
			if first, ok := ring.First(); ok != (len(model) > 0) || ok && first != model[0] {
				t.Fatalf("seed %d: first: got %d, %v", seed, first, ok)
			}
		}
		ring.SkipTo(next, nil)
		if ring.bytes != 0 {
			t.Fatalf("seed %d: an empty ring counts %d bytes", seed, ring.bytes)
		}
	}
}
