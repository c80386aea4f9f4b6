package cli

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"
)

// renderCharts draws one small chart per series, all over the same time.
func renderCharts(w *bytes.Buffer, r *Result, o Options) {
	if r.Type == "string" || len(r.Series) == 0 {
		renderTable(w, r, o)
		return
	}
	start, end := r.span()
	series, rest := r.limited(o)
	for i, s := range series {
		if i > 0 {
			w.WriteByte('\n')
		}
		renderChart(w, s, start, end, r.Step, o)
	}
	w.WriteString(rest)
}

// span returns the time that charts show.
func (r *Result) span() (start, end time.Time) {
	if r.Step > 0 {
		return r.Start, r.End
	}
	for _, s := range r.Series {
		for _, p := range s.Points {
			if start.IsZero() || p.Time.Before(start) {
				start = p.Time
			}
			if p.Time.After(end) {
				end = p.Time
			}
		}
	}
	return start, end
}

// statistics of the finite values of a series.
type statistics struct {
	n              int
	low, high, sum float64
	last           float64
}

func (p Point) number() float64 {
	if p.Histogram != nil {
		return p.Histogram.Count
	}
	return p.Value
}

func statisticsOf(points []Point) statistics {
	st := statistics{low: math.Inf(1), high: math.Inf(-1), last: math.NaN()}
	for _, p := range points {
		v := p.number()
		st.last = v
		if math.IsNaN(v) || math.IsInf(v, 0) {
			continue
		}
		st.n++
		st.low, st.high = min(st.low, v), max(st.high, v)
		st.sum += v
	}
	return st
}

func renderChart(w *bytes.Buffer, s Series, start, end time.Time, step time.Duration, o Options) {
	st := statisticsOf(s.Points)
	fmt.Fprintln(w, truncate(s.name(), o.Width))
	if st.n == 0 {
		fmt.Fprintf(w, "no finite value in %d points\n", len(s.Points))
		return
	}
	fmt.Fprintln(w, truncate(fmt.Sprintf("min %s  avg %s  max %s  last %s  (%d points)",
		formatShort(st.low), formatShort(st.sum/float64(st.n)), formatShort(st.high), formatShort(st.last), len(s.Points)), o.Width))
	top, bottom := formatShort(st.high), formatShort(st.low)
	margin := max(len(top), len(bottom))
	c := canvas{width: o.Width - margin - 2, height: o.Height, low: st.low, high: st.high, start: start, end: end}
	lines := c.draw(s.Points, step)
	for i, line := range lines {
		label := ""
		switch {
		case st.high == st.low:
			if i == (len(lines)-1)/2 { // where a flat line lies
				label = top
			}
		case i == 0:
			label = top
		case i == len(lines)-1:
			label = bottom
		}
		fmt.Fprintf(w, "%s ┤%s\n", runewidth.FillLeft(label, margin), strings.TrimRight(line, " ⠀"))
	}
	writeTimeAxis(w, start.In(o.Location), end.In(o.Location), margin+2, c.width)
}

// writeTimeAxis prints start and end under the ends of a chart.
func writeTimeAxis(w *bytes.Buffer, start, end time.Time, indent, width int) {
	layout := time.TimeOnly
	if !sameDay(start, end) {
		layout = time.DateTime
	}
	left, right := start.Format(layout), end.Format(layout)
	gap := width - len(left) - len(right)
	if gap < 1 { // too narrow for both
		gap, right = 0, ""
	}
	fmt.Fprintf(w, "%s%s%s%s\n", strings.Repeat(" ", indent), left, strings.Repeat(" ", gap), right)
}

func sameDay(a, b time.Time) bool {
	return a.YearDay() == b.YearDay() && a.Year() == b.Year()
}

// canvas maps values and times to characters: in several lines braille dots,
// two across and four down in each; in one line blocks of rising height.
type canvas struct {
	width, height int
	low, high     float64
	start, end    time.Time
}

func (c *canvas) draw(points []Point, step time.Duration) []string {
	if c.height == 1 {
		return []string{c.blocks(points)}
	}
	return c.braille(points, step)
}

// x returns the column of t out of n.
func (c *canvas) x(t time.Time, n int) int {
	span := c.end.Sub(c.start)
	if span <= 0 {
		return 0
	}
	return min(max(int(math.Round(float64(t.Sub(c.start))/float64(span)*float64(n-1))), 0), n-1)
}

// y returns the row of v out of n, 0 at the bottom. A flat line lies in the
// middle.
func (c *canvas) y(v float64, n int) int {
	if c.high == c.low {
		return n / 2
	}
	// Halved first, as the difference of the extremes may overflow.
	part := (v/2 - c.low/2) / (c.high/2 - c.low/2)
	return min(max(int(math.Round(part*float64(n-1))), 0), n-1)
}

const blockRunes = " ▁▂▃▄▅▆▇█"

// blocks shows the highest value of each column.
func (c *canvas) blocks(points []Point) string {
	steps := []rune(blockRunes)
	levels := make([]int, c.width)
	for _, p := range points {
		if v := p.number(); !math.IsNaN(v) && !math.IsInf(v, 0) {
			x := c.x(p.Time, c.width)
			levels[x] = max(levels[x], 1+c.y(v, len(steps)-1))
		}
	}
	out := make([]rune, c.width)
	for i, l := range levels {
		out[i] = steps[l]
	}
	return string(out)
}

// braille draws a line through the points, broken where samples are missing.
func (c *canvas) braille(points []Point, step time.Duration) []string {
	columns, rows := 2*c.width, 4*c.height
	dots := make([][]bool, rows)
	for i := range dots {
		dots[i] = make([]bool, columns)
	}
	var before *Point
	for i := range points {
		p := &points[i]
		v := p.number()
		if math.IsNaN(v) || math.IsInf(v, 0) {
			before = nil
			continue
		}
		x, y := c.x(p.Time, columns), c.y(v, rows)
		if before == nil || step > 0 && p.Time.Sub(before.Time) > step+step/2 {
			dots[y][x] = true
		} else {
			line(dots, c.x(before.Time, columns), c.y(before.number(), rows), x, y)
		}
		before = p
	}
	out := make([]string, c.height)
	for r := range out {
		var b strings.Builder
		for x := 0; x < columns; x += 2 {
			b.WriteRune(cell(dots, x, rows-1-4*r))
		}
		out[r] = b.String()
	}
	return out
}

// cell returns the braille character whose upper left dot is at x, top.
func cell(dots [][]bool, x, top int) rune {
	// Bits of the dots from top to bottom, left column and right column.
	bits := [2][4]rune{{0x01, 0x02, 0x04, 0x40}, {0x08, 0x10, 0x20, 0x80}}
	r := rune(0x2800)
	for dx := range 2 {
		for dy := range 4 {
			if dots[top-dy][x+dx] {
				r |= bits[dx][dy]
			}
		}
	}
	return r
}

// line sets the dots from x0, y0 to x1, y1.
func line(dots [][]bool, x0, y0, x1, y1 int) {
	steps := max(abs(x1-x0), abs(y1-y0), 1)
	for i := range steps + 1 {
		x := x0 + int(math.Round(float64((x1-x0)*i)/float64(steps)))
		y := y0 + int(math.Round(float64((y1-y0)*i)/float64(steps)))
		dots[y][x] = true
	}
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}
