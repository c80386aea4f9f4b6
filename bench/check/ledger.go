package check

import (
	"fmt"
	"math"
	"sort"
	"strconv"
	"time"

	"github.com/vedette-io/vedette/bench/client"
)

// Gap is a stretch of time in which an acknowledged sample could not be seen.
type Gap struct {
	Series string    `json:"series"`
	Sample time.Time `json:"sample"` // time of the first sample that was missing
	Count  int       `json:"count"`  // samples that were missing
	Acked  time.Time `json:"acked"`
	Seen   time.Time `json:"seen"` // when it was missing
	Asked  string    `json:"asked"`
	// After names what was last done to the server.
	After string `json:"after"`
	Why   string `json:"why"`
}

// sample is one write of every series.
type sample struct {
	millis int64
	acked  time.Time // zero: no acknowledgement
}

// ledger is what was written, in order of time.
type ledger struct {
	series  int
	samples []sample
	seen    []bool // of a sample without acknowledgement: it was there once
}

// value is what a series has at a time.
func value(series int, millis int64) float64 {
	return float64(millis%1_000_000_000) + float64(series)/4
}

func (l *ledger) add(s sample) {
	l.samples = append(l.samples, s)
	l.seen = append(l.seen, false)
}

// compare checks the raw samples of (fromMillis, toMillis] of every series and
// returns a gap per series at fault.
func (l *ledger) compare(answer []client.Series, fromMillis, toMillis int64) []Gap {
	lo := sort.Search(len(l.samples), func(i int) bool { return l.samples[i].millis > fromMillis })
	hi := sort.Search(len(l.samples), func(i int) bool { return l.samples[i].millis > toMillis })
	bySeries := make(map[string][]client.Point, len(answer))
	for _, s := range answer {
		bySeries[s.Labels["series"]] = append(bySeries[s.Labels["series"]], s.Points...)
	}
	var gaps []Gap
	for i := range l.series {
		name := strconv.Itoa(i)
		if g, bad := l.compareSeries(i, bySeries[name], lo, hi); bad {
			g.Series = name
			gaps = append(gaps, g)
		}
	}
	return gaps
}

// compareSeries walks what was written and what was answered side by side.
func (l *ledger) compareSeries(series int, points []client.Point, lo, hi int) (Gap, bool) {
	var g Gap
	fault := func(s sample, why string) {
		if g.Count == 0 {
			g.Sample, g.Acked, g.Why = time.UnixMilli(s.millis), s.acked, why
		}
		g.Count++
	}
	k := 0
	for i := lo; i < hi; i++ {
		s := l.samples[i]
		for k < len(points) && points[k].Millis < s.millis {
			fault(sample{millis: points[k].Millis}, "there but never written, or out of order")
			k++
		}
		if k == len(points) || points[k].Millis > s.millis {
			if !s.acked.IsZero() {
				fault(s, "missing")
			} else if l.seen[i] {
				fault(s, "missing, though it was there once")
			}
			continue
		}
		if want := value(series, s.millis); math.Float64bits(want) != math.Float64bits(points[k].Value) {
			fault(s, fmt.Sprintf("is %v, want %v", points[k].Value, want))
		}
		l.seen[i] = true
		k++
		if k < len(points) && points[k].Millis == s.millis {
			fault(s, "there twice")
		}
	}
	for ; k < len(points); k++ {
		fault(sample{millis: points[k].Millis}, "there but never written")
	}
	return g, g.Count > 0
}
