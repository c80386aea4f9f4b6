package cli

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"
)

// Columns of a waterfall.
const (
	leastBar   = 10 // narrower ones are left out
	timesApart = 12 // columns between the times on the axis
)

// waterfall draws one trace.
type waterfall struct {
	*forest
	t     *Trace
	o     TraceOptions
	signs signs
	pen   pen
	inks  map[string]ink // of services
	out   *bytes.Buffer

	label, bar, took int // columns of each; bar is 0 if there is no room
	levels           int // of the tree that are indented
}

func renderWaterfall(out *bytes.Buffer, t *Trace, o TraceOptions) {
	o.Width = max(o.Width, 40)
	o.ASCII = o.ASCII || AmbiguousIsWide()
	if o.Location == nil {
		o.Location = time.UTC
	}
	if len(t.Spans) == 0 {
		fmt.Fprintln(out, "no spans")
		return
	}
	w := &waterfall{forest: newForest(t.Spans), t: t, o: o, signs: newSigns(o.ASCII), pen: pen{o.Color}, inks: map[string]ink{}, out: out}
	fold := !o.Full && len(t.Spans) > foldOver
	rows, rest := w.rows(fold), row{}
	if fold {
		rows, rest = w.cut(rows, maxRows)
	}
	w.header()
	w.measure(rows)
	w.axis()
	for i := range rows {
		w.row(&rows[i])
	}
	if rest.hidden > 0 {
		w.line(inkDim, "", w.hidden(&rest)+"; --full shows everything")
	}
	if o.Attrs {
		w.resources()
	}
}

// line ends a line of text that is painted in one ink and cut at the width.
func (w *waterfall) line(i ink, prefix, text string) {
	if !w.o.Full {
		text = truncate(text, w.o.Width-runewidth.StringWidth(prefix))
	}
	w.out.WriteString(strings.TrimRight(w.pen.paint(inkDim, prefix)+w.pen.paint(i, text), " "))
	w.out.WriteByte('\n')
}

func (w *waterfall) header() {
	root, arrived := w.root()
	w.line(inkBold, "", "Trace "+clean(w.t.ID))
	title := w.title(&w.spans[root])
	if !arrived {
		title += " (the root has not arrived)"
	}
	w.line(inkNone, "", title)

	type tally struct{ spans, errors int }
	services := map[string]*tally{}
	var names []string
	errors := 0
	for _, i := range w.startOrder() {
		s := &w.spans[i]
		n := services[s.Service]
		if n == nil {
			n = &tally{}
			services[s.Service] = n
			inks := serviceInks()
			w.inks[s.Service] = inks[len(names)%len(inks)]
			names = append(names, s.Service)
		}
		n.spans++
		if s.Error {
			n.errors++
			errors++
		}
	}
	w.line(inkNone, "", fmt.Sprintf("%s  %s  %s  %s  %s", w.stamp(w.start), w.time(w.end-w.start),
		count(len(w.spans), "span"), count(len(services), "service"), count(errors, "error")))

	var items []string
	for _, name := range names {
		item := serviceName(name) + " " + strconv.Itoa(services[name].spans)
		if n := services[name].errors; n > 0 {
			item += " (" + count(n, "error") + ")"
		}
		items = append(items, item)
	}
	for _, line := range wrap(items, w.o.Width) {
		w.line(inkNone, "", line)
	}
	w.out.WriteByte('\n')
}

// startOrder returns all spans by start.
func (w *waterfall) startOrder() []int32 {
	all := make([]int32, len(w.spans))
	for i := range all {
		all[i] = int32(i)
	}
	slices.SortFunc(all, w.byStart)
	return all
}

// wrap joins items in lines that are not wider than width, unless an item is.
func wrap(items []string, width int) []string {
	var lines []string
	at := 0
	for i, item := range items {
		if i < len(items)-1 {
			item += ","
		}
		n := runewidth.StringWidth(item)
		if len(lines) > 0 && at+1+n <= width {
			lines[len(lines)-1] += " " + item
			at += 1 + n
			continue
		}
		lines = append(lines, item)
		at = n
	}
	return lines
}

func serviceName(s string) string {
	if s == "" {
		return "(no service)"
	}
	return clean(s)
}

func (w *waterfall) title(s *Span) string {
	name := clean(s.Name)
	if name == "" {
		name = "(no name)"
	}
	return serviceName(s.Service) + " " + w.signs.between + " " + name
}

func (w *waterfall) time(nanos int64) string { return formatNanos(nanos, w.o.ASCII) }

func (w *waterfall) stamp(nanos int64) string {
	return time.Unix(0, nanos).In(w.o.Location).Format("2006-01-02 15:04:05.000 MST")
}

// measure divides the width.
func (w *waterfall) measure(rows []row) {
	w.levels = min(w.o.Width/8, 60)
	for i := range rows {
		r := &rows[i]
		w.took = max(w.took, runewidth.StringWidth(w.duration(r)))
		w.label = max(w.label, runewidth.StringWidth(w.indent(r, true))+runewidth.StringWidth(w.caption(r)))
	}
	w.label = min(w.label, w.o.Width*45/100)
	w.bar = w.o.Width - w.label - w.took - 2
	if w.bar < leastBar {
		w.bar, w.label = 0, w.o.Width-w.took-1
	}
}

