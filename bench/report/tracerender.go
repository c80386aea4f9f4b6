package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/vedette-io/vedette/bench/peer"
)

// givenFigures are of an earlier run on the same kind of machine and the same kind
// of spans, five million of them but for Jaeger with 300,000: peers that cannot
// be built from a released Go module.
type givenFigures struct {
	title      string
	perMillion float64 // CPU-s
	bytes      string  // per span
	peak       string
	kept       string // of acknowledged spans after kill -9
	latency    map[string]string
}

func given() []givenFigures {
	return []givenFigures{
		{"VictoriaTraces, July 2025*", 33.8, "78", "539 MB", "74%", map[string]string{
			askTrace: "27", askAbsent: "182", askOperation: "79", askUserOf: "39", askSlow: "192", askError: "78",
			askServices: "11", askNames: "3", askRate: "171", askP99: "3908", askWord: "16",
		}},
		{"Tempo 3.1-dev*", 58.2, "114", "6383 MB", "0%", map[string]string{
			askTrace: "115", askAbsent: "3.4", askOperation: "42", askUserOf: "234", askUser: "214", askSlow: "98", askError: "42",
			askServices: "9", askNames: "119", askRate: "406", askP99: "741", askWord: "660",
		}},
		{"Jaeger 2.20, badger*", 196, "1290", "2277 MB", "90%", map[string]string{
			askTrace: "1.7", askAbsent: "0.8", askOperation: "24", askUserOf: "1.7", askSlow: "35", askError: "23", askServices: "0.4", askNames: "0.7",
		}},
	}
}

// traceTargets are the rows of what must be reached that are about spans.
func traceTargets() []Target {
	figure := func(f func(*TracesResult) float64) func(*Report) (float64, bool) {
		return func(r *Report) (float64, bool) {
			if x := r.Traces.find(tracesMain, peer.Vedette); x != nil {
				return f(x), true
			}
			return 0, false
		}
	}
	ask := func(title string, limit, aim float64) Target {
		return Target{"spans: " + title, limit, aim, "ms", func(r *Report) (float64, bool) {
			x := r.Traces.find(tracesMain, peer.Vedette)
			if x == nil || x.latency(title) == nil || x.latency(title).Refused != "" {
				return 0, false
			}
			return x.latency(title).P50.Seconds() * 1e3, true
		}}
	}
	return []Target{
		{"spans: server CPU for a million, settled", 17, 12, "s", figure(func(x *TracesResult) float64 { return x.PerMillion().Seconds() })},
		{"spans: bytes on disk each, with indexes", 48, 42, "bytes", figure((*TracesResult).BytesPerSpan)},
		{"spans: peak memory", 540, 400, "MB", figure(func(x *TracesResult) float64 { return float64(x.Memory.Peak) / 1e6 })},
		{"spans: acknowledged ones lost or doubled by kill -9 under load", 0, 0, "samples", lostSpans},
		{"spans: answers that are not as what was sent", 0, 0, "samples", wrongAnswers},
		ask(askTrace, 3, 1), ask(askAbsent, 1, 0.5),
		ask(askOperation, 10, 5), ask(askError, 10, 5), ask(askSlow, 10, 5), ask(askUser, 10, 5), ask(askUserOf, 10, 5),
		ask(askServices, 1, 1), ask(askNames, 1, 1), ask(askRate, 40, 20), ask(askP99, 80, 40), ask(askWord, 15, 15),
	}
}

func lostSpans(r *Report) (float64, bool) {
	if r.Traces == nil || len(r.Traces.Crashes) == 0 {
		return 0, false
	}
	bad := int64(0)
	for _, c := range r.Traces.Crashes {
		bad += c.Lost() + c.Doubled()
	}
	return float64(bad), true
}

func wrongAnswers(r *Report) (float64, bool) {
	if r.Traces == nil {
		return 0, false
	}
	wrong, known := 0, false
	for _, x := range r.Traces.Results {
		if x.Peer == peer.Vedette {
			wrong, known = wrong+len(x.Wrong), true
		}
	}
	return float64(wrong), known
}

// traceRow is a line of a table of loads of spans.
type traceRow struct {
	title string
	cell  func(*TracesResult) string
	given func(givenFigures) string
}

func traceRows() []traceRow {
	mb := func(n int64) string { return fmt.Sprintf("%.0f MB", float64(n)/1e6) }
	none := func(givenFigures) string { return "–" }
	return []traceRow{
		{"server CPU-s per million spans, settled", func(x *TracesResult) string { return fmt.Sprintf("%.1f", x.PerMillion().Seconds()) },
			func(g givenFigures) string { return fmt.Sprint(g.perMillion) }},
		{"of which while the load ran", func(x *TracesResult) string {
			return fmt.Sprintf("%.1f", x.LoadCPU.Seconds()/float64(max(1, x.Spans))*1e6)
		}, none},
		{"spans a second while the load ran", func(x *TracesResult) string {
			return fmt.Sprintf("%.0fk", float64(x.Sent.Samples)/max(1e-9, x.Sent.Wall.Seconds())/1e3)
		}, none},
		{"bytes per span on disk, with indexes", func(x *TracesResult) string { return fmt.Sprintf("%.1f", x.BytesPerSpan()) }, func(g givenFigures) string { return g.bytes }},
		{"beside them: series made of the spans", func(x *TracesResult) string {
			if x.Beside.Bytes == 0 {
				return "–"
			}
			return fmt.Sprintf("%.1f MB", float64(x.Beside.Bytes)/1e6)
		}, none},
		{"buffer at the end", func(x *TracesResult) string {
			if x.Peer != peer.Vedette {
				return "–"
			}
			return mb(x.Log.Bytes)
		}, none},
		{"peak memory", func(x *TracesResult) string { return mb(x.Memory.Peak) }, func(g givenFigures) string { return g.peak }},
		{"peak memory, queries included", func(x *TracesResult) string { return mb(x.After.Peak) }, none},
		{"spans that a count did not find", func(x *TracesResult) string {
			if x.Found < 0 || x.Load == tracesNezha {
				return "–"
			}
			return fmt.Sprint(x.Spans - x.Found)
		}, none},
		{"answers that are not as what was sent", func(x *TracesResult) string { return fmt.Sprint(len(x.Wrong)) }, none},
		{"acknowledged spans kept by kill -9", func(*TracesResult) string { return "–" }, func(g givenFigures) string { return g.kept }},
	}
}

