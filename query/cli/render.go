package cli

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"
)

// Format is how a result is printed.
type Format string

// The formats. FormatAuto is a chart for a range query and a table otherwise.
const (
	FormatAuto  Format = "auto"
	FormatTable Format = "table"
	FormatChart Format = "chart"
	FormatJSON  Format = "json"
	FormatCSV   Format = "csv"
)

// Options say how to print.
type Options struct {
	Format Format
	// Width is the terminal's in columns; at least 40 are used.
	Width int
	// Height is how many lines a chart gets; 1 draws a line of blocks.
	Height int
	// MaxSeries bounds the series that are printed in tables and charts; 0 is all.
	MaxSeries int
	// Location is the time zone to print in; UTC if nil.
	Location *time.Location
}

// DefaultOptions fit a terminal of 80 columns.
func DefaultOptions() Options {
	return Options{Format: FormatAuto, Width: 80, Height: 6, MaxSeries: 20, Location: time.UTC}
}

// Render prints r to w.
func Render(w io.Writer, r *Result, o Options) error {
	o.Width = max(o.Width, 40)
	o.Height = max(o.Height, 1)
	if o.Location == nil {
		o.Location = time.UTC
	}
	if o.Format == FormatAuto || o.Format == "" {
		o.Format = FormatTable
		if r.Step > 0 {
			o.Format = FormatChart
		}
	}
	var out bytes.Buffer
	switch o.Format {
	case FormatJSON:
		if err := json.Indent(&out, r.Raw, "", "  "); err != nil {
			return fmt.Errorf("print JSON: %w", err)
		}
		out.WriteByte('\n')
	case FormatCSV:
		if err := renderCSV(&out, r); err != nil {
			return err
		}
	case FormatTable:
		renderTable(&out, r, o)
	case FormatChart:
		renderCharts(&out, r, o)
	default:
		return fmt.Errorf("print result: format %q, want auto, table, chart, json or csv", o.Format)
	}
	_, err := w.Write(out.Bytes())
	return err
}

// RenderNotes prints what the server remarked on, one line each.
func RenderNotes(w io.Writer, r *Result) error {
	var out bytes.Buffer
	for _, s := range r.Warnings {
		fmt.Fprintln(&out, "warning:", clean(s))
	}
	for _, s := range r.Infos {
		fmt.Fprintln(&out, "info:", clean(s))
	}
	_, err := w.Write(out.Bytes())
	return err
}