// indent returns what is before a row's caption, or before its notes.
func (w *waterfall) indent(r *row, caption bool) string {
	var b strings.Builder
	if r.depth > w.levels {
		if !caption {
			return strings.Repeat(" ", len(strconv.Itoa(r.depth))+2)
		}
		return w.signs.deep + strconv.Itoa(r.depth) + " "
	}
	for level := 1; level <= r.depth; level++ {
		on := r.more&(1<<level) != 0
		switch {
		case level == r.depth && caption && on:
			b.WriteString(w.signs.branch)
		case level == r.depth && caption:
			b.WriteString(w.signs.last)
		case on:
			b.WriteString(w.signs.line)
		default:
			b.WriteString(w.signs.nothing)
		}
	}
	if !caption && r.parent && r.depth < w.levels {
		b.WriteString(w.signs.line)
	} else if !caption {
		b.WriteString(w.signs.nothing)
	}
	return b.String()
}

// caption names a row: whether it failed, how many spans it is, service,
// operation and kind.
func (w *waterfall) caption(r *row) string {
	s := &w.spans[r.spans[0]]
	var b strings.Builder
	if s.Error {
		b.WriteString(w.signs.fault + " ")
	}
	if n := len(r.spans); n > 1 {
		fmt.Fprintf(&b, "%d %s ", n, w.signs.times)
	}
	b.WriteString(w.title(s))
	if kind := s.Kind.label(); kind != "" {
		b.WriteString(" [" + kind + "]")
	}
	return b.String()
}

// duration of a row's span, or the average of several.
func (w *waterfall) duration(r *row) string {
	if len(r.spans) == 1 {
		s := &w.spans[r.spans[0]]
		return w.time(s.End - s.Start)
	}
	_, average, _ := w.durations(r)
	return "~" + w.time(average)
}

func (w *waterfall) durations(r *row) (least, average, most int64) {
	least, most = math.MaxInt64, math.MinInt64
	sum := 0.0
	for _, i := range r.spans {
		d := w.spans[i].End - w.spans[i].Start
		least, most = min(least, d), max(most, d)
		sum += float64(d)
	}
	return least, int64(sum / float64(len(r.spans))), most
}

// axis prints times above the bars.
func (w *waterfall) axis() {
	if w.bar == 0 {
		return
	}
	total := w.end - w.start
	last := w.time(total)
	line := make([]rune, w.bar)
	for i := range line {
		line[i] = ' '
	}
	put := func(at int, text string) {
		copy(line[min(max(at, 0), len(line)):], []rune(text))
	}
	put(0, "0")
	parts := min(4, w.bar/timesApart)
	for i := 1; i < parts; i++ {
		put(w.bar*i/parts, w.time(int64(float64(total)*float64(i)/float64(parts))))
	}
	put(w.bar-len([]rune(last)), last)
	w.line(inkDim, "", strings.Repeat(" ", w.label+1)+string(line))
}

// row prints a span or folded spans, with what there is to say of them.
func (w *waterfall) row(r *row) {
	s := &w.spans[r.spans[0]]
	indent := w.indent(r, true)
	room := max(w.label-runewidth.StringWidth(indent), 0)
	caption := truncate(w.caption(r), room)
	pad := strings.Repeat(" ", max(room-runewidth.StringWidth(caption), 0))
	of := inkNone
	if s.Error {
		of = inkError
	}
	w.out.WriteString(w.pen.paint(inkDim, indent) + w.pen.paint(of, caption) + pad + " ")
	if w.bar > 0 {
		before, bar, after := w.draw(r)
		if !s.Error {
			of = w.inks[s.Service]
		}
		w.out.WriteString(before + w.pen.paint(of, bar) + after + " ")
	}
	w.out.WriteString(runewidth.FillLeft(w.duration(r), w.took))
	w.out.WriteByte('\n')
	if len(r.spans) > 1 {
		w.notesOfMany(r)
	} else {
		w.notes(r)
	}
	if r.hidden > 0 {
		w.line(inkDim, w.indent(r, false), w.hidden(r)+" below")
	}
}

// draw returns the bar of a row and the space on both sides: in half columns,
// at least one of them, or in columns for folded spans.
func (w *waterfall) draw(r *row) (before, bar, after string) {
	halves := make([]bool, 2*w.bar)
	low, high := len(halves), 0
	for _, i := range r.spans {
		from, to := w.extent(&w.spans[i])
		for h := from; h < to; h++ {
			halves[h] = true
		}
		low, high = min(low, from), max(high, to)
	}
	low, high = low/2, (high+1)/2
	var b strings.Builder
	for c := low; c < high; c++ {
		left, right := halves[2*c], halves[2*c+1]
		switch {
		case !left && !right:
			b.WriteByte(' ')
		case len(r.spans) > 1:
			b.WriteString(w.signs.folded)
		case left && right:
			b.WriteString(w.signs.full)
		case left:
			b.WriteString(w.signs.left)
		default:
			b.WriteString(w.signs.right)
		}
	}
	return strings.Repeat(" ", low), b.String(), strings.Repeat(" ", w.bar-high)
}

// extent returns the half columns of a span, one or more.
func (w *waterfall) extent(s *Span) (from, to int) {
	n := 2 * w.bar
	total := float64(w.end - w.start)
	if total <= 0 {
		return 0, 1
	}
	at := func(nanos int64) float64 { return float64(nanos-w.start) / total * float64(n) }
	from = min(max(int(at(s.Start)), 0), n-1)
	to = min(max(int(math.Ceil(at(s.End))), from+1), n)
	return from, to
}

// hidden says what has been left out.
func (w *waterfall) hidden(r *row) string {
	text := "and " + count(r.hidden, "more span")
	if r.hiddenErrors > 0 {
		text += " with " + count(r.hiddenErrors, "error")
	}
	return text
}

// resources prints what the spans were made by.
func (w *waterfall) resources() {
	w.out.WriteByte('\n')
	for i := range w.t.Resources {
		r := &w.t.Resources[i]
		w.line(inkBold, "", serviceName(r.Service))
		for _, a := range r.Attrs {
			if a.Key != "service.name" {
				w.attribute("  ", a)
			}
		}
	}
}
