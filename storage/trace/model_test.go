package trace

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/vedette-io/vedette/internal/vfs"
)

// TestModel does random things to a store and compares it with maps: batches
// with late spans, flushes, merges, maintenance, restarts, replays, and Views
// that stay open through all of it.
func TestModel(t *testing.T) {
	for seed := range uint64(12) {
		for _, duplicates := range []bool{false, true} {
			t.Run(fmt.Sprintf("seed=%d,duplicates=%v", seed, duplicates), func(t *testing.T) { runModel(t, seed, duplicates) })
		}
	}
}

type openView struct {
	v *View
	m model
}

// clone copies the model as a View would see it.
func (m model) clone() model {
	out := make(model, len(m))
	for id, spans := range m {
		c := make(map[string]int, len(spans))
		for s, n := range spans {
			c[s] = n
		}
		out[id] = c
	}
	return out
}

func runModel(t *testing.T, seed uint64, duplicates bool) {
	rng := rand.New(rand.NewPCG(seed, 9))
	fs := vfs.NewMem()
	var now clock
	c := DefaultConfig()
	c.MergeSpans = 1000
	o := Options{Config: c, Now: now.now}
	db := openTest(t, fs, o)
	g := newGenerator(seed)
	m := make(model)
	ctx := context.Background()
	offset := int64(0)
	var views []openView
	check := func() {
		t.Helper()
		if duplicates { // counts by service would have them twice
			v := db.View("default", math.MinInt64, math.MaxInt64)
			defer v.Close()
			if err := m.compare(v); err != nil {
				t.Fatal(err)
			}
			return
		}
		m.check(t, db)
	}
	for step := range 120 {
		switch rng.IntN(12) {
		default:
			b := g.batch(duplicates)
			m.add(b)
			appendAt(t, db, b, offset)
			offset++
		case 0, 1:
			mustFlush(t, db)
		case 2:
			if err := db.Compact(ctx); err != nil {
				t.Fatal(err)
			}
		case 3:
			now.advance(time.Duration(rng.IntN(10)) * time.Minute)
			maintain(t, db)
		case 4:
			views = append(views, openView{db.View("default", math.MinInt64, math.MaxInt64), m.clone()})
		case 5:
			if len(views) == 0 {
				break
			}
			v := views[0]
			views = views[1:]
			if err := v.m.compare(v.v); err != nil {
				t.Fatalf("step %d: view: %v", step, err)
			}
			v.v.Close()
		case 6:
			if rng.IntN(3) > 0 {
				break
			}
			for _, v := range views {
				v.v.Close()
			}
			views = nil
			mustClose(t, db)
			db = openTest(t, fs, o)
			for off := rng.Int64N(offset + 1); off < offset; off++ { // a replay of what is covered
				if res := appendAt(t, db, g.again(), off); res.Appended > 0 {
					t.Fatalf("step %d: replay of offset %d appended %+v", step, off, res)
				}
			}
		}
		if step%10 == 9 {
			check()
		}
	}
	for _, v := range views {
		if err := v.m.compare(v.v); err != nil {
			t.Fatal(err)
		}
		v.v.Close()
	}
	check()
	mustClose(t, db)
}