// labelNames returns the names that any series has, sorted, the metric's first.
func (r *Result) labelNames() []string {
	set := make(map[string]struct{})
	for _, s := range r.Series {
		for name := range s.Labels {
			set[name] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(set)) // "__name__" sorts before other usual names
}

func renderCSV(w io.Writer, r *Result) error {
	c := csv.NewWriter(w)
	if r.Type == "string" {
		_ = c.Write([]string{"value"})
		_ = c.Write([]string{r.Text})
		c.Flush()
		return c.Error()
	}
	names := r.labelNames()
	_ = c.Write(append(slices.Clone(names), "timestamp", "value")) // errors stick until Error
	for _, s := range r.Series {
		for _, p := range s.Points {
			row := make([]string, 0, len(names)+2)
			for _, n := range names {
				row = append(row, s.Labels[n])
			}
			_ = c.Write(append(row, formatSeconds(p.Time), p.text()))
		}
	}
	c.Flush()
	return c.Error()
}

// text prints a point's value on one line.
func (p Point) text() string {
	if p.Histogram == nil {
		return formatValue(p.Value)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "{count:%s, sum:%s", formatValue(p.Histogram.Count), formatValue(p.Histogram.Sum))
	for _, k := range p.Histogram.Buckets {
		fmt.Fprintf(&b, ", %s:%s", k.bounds(), formatValue(k.Count))
	}
	return b.String() + "}"
}

func (b Bucket) bounds() string {
	open, end := "(", ")"
	if b.LowClosed {
		open = "["
	}
	if b.HighClosed {
		end = "]"
	}
	return open + formatShort(b.Low) + "," + formatShort(b.High) + end
}

// limited returns the series to print and a line about the rest.
func (r *Result) limited(o Options) ([]Series, string) {
	if o.MaxSeries <= 0 || len(r.Series) <= o.MaxSeries {
		return r.Series, ""
	}
	return r.Series[:o.MaxSeries], fmt.Sprintf("… and %d more series\n", len(r.Series)-o.MaxSeries)
}

// renderTable prints a row per point and a column per label whose value
// differs; labels that all series share are said once, above.
func renderTable(w *bytes.Buffer, r *Result, o Options) {
	switch {
	case r.Type == "string":
		fmt.Fprintln(w, clean(r.Text))
		return
	case len(r.Series) == 0:
		fmt.Fprintln(w, "no data")
		return
	}
	series, rest := r.limited(o)
	shared := sharedLabels(series)
	if len(shared.Labels) > 0 {
		fmt.Fprintln(w, truncate(shared.name(), o.Width))
	}
	var names, header []string
	for _, n := range r.labelNames() {
		if _, ok := shared.Labels[n]; !ok {
			names = append(names, n)
			header = append(header, strings.ToUpper(clean(strings.Trim(n, "_"))))
		}
	}
	times := r.Type == "matrix"
	if times {
		header = append(header, "TIME")
	}
	rows := [][]string{append(header, "VALUE")}
	for _, s := range series {
		for _, p := range s.Points {
			var row []string
			for _, n := range names {
				row = append(row, clean(s.Labels[n]))
			}
			if times {
				row = append(row, p.Time.In(o.Location).Format(time.DateTime))
			}
			row = append(row, p.summary())
			rows = append(rows, row)
		}
	}
	writeRows(w, rows, o.Width)
	for _, s := range series {
		for _, p := range s.Points {
			if p.Histogram != nil && len(series) <= 3 && len(s.Points) == 1 {
				fmt.Fprintf(w, "\n%s\n", truncate(s.name(), o.Width))
				renderBuckets(w, p.Histogram, o.Width)
			}
		}
	}
	w.WriteString(rest)
}

// summary is text, with buckets counted and not listed.
func (p Point) summary() string {
	if p.Histogram == nil {
		return formatValue(p.Value)
	}
	return fmt.Sprintf("count %s sum %s (%d buckets)",
		formatValue(p.Histogram.Count), formatValue(p.Histogram.Sum), len(p.Histogram.Buckets))
}

// sharedLabels returns the labels that every one of several series has.
func sharedLabels(series []Series) Series {
	if len(series) < 2 {
		return Series{}
	}
	shared := maps.Clone(series[0].Labels)
	for _, s := range series[1:] {
		maps.DeleteFunc(shared, func(name, value string) bool {
			got, ok := s.Labels[name]
			return !ok || got != value
		})
	}
	return Series{Labels: shared}
}

// writeRows aligns columns, the last one to the right. If they do not fit into
// width, the widest label columns give way.
func writeRows(w *bytes.Buffer, rows [][]string, width int) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], runewidth.StringWidth(cell))
		}
	}
	last := len(widths) - 1
	total := func() (n int) {
		for _, c := range widths {
			n += c + 2
		}
		return n - 2
	}
	const narrowest = 6
	for over := total() - width; over > 0; over = total() - width {
		widest := -1
		for i := range last {
			if widths[i] > narrowest && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
	}
	for _, row := range rows {
		for i, cell := range row {
			cell = truncateTo(cell, widths[i], i < last)
			if i == last {
				w.WriteString(runewidth.FillLeft(cell, widths[i]))
				break
			}
			w.WriteString(runewidth.FillRight(cell, widths[i]) + "  ")
		}
		w.WriteByte('\n')
	}
}

func truncateTo(s string, width int, may bool) string {
	if !may {
		return s
	}
	return truncate(s, width)
}

// truncate shortens s to width columns.
func truncate(s string, width int) string {
	if runewidth.StringWidth(s) <= width {
		return s
	}
	return runewidth.Truncate(s, width, "…")
}

// renderBuckets draws a bar per bucket.
func renderBuckets(w *bytes.Buffer, h *Histogram, width int) {
	most, left, right := 0.0, 0, 0
	for _, b := range h.Buckets {
		most = max(most, b.Count)
		left = max(left, len(b.bounds()))
		right = max(right, len(formatShort(b.Count)))
	}
	room := max(width-left-right-2, 1)
	for _, b := range h.Buckets {
		length := 0
		if most > 0 {
			length = int(b.Count / most * float64(room))
		}
		bar := strings.Repeat("█", min(max(length, 0), room))
		fmt.Fprintf(w, "%*s %s %s\n", left, b.bounds(), bar, formatShort(b.Count))
	}
}
