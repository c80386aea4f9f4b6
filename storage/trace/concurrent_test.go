package trace

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/trace/rows"
)

// TestNoGapWhileEverythingHappens has two writers, a flusher, a merger and
// readers that ask, right after an append has returned, for all that was
// appended so far.
func TestNoGapWhileEverythingHappens(t *testing.T) {
	defer goleak.VerifyNone(t)
	c := DefaultConfig()
	c.FlushSpans, c.MergeSpans = 1000, 2000
	db := openTest(t, vfs.NewMem(), Options{Config: c})
	ctx, stop := context.WithCancel(context.Background())
	var background, writers sync.WaitGroup
	background.Go(func() { _ = db.Run(ctx) })
	background.Go(func() {
		for ctx.Err() == nil {
			if err := errors.Join(db.Flush(ctx), db.Maintain(ctx), db.Compact(ctx)); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	const rounds, traces = 150, 5
	for w := range uint64(2) {
		writers.Go(func() {
			for r := range rounds {
				var spans []testSpan
				for i := range uint64(traces) {
					spans = append(spans, testSpan{trace: w*traces + i + 1, id: uint64(r) + 1, start: int64(r), service: fmt.Sprint("writer-", w), name: "x"})
				}
				if _, err := db.AppendSpans(ctx, batch("default", spans...), "src", "traces", int32(w), int64(r)); err != nil {
					t.Error(err)
					return
				}
				if err := expect(db, w, traces, r+1); err != nil {
					t.Errorf("writer %d, round %d: %v", w, r, err)
					return
				}
			}
		})
	}
	writers.Wait()
	stop()
	background.Wait()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// expect reads the traces of a writer, by id and by scanning.
func expect(db *DB, w uint64, traces, spans int) error {
	v := db.View("default", math.MinInt64, math.MaxInt64)
	defer v.Close()
	var s signal.Spans
	id := w*uint64(traces) + uint64(spans%traces) + 1
	if err := v.Trace(traceID(id), &s); err != nil {
		return err
	}
	if s.Len() != spans {
		return fmt.Errorf("trace %d has %d spans, want %d", id, s.Len(), spans)
	}
	n := 0
	var c rows.Cursor
	for _, g := range v.Groups() {
		if err := c.Seek(g); err != nil {
			return err
		}
		rs, err := c.Resources()
		if err != nil {
			return err
		}
		for _, r := range rs {
			if c.Space().Resources[r].Service == fmt.Sprint("writer-", w) {
				n++
			}
		}
	}
	if n != traces*spans {
		return fmt.Errorf("a scan finds %d spans, want %d", n, traces*spans)
	}
	if got := db.Services("default"); len(got) == 0 {
		return errors.New("no services")
	}
	return errors.Join(v.Warnings()...)
}
