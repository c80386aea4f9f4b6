package metric

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	promlabels "github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"

	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/vfs"
)

// batchBuilder makes batches as a decoder would.
type batchBuilder struct{ b signal.Metrics }

func canonical(ls promlabels.Labels) []byte {
	var out []byte
	ls.Range(func(l promlabels.Label) { out = labels.Append(out, l.Name, l.Value) })
	return out
}

func (bb *batchBuilder) series(ls promlabels.Labels) uint32 {
	canon := canonical(ls)
	b := &bb.b
	b.Labels = append(b.Labels, signal.ByteRange{Off: uint32(len(b.Buf)), Len: uint32(len(canon))})
	b.Buf = append(b.Buf, canon...)
	b.Hash = append(b.Hash, labels.HashCanonical(canon))
	b.SampleEnd = append(b.SampleEnd, uint32(len(b.Times)))
	return uint32(len(b.Hash) - 1)
}

func (bb *batchBuilder) float(t int64, v float64, start int64) {
	b := &bb.b
	b.Times = append(b.Times, t)
	b.Values = append(b.Values, v)
	b.Starts = append(b.Starts, start)
	b.SampleEnd[len(b.SampleEnd)-1]++
}

const t0 = int64(1_700_000_000_000)

func testConfig() Config {
	c := DefaultConfig()
	c.Window = time.Hour
	c.Retention = 1000 * time.Hour
	return c
}

