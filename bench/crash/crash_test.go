package crash

import (
	"slices"
	"strconv"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"

	"github.com/vedette-io/vedette/bench/client"
)

// answerOf is what a server answers that took every request.
func answerOf(g *group) []client.Series {
	var out []client.Series
	for i := range seriesPerGroup {
		s := client.Series{Labels: map[string]string{"group": g.name, "series": strconv.Itoa(i)}}
		for step := range g.steps() {
			s.Points = append(s.Points, client.Point{Millis: g.millis(step), Value: value(i, step)})
		}
		out = append(out, s)
	}
	return out
}

func TestCompareFindsEveryFault(t *testing.T) {
	const lastAcked = 2*stepsPerRequest - 1
	for _, c := range []struct {
		name  string
		spoil func([]client.Series) []client.Series
		want  Verdict
	}{
		{"as sent", func(a []client.Series) []client.Series { return a }, Verdict{}},
		{"unknown request absent", func(a []client.Series) []client.Series {
			for i := range a {
				a[i].Points = a[i].Points[:lastAcked+1]
			}
			return a
		}, Verdict{}},
		{"one sample lost", func(a []client.Series) []client.Series {
			a[7].Points = slices.Delete(a[7].Points, 3, 4)
			return a
		}, Verdict{Lost: 1}},
		{"one series lost", func(a []client.Series) []client.Series { return a[1:] }, Verdict{Lost: lastAcked + 1}},
		{"everything lost", func([]client.Series) []client.Series { return nil }, Verdict{Lost: seriesPerGroup * (lastAcked + 1)}},
		{"one sample twice", func(a []client.Series) []client.Series {
			a[0].Points = append(a[0].Points, a[0].Points[0])
			return a
		}, Verdict{Doubled: 1}},
		{"unknown sample twice", func(a []client.Series) []client.Series {
			a[0].Points = append(a[0].Points, a[0].Points[lastAcked+1])
			return a
		}, Verdict{Doubled: 1}},
		{"one series twice", func(a []client.Series) []client.Series { return append(a, a[4]) }, Verdict{Doubled: 3 * stepsPerRequest}},
		{"another value", func(a []client.Series) []client.Series { a[2].Points[5].Value += 1e-9; return a }, Verdict{Altered: 1}},
		{"never sent", func(a []client.Series) []client.Series {
			a[2].Points = append(a[2].Points, client.Point{Millis: a[2].Points[0].Millis + 1})
			return append(a, client.Series{Points: make([]client.Point, 2)})
		}, Verdict{Foreign: 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGroup("g0", 1_800_000_000_000)
			g.fates = []fate{acknowledged, acknowledged, unknown}
			got := g.compare(c.spoil(answerOf(g)), 0, g.steps())
			if got.Lost != c.want.Lost || got.Doubled != c.want.Doubled || got.Altered != c.want.Altered || got.Foreign != c.want.Foreign {
				t.Fatalf("got %+v, want %+v", got, c.want)
			}
			if got.Compared != seriesPerGroup*(lastAcked+1) {
				t.Fatalf("compared %d samples, want %d", got.Compared, seriesPerGroup*(lastAcked+1))
			}
			if (got.Bad() > 0) != (len(got.Examples) > 0) {
				t.Fatalf("bad samples: %d, examples: %v", got.Bad(), got.Examples)
			}
		})
	}
}

func TestRequestHoldsItsSteps(t *testing.T) {
	g := newGroup("g3", 1_800_000_000_000)
	raw, err := snappy.Decode(nil, g.request(4))
	if err != nil {
		t.Fatal(err)
	}
	var wr prompb.WriteRequest
	if err := wr.Unmarshal(raw); err != nil {
		t.Fatal(err)
	}
	if len(wr.Timeseries) != seriesPerGroup {
		t.Fatalf("got %d series, want %d", len(wr.Timeseries), seriesPerGroup)
	}
	for i, ts := range wr.Timeseries {
		for k, s := range ts.Samples {
			if step := 4*stepsPerRequest + k; s.Timestamp != g.millis(step) || s.Value != value(i, step) {
				t.Fatalf("series %d, sample %d: got %+v", i, k, s)
			}
		}
	}
}

func TestUnionCountsWhatTwoStoresHave(t *testing.T) {
	g := newGroup("g0", 1_800_000_000_000)
	g.fates = []fate{acknowledged, acknowledged, unknown}
	half := 2 * stepsPerRequest
	split := func(a []client.Series, from, to int) []client.Series {
		for i := range a {
			a[i].Points = a[i].Points[from:to]
		}
		return a
	}
	first := split(answerOf(g)[:300], 0, half)
	second := split(answerOf(g), half-3, half+stepsPerRequest)
	second = append(second[:300:300], answerOf(g)[300:]...)
	all, overlap := union([][]client.Series{first, second})
	if got := g.compare(all, 0, g.steps()); got.Bad() != 0 {
		t.Fatalf("got %+v, want nothing at fault", got)
	}
	if overlap != 3*300 {
		t.Fatalf("%d samples are in both, want %d", overlap, 3*300)
	}
	second[5].Points[1].Value++
	all, _ = union([][]client.Series{first, second})
	if got := g.compare(all, 0, g.steps()); got.Altered != 1 || got.Doubled != 1 {
		t.Fatalf("got %+v, want the altered sample found", got)
	}
	all, _ = union([][]client.Series{first[1:], second[1:]})
	if got := g.compare(all, 0, g.steps()); got.Lost != int64(half) {
		t.Fatalf("got %+v, want one series lost", got)
	}
}