// writeTraces writes the section about spans.
func (r *Report) writeTraces(b *strings.Builder) {
	if r.Traces == nil || len(r.Traces.Results) == 0 {
		return
	}
	b.WriteString("\n## Traces\n")
	for _, load := range []struct {
		key   string
		given []givenFigures
	}{{tracesMain, given()}, {tracesPeers, nil}, {tracesGzip, nil}, {tracesNezha, nil}} {
		r.Traces.writeLoad(b, load.key, load.given)
	}
	if len(r.Traces.Crashes) > 0 {
		b.WriteString("\n**kill -9 under full load of spans**: four writers, some traces in two requests; every acknowledged span looked for by its trace's id, and all of them counted.\n\n")
		rows := [][]string{{"buffer", "rounds", "spans acknowledged", "lost", "doubled or altered", "ready, median / worst"}}
		for _, c := range r.Traces.Crashes {
			buffer := "own"
			if c.Buffer != "" {
				buffer = "Kafka"
			}
			rows = append(rows, []string{buffer, fmt.Sprint(len(c.Rounds)), fmt.Sprintf("%.2f million", float64(c.Acked())/1e6),
				fmt.Sprint(c.Lost()), fmt.Sprint(c.Doubled()), fmt.Sprintf("%.2f / %.2f s", c.ReadyMedian().Seconds(), c.ReadyWorst().Seconds())})
		}
		table(b, rows)
	}
}

// writeLoad writes the table of one load: figures, then latencies.
func (t *TracesReport) writeLoad(b *strings.Builder, key string, given []givenFigures) {
	var results []*TracesResult
	for i := range t.Results {
		if t.Results[i].Load == key {
			results = append(results, &t.Results[i])
		}
	}
	if len(results) == 0 {
		return
	}
	x := results[0]
	fmt.Fprintf(b, "\n### %s\n\n%d spans of %d traces, %.0f bytes of OTLP a span, %.0f on the wire, %.0f spans a request.", strings.ToUpper(x.Title[:1])+x.Title[1:], x.Spans, x.Traces,
		float64(x.Raw)/float64(max(1, x.Spans)), float64(x.Wire)/float64(max(1, x.Spans)), float64(x.Sent.Samples)/float64(max(1, x.Sent.Requests)))
	if len(given) > 0 {
		b.WriteString(" Columns with * are given, not of this run: measured before on the same kind of machine, with spans of the same shape that another generator made (395 bytes of OTLP each; Jaeger with 300,000 of them). Their values repeat less or more than these do, so that bytes and CPU can be compared only roughly.")
	}
	b.WriteString("\n\n")
	head := []string{""}
	for _, x := range results {
		head = append(head, x.Name)
	}
	for _, g := range given {
		head = append(head, g.title)
	}
	rows := [][]string{head}
	add := func(title string, cell func(*TracesResult) string, fromGiven func(givenFigures) string) {
		row, known := []string{title}, false
		for _, x := range results {
			row = append(row, cell(x))
		}
		for _, g := range given {
			row = append(row, fromGiven(g))
		}
		for _, c := range row[1:] {
			known = known || c != "–"
		}
		if known {
			rows = append(rows, row)
		}
	}
	for _, row := range traceRows() {
		add(row.title, row.cell, row.given)
	}
	for _, l := range x.Times {
		add(l.Title+", ms", func(x *TracesResult) string { return milliseconds(x.latency(l.Title)) }, func(g givenFigures) string {
			if text, ok := g.latency[l.Title]; ok {
				return text
			}
			return "–"
		})
	}
	table(b, rows)
	for _, x := range results {
		if x.Peer == peer.Vedette && x.Config != "" {
			fmt.Fprintf(b, "\nVedette with `%s`.\n", strings.TrimSpace(x.Config))
		}
		for _, text := range x.Wrong {
			fmt.Fprintf(b, "\nA wrong answer of %s: %s\n", x.Name, strings.ReplaceAll(text, "\n", " "))
		}
	}
}

// milliseconds is the median and the 95th percentile.
func milliseconds(l *Latency) string {
	switch {
	case l == nil:
		return "–"
	case l.Refused != "":
		return "refused"
	}
	ms := func(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()*1e3) }
	return ms(l.P50) + " / " + ms(l.P95)
}
