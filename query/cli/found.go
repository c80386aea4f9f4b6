package cli

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"
)

// RenderFound prints f to w.
func RenderFound(w io.Writer, f *Found, o SearchOptions) error {
	o.Width = max(o.Width, 40)
	o.ASCII = o.ASCII || AmbiguousIsWide()
	if o.Location == nil {
		o.Location = time.UTC
	}
	var out bytes.Buffer
	switch o.Format {
	case SearchAuto, SearchTable, "":
		renderFound(&out, f, o)
	case SearchIDs:
		for i := range f.Traces {
			fmt.Fprintln(&out, clean(f.Traces[i].ID))
		}
	case SearchJSON:
		return writeIndented(w, f.Raw)
	default:
		return fmt.Errorf("print traces: format %q, want auto, table, json or ids", o.Format)
	}
	_, err := w.Write(out.Bytes())
	return err
}

// remark says what a table does not: whether there may be more, and at will
// what it cost.
func (f *Found) remark(w io.Writer, o SearchOptions) error {
	var out bytes.Buffer
	if f.Cost.Done < f.Cost.Total {
		fmt.Fprintln(&out, "warning: the search ended early, at a limit of the server: there may be more traces")
	} else if len(f.Traces) >= f.Limit && f.Limit > 0 {
		fmt.Fprintf(&out, "info: these are the newest %d; --limit finds more\n", len(f.Traces))
	}
	if o.Verbose {
		number := func(n fmt.Stringer) string {
			if n.String() == "" {
				return "0"
			}
			return clean(n.String())
		}
		fmt.Fprintf(&out, "inspected: %d traces, %s spans, %s bytes\n", f.Cost.Traces, number(f.Cost.Spans), number(f.Cost.Bytes))
	}
	_, err := w.Write(out.Bytes())
	return err
}

// Columns of the table of traces. The last two give way if it is too wide.
const (
	columnDuration = 2
	columnSpans    = 3
	columnRoot     = 4
	columnErrors   = 5
)

func renderFound(out *bytes.Buffer, f *Found, o SearchOptions) {
	if len(f.Traces) == 0 {
		fmt.Fprintln(out, "no traces found")
		return
	}
	signs, pen := newSigns(o.ASCII), pen{o.Color}
	heading, stamp := startStamp(f.Traces, o.Location)
	table := [][]string{{"TRACE ID", heading, "DURATION", "SPANS", "ROOT", "ERRORS"}}
	for i := range f.Traces {
		t := &f.Traces[i]
		duration := "<1ms"
		if t.DurationMs > 0 {
			duration = formatNanos(min(t.DurationMs, 1<<43)*int64(time.Millisecond), o.ASCII)
		}
		table = append(table, []string{clean(t.ID), stamp(t.Start), duration, strconv.Itoa(t.matched()), t.root(signs), t.failing()})
	}
	widths := fitColumns(table, o.Width)
	for i, row := range table {
		of := inkNone
		if i == 0 {
			of = inkBold
		}
		var line strings.Builder
		for c, cell := range row {
			cell = truncate(cell, widths[c])
			pad := strings.Repeat(" ", widths[c]-runewidth.StringWidth(cell))
			ink := of
			if c == columnErrors && i > 0 {
				ink = inkError
			}
			switch {
			case c == columnErrors:
				line.WriteString(pen.paint(ink, cell))
			case c == columnDuration || c == columnSpans:
				line.WriteString(pad + pen.paint(ink, cell) + "  ")
			default:
				line.WriteString(pen.paint(ink, cell) + pad + "  ")
			}
		}
		fmt.Fprintln(out, strings.TrimRight(line.String(), " "))
		if i > 0 && o.Spans {
			renderMatches(out, &f.Traces[i-1], o)
		}
	}
}

// fitColumns returns the widths of a table's columns: root and errors give way
// if all would be wider than width.
func fitColumns(table [][]string, width int) []int {
	widths := make([]int, len(table[0]))
	for _, row := range table {
		for c, cell := range row {
			widths[c] = max(widths[c], runewidth.StringWidth(cell))
		}
	}
	total := 2 * (len(widths) - 1)
	for _, n := range widths {
		total += n
	}
	const narrowest = 4
	for over := total - width; over > 0; over-- {
		c := columnRoot
		if widths[columnErrors] > widths[columnRoot] {
			c = columnErrors
		}
		if widths[c] <= narrowest {
			break
		}
		widths[c]--
	}
	return widths
}

// startStamp returns the heading of the column of starts and how to print one:
// what all have in common of the date is in the heading.
func startStamp(traces []FoundTrace, loc *time.Location) (heading string, print func(int64) string) {
	at := func(nanos int64) time.Time { return time.Unix(0, nanos).In(loc) }
	first := at(traces[0].Start)
	heading, layout := first.Format(time.DateOnly), time.TimeOnly
	for i := range traces {
		t := at(traces[i].Start)
		switch {
		case t.Year() != first.Year():
			return "START", func(nanos int64) string { return at(nanos).Format("06-01-02 15:04:05") }
		case !sameDay(t, first):
			heading, layout = first.Format("2006"), "01-02 15:04:05"
		}
	}
	return heading, func(nanos int64) string { return at(nanos).Format(layout) }
}

func (t *FoundTrace) matched() (n int) {
	for i := range t.Spansets {
		n += t.Spansets[i].Matched
	}
	return n
}

func (t *FoundTrace) root(s signs) string {
	if t.RootName == "" {
		return clean(t.RootService) // says that it has not arrived
	}
	return serviceName(t.RootService) + " " + s.between + " " + clean(t.RootName)
}

// failing lists the services with errors, those with most first.
func (t *FoundTrace) failing() string {
	names := slices.SortedFunc(maps.Keys(t.Services), func(a, b string) int {
		if d := t.Services[b].Errors - t.Services[a].Errors; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	var items []string
	for _, n := range names {
		if errors := t.Services[n].Errors; errors > 0 {
			items = append(items, serviceName(n)+" "+strconv.Itoa(errors))
		}
	}
	return strings.Join(items, ", ")
}

// renderMatches prints the spans of a trace that match, and what they are
// grouped by.
func renderMatches(out *bytes.Buffer, t *FoundTrace, o SearchOptions) {
	line := func(indent int, text string) {
		fmt.Fprintln(out, strings.Repeat(" ", indent)+truncate(text, o.Width-indent))
	}
	for i := range t.Spansets {
		set := &t.Spansets[i]
		indent := 2
		if len(set.Attrs) > 0 {
			line(indent, pairs(set.Attrs)+": "+count(set.Matched, "span"))
			indent += 2
		}
		for j := range set.Spans {
			s := &set.Spans[j]
			text := fmt.Sprintf("%s  +%s  %s  %s", clean(s.ID), formatNanos(s.Start-t.Start, o.ASCII), formatNanos(s.Duration, o.ASCII), clean(s.Name))
			if len(s.Attrs) > 0 {
				text += "  " + pairs(s.Attrs)
			}
			line(indent, text)
		}
		if more := set.Matched - len(set.Spans); more > 0 {
			line(indent, "and "+count(more, "more span"))
		}
	}
}

func pairs(attrs []wireAttribute) string {
	list := make([]string, len(attrs))
	for i, a := range attrs {
		list[i] = clean(a.Key) + "=" + clean(string(a.Value))
	}
	return strings.Join(list, " ")
}
