package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mattn/go-runewidth"
)

// markPrefix is of attributes that Vedette adds to spans that it had to cut or
// whose clock is off.
const markPrefix = "vedette."

// marks says what is odd about a span: where it lies, and what was done to it.
func (w *waterfall) marks(i int32) []string {
	s := &w.spans[i]
	var marks []string
	clockMarked := false
	for _, a := range s.Attrs {
		if strings.HasPrefix(a.Key, markPrefix) {
			marks = append(marks, a.Key+": "+a.Value)
			clockMarked = clockMarked || a.Key == "vedette.clock_skew"
		}
	}
	if s.End < s.Start && !clockMarked {
		marks = append(marks, "ends "+w.time(s.Start-s.End)+" before it starts")
	}
	switch {
	case w.circle[i]:
		marks = append(marks, "its parents form a circle")
	case w.parent[i] == noSpan && s.Parent != SpanID{}:
		marks = append(marks, "parent "+s.Parent.String()+" is missing")
	}
	if m := w.skew(i); m != "" {
		marks = append(marks, m)
	}
	if s.Dropped != "" {
		marks = append(marks, "the sender dropped "+s.Dropped)
	}
	return marks
}

// skew says how a span lies outside of its parent. What a message sets off may
// end, and begin, after the sender has.
func (w *waterfall) skew(i int32) string {
	if w.parent[i] == noSpan {
		return ""
	}
	s, p := &w.spans[i], &w.spans[w.parent[i]]
	later := s.Kind == kindConsumer || p.Kind == kindProducer
	switch {
	case p.End < p.Start || s.End < s.Start:
		return ""
	case s.Start < p.Start && s.End > p.End && !later:
		return "starts " + w.time(p.Start-s.Start) + " before and ends " + w.time(s.End-p.End) + " after its parent"
	case s.Start < p.Start:
		return "starts " + w.time(p.Start-s.Start) + " before its parent"
	case later:
		return ""
	case s.Start > p.End:
		return "starts " + w.time(s.Start-p.End) + " after its parent's end"
	case s.End > p.End:
		return "ends " + w.time(s.End-p.End) + " after its parent"
	}
	return ""
}

// notes prints what there is to say of a span below its row.
func (w *waterfall) notes(r *row) {
	i := r.spans[0]
	s := &w.spans[i]
	prefix := w.indent(r, false)
	if s.Message != "" {
		w.text(inkError, prefix, w.signs.fault+" ", s.Message)
	}
	for _, m := range w.marks(i) {
		w.line(inkNone, prefix+"! ", clean(m))
	}
	if w.o.Attrs {
		for _, a := range s.Attrs {
			if !strings.HasPrefix(a.Key, markPrefix) {
				w.attribute(prefix, a)
			}
		}
	}
	if w.o.Events {
		w.events(prefix, s)
	}
}

// notesOfMany prints what there is to say of folded spans.
func (w *waterfall) notesOfMany(r *row) {
	prefix := w.indent(r, false)
	least, average, most := w.durations(r)
	w.line(inkDim, prefix, fmt.Sprintf("min %s  avg %s  max %s", w.time(least), w.time(average), w.time(most)))
	var missing, circle, outside, marked int
	messages := map[string]int{}
	for _, i := range r.spans {
		s := &w.spans[i]
		switch {
		case w.circle[i]:
			circle++
		case w.parent[i] == noSpan && s.Parent != SpanID{}:
			missing++
		case w.skew(i) != "":
			outside++
		}
		if slices.ContainsFunc(s.Attrs, func(a Attribute) bool { return strings.HasPrefix(a.Key, markPrefix) }) {
			marked++
		}
		if s.Message != "" {
			messages[s.Message]++
		}
	}
	for _, m := range mostOften(messages, 3) {
		w.text(inkError, prefix, w.signs.fault+" ", fmt.Sprintf("%d %s %s", messages[m], w.signs.times, m))
	}
	for _, m := range []struct {
		n    int
		what string
	}{
		{missing, "with a parent that is missing"}, {circle, "with parents that form a circle"},
		{outside, "outside of their parents"}, {marked, "marked by " + markPrefix + "* attributes"},
	} {
		if m.n > 0 {
			w.line(inkNone, prefix+"! ", fmt.Sprintf("%d %s", m.n, m.what))
		}
	}
}

// mostOften returns the texts that were counted most, at most so many.
func mostOften(counts map[string]int, most int) []string {
	var texts []string
	for t := range counts {
		texts = append(texts, t)
	}
	slices.SortFunc(texts, func(a, b string) int {
		if d := counts[b] - counts[a]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return texts[:min(len(texts), most)]
}

// events prints events and links of a span.
func (w *waterfall) events(prefix string, s *Span) {
	for _, e := range s.Events {
		of := inkNone
		if e.Name == "exception" {
			of = inkError
		}
		at := "+" + w.time(e.Time-s.Start)
		if e.Time < s.Start {
			at = w.time(e.Time - s.Start)
		}
		w.line(of, prefix+w.signs.event+" ", at+" "+clean(e.Name))
		for _, a := range e.Attrs {
			w.attribute(prefix+"  ", a)
		}
	}
	for _, l := range s.Links {
		w.line(inkNone, prefix+w.signs.event+" ", "link to trace "+l.TraceID+", span "+l.SpanID)
		for _, a := range l.Attrs {
			w.attribute(prefix+"  ", a)
		}
	}
}

// attribute prints an attribute; one of several lines, as a stack trace, below
// its name.
func (w *waterfall) attribute(prefix string, a Attribute) {
	value := strings.TrimRight(a.Value, "\r\n")
	if !strings.Contains(value, "\n") {
		w.line(inkDim, prefix, clean(a.Key)+" = "+clean(strings.ReplaceAll(value, "\t", " ")))
		return
	}
	w.line(inkDim, prefix, clean(a.Key)+" =")
	w.text(inkDim, prefix+"  ", "", value)
}

// text prints all lines of s after prefix, the first after sign as well.
func (w *waterfall) text(i ink, prefix, sign, s string) {
	for _, line := range strings.Split(cleanLines(strings.TrimRight(s, "\r\n")), "\n") {
		w.line(i, prefix+sign, line)
		sign = strings.Repeat(" ", runewidth.StringWidth(sign))
	}
}
