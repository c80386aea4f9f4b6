package check

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vedette-io/vedette/bench/client"
)

// written is a ledger of three acknowledged samples and one without an answer.
func written() *ledger {
	l := &ledger{series: 2}
	for i := range 4 {
		s := sample{millis: int64(1000 + 100*i)}
		if i != 3 {
			s.acked = time.UnixMilli(s.millis + 5)
		}
		l.add(s)
	}
	return l
}

// answerOf is what a server answers that took the first n samples.
func answerOf(l *ledger, n int) []client.Series {
	var out []client.Series
	for i := range l.series {
		s := client.Series{Labels: map[string]string{"series": strconv.Itoa(i)}}
		for _, x := range l.samples[:n] {
			s.Points = append(s.Points, client.Point{Millis: x.millis, Value: value(i, x.millis)})
		}
		out = append(out, s)
	}
	return out
}

func TestCompareNamesEveryGap(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func([]client.Series) []client.Series
		want  string // part of the reason; empty: no gap
		gaps  int
	}{
		{"as written", func(a []client.Series) []client.Series { return a }, "", 0},
		{"newest missing", func(a []client.Series) []client.Series {
			a[0].Points = a[0].Points[:2]
			return a
		}, "missing", 1},
		{"middle missing", func(a []client.Series) []client.Series {
			a[1].Points = slices.Delete(a[1].Points, 1, 2)
			return a
		}, "missing", 1},
		{"series missing", func(a []client.Series) []client.Series { return a[:1] }, "missing", 1},
		{"everything missing", func([]client.Series) []client.Series { return nil }, "missing", 2},
		{"twice", func(a []client.Series) []client.Series {
			a[0].Points = slices.Insert(a[0].Points, 1, a[0].Points[1])
			return a
		}, "there twice", 1},
		{"another value", func(a []client.Series) []client.Series { a[0].Points[1].Value++; return a }, "want", 1},
		{"never written", func(a []client.Series) []client.Series {
			a[0].Points = append(a[0].Points, client.Point{Millis: 1250})
			return a
		}, "never written", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := written()
			gaps := l.compare(c.spoil(answerOf(l, 3)), 999, 1300)
			if len(gaps) != c.gaps {
				t.Fatalf("got %d gaps, want %d: %+v", len(gaps), c.gaps, gaps)
			}
			for _, g := range gaps {
				if !strings.Contains(g.Why, c.want) {
					t.Fatalf("got reason %q, want %q in it", g.Why, c.want)
				}
			}
		})
	}
}

func TestUnacknowledgedSampleMustStayOnceSeen(t *testing.T) {
	l := written()
	if gaps := l.compare(answerOf(l, 4), 999, 1300); len(gaps) != 0 {
		t.Fatalf("a sample without an answer is there: got %+v, want no gap", gaps)
	}
	gaps := l.compare(answerOf(l, 3), 999, 1300)
	if len(gaps) != l.series || !strings.Contains(gaps[0].Why, "there once") {
		t.Fatalf("it has gone: got %+v, want a gap per series", gaps)
	}
}

func TestCompareLooksOnlyAtTheWindow(t *testing.T) {
	l := written()
	answer := answerOf(l, 3)
	for i := range answer {
		answer[i].Points = answer[i].Points[1:]
	}
	if gaps := l.compare(answer, 1000, 1300); len(gaps) != 0 {
		t.Fatalf("got %+v, want no gap: the first sample is outside the window", gaps)
	}
}
