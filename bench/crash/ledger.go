package crash

import (
	"fmt"
	"math"
	"strconv"

	"github.com/klauspost/compress/snappy"

	"github.com/vedette-io/vedette/bench/client"
	"github.com/vedette-io/vedette/bench/gen"
	"github.com/vedette-io/vedette/internal/labels"
)

// What one request carries.
const (
	seriesPerGroup  = 500
	stepsPerRequest = 10
	stepMillis      = 250
	metricName      = "crash_sample"
)

// fate is what is known of a request.
type fate uint8

const (
	acknowledged fate = iota
	unknown           // no answer: it may have been taken or not
)

// group is the series that one writer sends together, and what became of them.
type group struct {
	name      string
	start     int64 // time of step 0
	canonical [seriesPerGroup][]byte
	fates     []fate // of request i, which holds steps i*stepsPerRequest and on
	raw, body []byte
}

func newGroup(name string, start int64) *group {
	g := &group{name: name, start: start}
	for i := range g.canonical {
		g.canonical[i] = labels.Append(g.canonical[i], "__name__", metricName)
		g.canonical[i] = labels.Append(g.canonical[i], "group", name)
		g.canonical[i] = labels.Append(g.canonical[i], "series", strconv.Itoa(i))
	}
	return g
}

func (g *group) millis(step int) int64 { return g.start + int64(step)*stepMillis }

// steps is the number of steps sent so far.
func (g *group) steps() int { return len(g.fates) * stepsPerRequest }

// value is what series has at step: a counter, a decimal or a true float.
func value(series, step int) float64 {
	switch series % 3 {
	case 0:
		return float64(series*1000 + step*(1+series%7))
	case 1:
		return float64((series*7919+step*104729)%100000) / 100
	}
	x := uint64(series+1)*0x9e3779b97f4a7c15 + uint64(step)*0xbf58476d1ce4e5b9
	x ^= x >> 29
	x *= 0x94d049bb133111eb
	return math.Float64frombits(0x3ff<<52|x>>12) - 1
}

// request builds the body of request i; it is valid until the next call.
func (g *group) request(i int) []byte {
	var times [stepsPerRequest]int64
	var values [stepsPerRequest]float64
	g.raw = g.raw[:0]
	for s, canonical := range g.canonical {
		for k := range times {
			step := i*stepsPerRequest + k
			times[k], values[k] = g.millis(step), value(s, step)
		}
		g.raw = gen.AppendSeries(g.raw, canonical, times[:], values[:])
	}
	g.body = snappy.Encode(g.body[:cap(g.body)], g.raw)
	return g.body
}

// Verdict counts what a comparison found.
type Verdict struct {
	Compared int64 `json:"compared"` // acknowledged samples looked for
	Lost     int64 `json:"lost"`
	Doubled  int64 `json:"doubled"`
	Altered  int64 `json:"altered"` // another value than was sent
	Foreign  int64 `json:"foreign"` // never sent
	// Examples names the first few of them.
	Examples []string `json:"examples,omitempty"`
}

// maxExamples bounds Verdict.Examples.
const maxExamples = 20

func (v *Verdict) add(o Verdict) {
	v.Compared += o.Compared
	v.Lost += o.Lost
	v.Doubled += o.Doubled
	v.Altered += o.Altered
	v.Foreign += o.Foreign
	for _, e := range o.Examples {
		v.note("%s", e)
	}
}

func (v *Verdict) note(format string, args ...any) {
	if len(v.Examples) < maxExamples {
		v.Examples = append(v.Examples, fmt.Sprintf(format, args...))
	}
}

// Bad is the number of samples that are not as they must be.
func (v Verdict) Bad() int64 { return v.Lost + v.Doubled + v.Altered + v.Foreign }

// compare checks what a query for the steps from (included) to to (excluded)
// answered against the ledger.
func (g *group) compare(answer []client.Series, from, to int) Verdict {
	var v Verdict
	found := make(map[int][]client.Point, len(answer))
	for _, s := range answer {
		i, err := strconv.Atoi(s.Labels["series"])
		if err != nil || i < 0 || i >= seriesPerGroup || s.Labels["group"] != g.name {
			v.Foreign += int64(len(s.Points))
			v.note("group %s: series %v was never sent", g.name, s.Labels)
			continue
		}
		found[i] = append(found[i], s.Points...)
	}
	seen := make([]uint8, to-from)
	for i := range seriesPerGroup {
		clear(seen)
		for _, p := range found[i] {
			step := int((p.Millis - g.start) / stepMillis)
			if g.millis(step) != p.Millis || step < from || step >= to || step >= g.steps() {
				v.Foreign++
				v.note("group %s, series %d: sample at %d was never sent", g.name, i, p.Millis)
				continue
			}
			seen[step-from]++
			if want := value(i, step); math.Float64bits(want) != math.Float64bits(p.Value) {
				v.Altered++
				v.note("group %s, series %d, step %d: got %v, want %v", g.name, i, step, p.Value, want)
			}
		}
		g.judge(&v, i, seen, from)
	}
	return v
}

// judge compares how often each step of a series was seen with its fate.
func (g *group) judge(v *Verdict, series int, seen []uint8, from int) {
	for k, n := range seen {
		step := from + k
		acked := g.fates[step/stepsPerRequest] == acknowledged
		if acked {
			v.Compared++
		}
		switch {
		case n == 0 && acked:
			v.Lost++
			v.note("group %s, series %d, step %d (time %d): lost", g.name, series, step, g.millis(step))
		case n > 1:
			v.Doubled += int64(n - 1)
			v.note("group %s, series %d, step %d (time %d): there %d times", g.name, series, step, g.millis(step), n)
		}
	}
}