func openTest(t *testing.T, fs vfs.FS, dir string, c Config) *DB {
	t.Helper()
	db, err := Open(Options{Dir: dir, FS: fs, Config: c, Now: func() time.Time { return time.UnixMilli(t0).Add(10 * time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func (bb *batchBuilder) appendTo(t *testing.T, db *DB, offset int64) signal.AppendResult {
	t.Helper()
	if bb.b.Tenant == "" {
		bb.b.Tenant = "default"
	}
	res, err := db.AppendMetrics(context.Background(), &bb.b, "src", "metrics", 0, offset)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// model is the store as a map.
type model struct {
	floats map[string]map[int64]float64
	hists  map[string]map[int64]bool
	starts map[string]map[int64]int64
	newest map[string]int64
}

func all() []*promlabels.Matcher {
	return []*promlabels.Matcher{promlabels.MustNewMatcher(promlabels.MatchRegexp, "__name__", ".+")}
}

func (m *model) check(t *testing.T, db *DB, minTime, maxTime int64) {
	t.Helper()
	set, err := db.Select(context.Background(), Selector{Tenant: "default", MinTime: minTime, MaxTime: maxTime, Matchers: all()})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	seen := 0
	var s Samples
	for i := range set.Len() {
		if i > 0 && promlabels.Compare(set.Labels(i-1), set.Labels(i)) >= 0 {
			t.Fatalf("series %s after %s", set.Labels(i), set.Labels(i-1))
		}
		if err := set.Samples(i, &s); err != nil {
			t.Fatal(err)
		}
		name := set.Labels(i).String()
		seen += len(s.Times) + len(s.HistogramTimes)
		for j, ts := range s.Times {
			want, ok := m.floats[name][ts]
			if !ok || math.Float64bits(want) != math.Float64bits(s.Values[j]) {
				t.Fatalf("%s at %d: got %v, want %v (there: %v)", name, ts-t0, s.Values[j], want, ok)
			}
			if j > 0 && ts <= s.Times[j-1] || ts < minTime || ts > maxTime {
				t.Fatalf("%s: time %d out of order or range", name, ts-t0)
			}
			if want := m.starts[name][ts]; want != 0 && (len(s.Starts) == 0 || s.Starts[j] != want) {
				t.Fatalf("%s at %d: start %v, want %d", name, ts-t0, s.Starts, want)
			}
		}
		for j, ts := range s.HistogramTimes {
			if !m.hists[name][ts] {
				t.Fatalf("%s: histogram at %d", name, ts-t0)
			}
			want := histogramAt(ts)
			got := s.Histograms[j]
			if got.Int == nil || !got.Int.Equals(want) {
				t.Fatalf("%s at %d: got %v, want %v", name, ts-t0, got.Int, want)
			}
		}
	}
	want := 0
	for _, ss := range m.floats {
		for ts := range ss {
			if ts >= minTime && ts <= maxTime {
				want++
			}
		}
	}
	for _, ss := range m.hists {
		for ts := range ss {
			if ts >= minTime && ts <= maxTime {
				want++
			}
		}
	}
	if seen != want {
		t.Fatalf("range %d to %d: got %d samples, want %d", minTime-t0, maxTime-t0, seen, want)
	}
}

func histogramAt(ts int64) *histogram.Histogram {
	h := tsdbutil.GenerateTestHistogram((ts - t0) / 1000 % 1000)
	h.CounterResetHint = histogram.UnknownCounterReset
	return h
}

// TestModel runs random operations on a store and on a map and compares what
// they hold, through flushes, merges, deletions, replays and restarts.
func TestModel(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { runModel(t, seed, 120) })
	}
}

func runModel(t *testing.T, seed uint64, steps int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	fs := vfs.NewMem()
	dir := "/store"
	c := testConfig()
	db := openTest(t, fs, dir, c)
	m := &model{floats: map[string]map[int64]float64{}, hists: map[string]map[int64]bool{}, starts: map[string]map[int64]int64{}, newest: map[string]int64{}}
	var log []*signal.Metrics // by offset, for replays
	now := t0
	base := int64(0)
	for range steps {
		switch op := rng.IntN(20); {
		case op < 13:
			now += int64(rng.IntN(90_000))
			b := m.randomBatch(rng, now)
			b.Tenant = "default"
			log = append(log, b)
			if _, err := db.AppendMetrics(context.Background(), b, "src", "metrics", 0, int64(len(log)-1)); err != nil {
				t.Fatal(err)
			}
		case op < 15:
			if err := db.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
			if d := db.Durable("src", "metrics", 0); len(log) > int(base) && d != int64(len(log)) {
				t.Fatalf("durable %d after a flush, want %d", d, len(log))
			}
		case op < 16:
			if err := db.Maintain(context.Background()); err != nil {
				t.Fatal(err)
			}
		case op < 17:
			if err := db.Compact(context.Background()); err != nil {
				t.Fatal(err)
			}
		case op < 18: // restart as after a crash: drop the heads, replay the log
			durable := db.Durable("src", "metrics", 0)
			if err := db.closeFiles(); err != nil {
				t.Fatal(err)
			}
			db = openTest(t, fs, dir, c)
			from := rng.Int64N(durable + 1)
			for off := from; off < int64(len(log)); off++ {
				if _, err := db.AppendMetrics(context.Background(), log[off], "src", "metrics", 0, off); err != nil {
					t.Fatal(err)
				}
			}
			base = int64(len(log))
		case op < 19:
			m.deleteRandom(t, rng, db, now)
		default:
			lo := t0 + rng.Int64N(now-t0+1)
			m.check(t, db, lo, lo+rng.Int64N(now-t0+1))
		}
	}
	m.check(t, db, math.MinInt64, math.MaxInt64)
	if err := db.CleanTombstones(context.Background()); err != nil {
		t.Fatal(err)
	}
	m.check(t, db, math.MinInt64, math.MaxInt64)
	if err := db.Snapshot(context.Background(), "/snap"); err != nil {
		t.Fatal(err)
	}
	copied := openTest(t, fs, "/snap", c)
	m.check(t, copied, math.MinInt64, math.MaxInt64)
	if err := errors.Join(db.Close(), copied.Close()); err != nil {
		t.Fatal(err)
	}
	fi, _ := fs.List(filepath.Join(dir, "default", metricsDir))
	if len(fi) == 0 {
		t.Fatal("no windows on disk")
	}
}

// randomBatch makes a batch and tells the model what should become of it.
func (m *model) randomBatch(rng *rand.Rand, now int64) *signal.Metrics {
	var bb batchBuilder
	for range 1 + rng.IntN(6) {
		id := rng.IntN(8)
		ls := promlabels.FromStrings("__name__", fmt.Sprintf("m%d", id%3), "id", fmt.Sprint(id), "größe", "ß")
		name := ls.String()
		i := bb.series(ls)
		if m.floats[name] == nil {
			m.floats[name] = map[int64]float64{}
			m.hists[name] = map[int64]bool{}
			m.starts[name] = map[int64]int64{}
		}
		ts := now
		if rng.IntN(5) == 0 {
			ts -= rng.Int64N(40 * 60_000)
		}
		_, haveFloat := m.floats[name][ts]
		_, haveHist := m.hists[name][ts]
		tooOld := m.newest[name]-ts > 30*60_000
		accept := !haveFloat && !haveHist && !tooOld
		if id == 7 {
			bb.b.Histograms = append(bb.b.Histograms, signal.HistogramSample{Series: i, Time: ts, Int: histogramAt(ts)})
			if accept {
				m.hists[name][ts] = true
			}
		} else {
			v := []float64{float64(rng.IntN(5)), rng.NormFloat64(), math.NaN(), math.Inf(1), float64(ts)}[rng.IntN(5)]
			start := int64(0)
			if rng.IntN(4) == 0 {
				start = ts - 1000
			}
			bb.float(ts, v, start)
			if accept {
				m.floats[name][ts] = v
				if start != 0 {
					m.starts[name][ts] = start
				}
			}
		}
		if accept {
			m.newest[name] = max(m.newest[name], ts)
		}
	}
	return &bb.b
}

func (m *model) deleteRandom(t *testing.T, rng *rand.Rand, db *DB, now int64) {
	id := fmt.Sprint(rng.IntN(8))
	lo := t0 + rng.Int64N(now-t0+1)
	hi := lo + rng.Int64N(600_000)
	for name, newest := range m.newest {
		// A series whose newest sample is deleted forgets, at a restart, how new it
		// was, and takes older ones again; the map does not model that.
		if strings.Contains(name, fmt.Sprintf(" id=%q", id)) {
			hi = min(hi, newest-1)
		}
	}
	sel := Selector{Tenant: "default", MinTime: lo, MaxTime: hi, Matchers: []*promlabels.Matcher{promlabels.MustNewMatcher(promlabels.MatchEqual, "id", id)}}
	if err := db.Delete(context.Background(), sel); err != nil {
		t.Fatal(err)
	}
	for name, ss := range m.floats {
		if !strings.Contains(name, fmt.Sprintf(" id=%q", id)) {
			continue
		}
		for ts := range ss {
			if ts >= lo && ts <= hi {
				delete(ss, ts)
				delete(m.starts[name], ts)
			}
		}
		for ts := range m.hists[name] {
			if ts >= lo && ts <= hi {
				delete(m.hists[name], ts)
			}
		}
	}
}
