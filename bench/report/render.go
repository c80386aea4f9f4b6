package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/vedette-io/vedette/bench/crash"
	"github.com/vedette-io/vedette/bench/peer"
)

// Report is everything one run of the benchmark measured; it is what the raw
// JSON holds.
type Report struct {
	Date    time.Time     `json:"date"`
	Command string        `json:"command"`
	Machine Machine       `json:"machine"`
	Results []Result      `json:"results"`
	OTLP    []OTLPResult  `json:"otlp,omitempty"`
	Kafka   *KafkaReport  `json:"kafka,omitempty"`
	Crash   *crash.Report `json:"crash,omitempty"`
	Traces  *TracesReport `json:"traces,omitempty"`
	Agent   *AgentReport  `json:"agent,omitempty"`

	// Origins tells by section where it comes from, if not from this run.
	Origins map[string]Origin `json:"origins,omitempty"`
}

// find returns a peer's result in a scenario, nil if it was not run.
func (r *Report) find(key, name string) *Result {
	for i := range r.Results {
		if r.Results[i].Scenario.Key == key && r.Results[i].Peer == name {
			return &r.Results[i]
		}
	}
	return nil
}

// Target is a row of what must be reached.
type Target struct {
	Title      string
	Limit, Aim float64
	Unit       string // of an absolute row; a ratio has none
	// Value computes the row; ok is false when the run lacks what it needs.
	Value func(r *Report) (value float64, ok bool)
}

// ratio divides a figure of Vedette by another server's in the same scenario.
func ratio(key, other string, figure func(Result) float64) func(*Report) (float64, bool) {
	return func(r *Report) (float64, bool) {
		a, b := r.find(key, peer.Vedette), r.find(key, other)
		if a == nil || b == nil || figure(*b) <= 0 {
			return 0, false
		}
		return figure(*a) / figure(*b), true
	}
}

// Targets are the rows of the table, in order.
func Targets() []Target {
	steady := func(r Result) float64 { return float64(r.SteadyPerMillion()) }
	create := func(r Result) float64 { return float64(r.PerCreatedSeries()) }
	bytes := func(r Result) float64 { return r.BytesPerSample() }
	single := func(l KafkaLoad) (kafka, own Result) { return l.Single, l.Embedded }
	divided := func(l KafkaLoad) (kafka, own Result) { return l.Kafka, l.Divided }
	peak := func(r Result) float64 { return float64(r.Memory.Peak) }
	return append([]Target{
		{"VictoriaMetrics: CPU per steady sample, scenario A", 0.5, 0.35, "", ratio(Wide, peer.VictoriaMetrics, steady)},
		{"VictoriaMetrics: CPU per steady sample, scenario B", 0.5, 0.35, "", ratio(Long, peer.VictoriaMetrics, steady)},
		{"Prometheus: CPU to create a series, scenario A", 0.7, 0.5, "", ratio(Wide, peer.Prometheus, create)},
		{"VictoriaMetrics: bytes per sample with index, scenario B (960 samples a series)", 0.65, 0.5, "", ratio(Long, peer.VictoriaMetrics, bytes)},
		{"VictoriaMetrics: bytes per sample with index, scenario A (30 samples a series)", 0.65, 0.5, "", ratio(Wide, peer.VictoriaMetrics, bytes)},
		{"VictoriaMetrics: bytes per sample with index, scenario C (churning)", 0.65, 0.5, "", ratio(Churn, peer.VictoriaMetrics, bytes)},
		{"VictoriaMetrics: peak memory, scenario A", 1.0, 0.7, "", ratio(Wide, peer.VictoriaMetrics, peak)},
		{"Prometheus: CPU per OTLP data point, Collector, gzip", 0.5, 0.35, "", perPoint("Collector" + otlpGzip)},
		{"Prometheus: CPU per OTLP data point, Collector, not compressed", 0.5, 0.35, "", perPoint("Collector" + otlpPlain)},
		{"Prometheus: CPU per OTLP data point, SDK, gzip", 0.5, 0.35, "", perPoint("SDK" + otlpGzip)},
		{"Prometheus: CPU per OTLP data point, SDK, not compressed", 0.5, 0.35, "", perPoint("SDK" + otlpPlain)},
		{"the embedded buffer: CPU per steady sample with Kafka, broker apart, one partition each, load A", 1.2, 1, "", onKafka(Wide, single)},
		{"the embedded buffer: CPU per steady sample with Kafka, broker apart, one partition each, load B", 1.2, 1, "", onKafka(Long, single)},
		{"the embedded buffer: CPU per steady sample with Kafka, broker apart, four partitions each, load A", 1.2, 1, "", onKafka(Wide, divided)},
		{"the embedded buffer: CPU per steady sample with Kafka, broker apart, four partitions each, load B", 1.2, 1, "", onKafka(Long, divided)},
		{"ready after kill -9, scenario A", 2, 1, "s", readySeconds},
		{"acknowledged samples lost by kill -9 under full load", 0, 0, "samples", lostSamples},
		{"acknowledged samples lost by kill -9 with Kafka", 0, 0, "samples", lostOnKafka},
	}, append(traceTargets(), agentTargets()...)...)
}

func readySeconds(r *Report) (float64, bool) {
	a := r.find(Wide, peer.Vedette)
	if a == nil || a.Restart == nil {
		return 0, false
	}
	return a.Restart.Answers.Seconds(), true
}

func lostSamples(r *Report) (float64, bool) {
	lost, known := 0.0, false
	if r.Crash != nil && r.Crash.Peer == peer.Vedette {
		lost, known = float64(r.Crash.Lost()+r.Crash.Doubled()), true
	}
	if a := r.find(Wide, peer.Vedette); a != nil && a.Restart != nil {
		lost += float64(a.Restart.Lost)
	}
	return lost, known
}

// perPoint divides what a data point costs Vedette by what it costs Prometheus.
func perPoint(phase string) func(*Report) (float64, bool) {
	return func(r *Report) (float64, bool) {
		a, b := r.otlpPhase(peer.Vedette, phase), r.otlpPhase(peer.Prometheus, phase)
		if a == nil || b == nil || b.CPU <= 0 {
			return 0, false
		}
		return float64(a.PerPoint()) / float64(b.PerPoint()), true
	}
}

// onKafka divides what a steady sample costs with Kafka by what it costs with
// the embedded buffer with as many partitions.
func onKafka(key string, pair func(KafkaLoad) (kafka, own Result)) func(*Report) (float64, bool) {
	return func(r *Report) (float64, bool) {
		if r.Kafka == nil {
			return 0, false
		}
		for _, l := range r.Kafka.Loads {
			if kafka, own := pair(l); kafka.Scenario.Key == key && own.SteadyCPU > 0 {
				return float64(kafka.SteadyPerMillion()) / float64(own.SteadyPerMillion()), true
			}
		}
		return 0, false
	}
}

func lostOnKafka(r *Report) (float64, bool) {
	if r.Kafka == nil || len(r.Kafka.Crashes) == 0 {
		return 0, false
	}
	lost := 0.0
	for _, c := range r.Kafka.Crashes {
		lost += float64(c.Lost() + c.Doubled())
	}
	return lost, true
}

// verdict says where a value stands.
func (t Target) verdict(v float64) string {
	switch {
	case v <= t.Aim:
		return "aim reached"
	case v <= t.Limit:
		return "within the limit"
	}
	return "**falls short**"
}

// Markdown renders the report as the page docs/benchmarks.md.
func (r *Report) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Benchmarks\n\n")
	r.writeOrigins(&b)
	fmt.Fprintf(&b, "| | |\n|---|---|\n| CPU | %s, %d cores |\n| Memory | %s |\n| Kernel | Linux %s |\n| Go | %s |\n", r.Machine.CPU, r.Machine.Cores, r.Machine.Memory, r.Machine.Kernel, r.Machine.Go)
	for _, v := range r.versions() {
		fmt.Fprintf(&b, "| %s | %s |\n", v[0], v[1])
	}
	r.writeTargets(&b)
	r.writeFigures(&b)
	r.writeLatencies(&b)
	r.writeOTLP(&b)
	r.writeKafka(&b)
	r.writeCrash(&b)
	r.writeTraces(&b)
	r.writeAgent(&b)
	b.WriteString(method)
	return b.String()
}

func (r *Report) scenarios() []Scenario {
	var out []Scenario
	seen := map[string]bool{}
	for _, x := range r.Results {
		if !seen[x.Scenario.Key] {
			seen[x.Scenario.Key] = true
			out = append(out, x.Scenario)
		}
	}
	return out
}

func (r *Report) writeTargets(b *strings.Builder) {
	b.WriteString("\n## What must be reached\n\nVedette's figure divided by the named server's, both of one run, on the same bytes; Vedette with its fsyncing buffer.\n\n")
	b.WriteString("| ratio to | measured | at most | aim | |\n|---|---|---|---|---|\n")
	for _, t := range Targets() {
		value, verdict := "not measured", ""
		if v, ok := t.Value(r); ok {
			value, verdict = strings.TrimSpace(fmt.Sprintf("%.2f %s", v, t.Unit)), t.verdict(v)
			if t.Unit == "samples" {
				value = fmt.Sprintf("%.0f", v)
			}
		}
		fmt.Fprintf(b, "| %s | %s | %v | %v | %s |\n", t.Title, value, t.Limit, t.Aim, verdict)
	}
}

// row is one line of a scenario's table.
type row struct {
	title string
	cell  func(Result) string
}

func figureRows() []row {
	mib := func(n int64) string { return fmt.Sprintf("%.0f MB", float64(n)/1e6) }
	return []row{
		{"CPU-s per million samples, all", func(r Result) string { return fmt.Sprintf("%.2f", r.TotalPerMillion().Seconds()) }},
		{"CPU-s per million samples, steady", func(r Result) string { return fmt.Sprintf("%.2f", r.SteadyPerMillion().Seconds()) }},
		{"CPU to create a series", func(r Result) string { return fmt.Sprintf("%.1f µs", float64(r.PerCreatedSeries())/1e3) }},
		{"store, bytes per sample with index", func(r Result) string { return fmt.Sprintf("%.2f", r.BytesPerSample()) }},
		{"store", func(r Result) string { return mib(r.Store.Bytes) }},
		{"write-ahead log or buffer beside it", func(r Result) string { return mib(r.Log.Bytes) }},
		{"peak memory", func(r Result) string { return mib(r.Memory.Peak) }},
		{"samples a second while the load ran", func(r Result) string {
			return fmt.Sprintf("%.0fk", float64(r.Steady.Samples)/max(1e-9, r.Steady.Wall.Seconds())/1e3)
		}},
		{"acknowledged samples that a count did not find", func(r Result) string {
			if r.FoundCount < 0 {
				return "–"
			}
			return fmt.Sprint(r.Samples - r.FoundCount)
		}},
		{"answering again after kill -9", func(r Result) string {
			if r.Restart == nil {
				return "–"
			}
			return fmt.Sprintf("%.2f s", r.Restart.Answers.Seconds())
		}},
		{"acknowledged samples lost by that kill", func(r Result) string {
			if r.Restart == nil {
				return "–"
			}
			return fmt.Sprint(r.Restart.Lost)
		}},
	}
}

func (r *Report) writeFigures(b *strings.Builder) {
	for _, s := range r.scenarios() {
		fmt.Fprintf(b, "\n## Scenario %s: %s\n\n", s.Key, s.Title)
		var results []Result
		for _, x := range r.Results {
			if x.Scenario.Key == s.Key {
				results = append(results, x)
			}
		}
		first := results[0]
		fmt.Fprintf(b, "%d series, %.1f million samples, %.1f bytes a sample on the wire.\n\n|", first.AllSeries, float64(first.Samples)/1e6, float64(first.WireBytes)/float64(max(1, first.Samples)))
		for _, x := range results {
			fmt.Fprintf(b, " | %s", x.Title)
		}
		b.WriteString(" |\n|" + strings.Repeat("---|", len(results)+1) + "\n")
		for _, row := range figureRows() {
			cells, any := "", false
			for _, x := range results {
				cell := row.cell(x)
				any = any || cell != "–"
				cells += " | " + cell
			}
			if any {
				fmt.Fprintf(b, "| %s%s |\n", row.title, cells)
			}
		}
	}
}

func (r *Report) writeLatencies(b *strings.Builder) {
	var with []Result
	for _, x := range r.Results {
		if len(x.Queries) > 0 {
			with = append(with, x)
		}
	}
	if len(with) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## Queries over scenario %s\n\nMedian / 95th percentile in milliseconds, after one warm-up, caches of results bypassed.\n\n|", with[0].Scenario.Key)
	for _, x := range with {
		fmt.Fprintf(b, " | %s", x.Title)
	}
	b.WriteString(" |\n|" + strings.Repeat("---|", len(with)+1) + "\n")
	var refusals []string
	for i, q := range with[0].Queries {
		fmt.Fprintf(b, "| %s", strings.ReplaceAll(q.Title, "|", `\|`))
		for _, x := range with {
			switch {
			case i >= len(x.Queries):
				b.WriteString(" | –")
			case x.Queries[i].Refused != "":
				b.WriteString(" | refused")
				refusals = append(refusals, fmt.Sprintf("%s refuses %s: `%s`", x.Title, strings.SplitN(q.Title, ",", 2)[0], x.Queries[i].Refused))
			default:
				fmt.Fprintf(b, " | %.1f / %.1f", float64(x.Queries[i].P50)/1e6, float64(x.Queries[i].P95)/1e6)
			}
		}
		b.WriteString(" |\n")
	}
	for _, text := range refusals {
		fmt.Fprintf(b, "\n%s\n", text)
	}
}

func (r *Report) writeCrash(b *strings.Builder) {
	if r.Crash == nil {
		return
	}
	c := r.Crash
	fmt.Fprintf(b, "\n## kill -9 under full load\n\n%d rounds on one data directory: four writers at full speed, SIGKILL at a random moment, restart, every acknowledged sample read back and compared. ", len(c.Rounds))
	fmt.Fprintf(b, "%.1f million samples acknowledged; **%d lost, %d doubled or altered**; ready again after %.2f s at the median, %.2f s at worst. Seed %d.\n",
		float64(c.Acked())/1e6, c.Lost(), c.Doubled(), c.ReadyMedian().Seconds(), c.ReadyWorst().Seconds(), c.Seed)
}

// method explains the figures; it is the same for every run.
const method = `
## How it is measured

- **Load**: targets of 534 series each that continue 38 recorded scrapes of node_exporter 1.5.0 (constants stay; counters take the recorded
  increments in a random order; gauges walk by recorded steps within the recorded range; durations are recorded values times fresh noise; all
  keep their recorded decimals), a latency histogram of 20 buckets, and the series a scraper adds. Remote write 1.0, at most 5,000 samples a
  request, snappy, 4 connections, all targets' scrape *k* before any target's scrape *k*+1, as fast as the server acknowledges. The bodies are
  written to a file first and every server gets the same bytes. The last sample's time is the moment at which they were written.
- **CPU**: user plus system time of the server's process from /proc. After the first scrape of all targets, and again at the end, the server
  may finish its background work: until it uses less than 2% of a core over 8 s (at most 90 s), then its flush is called where it has one
  (VictoriaMetrics: /internal/force_flush; Vedette: a snapshot, which flushes; Prometheus has none), then the same quiet again. *Steady* is everything
  after the first scrape over the samples of it. *To create a series* is the first scrape's time minus what as many steady samples cost, per series.
- **Store**: sum of file sizes after that, indexes included, no merge forced. Prometheus keeps short data in memory and its log alone, so what
  counts is a snapshot, in which that is a block too. Logs are listed apart.
- **Peak memory**: VmHWM, pages of mapped files included.
- **kill -9**: at the last acknowledgement of two more scrapes of all targets; then the time from starting the process to the first query that
  answers with data. Samples are counted by reading all of them back.
- **OTLP**: the same recording as an OpenTelemetry Collector with a Prometheus receiver sends it (up to 5,000 data points a request, several targets
  in one; histogram and summary are one point each), and 50 data points a request as applications with an SDK send them (integers, histograms of 15
  buckets, exponential histograms at scale 4). HTTP, protobuf, 4 connections; first compressed by gzip as exporters do, then as many scrapes not
  compressed. CPU as above, settled after each kind, with half the quiet time.
- **Kafka**: one broker on the same machine, acks=all; the load is sent to Vedette with its own buffer and with Kafka, with one partition and with
  four, one after the other, from the same bytes. A request whose series belong to several partitions is divided and compressed again, which costs
  what four differ from one by, whatever the buffer. The broker is a process of its own whose CPU time is counted apart. Catching up: the samples of an hour are written to
  the topic, as a door writes them, while no store runs; then the time from starting Vedette until it says that it has read everything.
- **Traces**: spans of twenty services with ten pods each, in trees of 5 to 60, with 16 resource attributes and those of the semantic conventions, 1% of
  them errors with stack traces, 100,000 users; starts spread over the hour before the run, a trace's spans in the requests of several agents. OTLP
  over HTTP, 500 to 1,000 spans a request, 4 connections, as fast as the server acknowledges, not compressed but for one load. CPU until settled: for Vedette, until
  no span is in a head or an unmerged block, which with default settings takes some six minutes; then the quiet of half the time as above. Store: the directory of the spans.
  Latencies: median / 95th percentile over up to 200 different questions (40 searches, 10 scans), each asked once over one connection right after the settling, with no
  warm-up: the first of a kind is among them; files are in the page cache, as just written. Every answer is compared with what was sent: counts by
  service, whole traces, exactly the newest twenty, quantiles within 5%; one that differs fails the run. The given columns were measured before the run.
- **The agent**: nginx with one worker, kept on the first processor, answers a small page over 16 keep-alive connections as fast as it is asked by
  a thread on the last one; its processor time is the scheduler's (/proc/<pid>/schedstat), and a turn's is the median of its tenths. Each kind of
  agent is started anew for each of its turns; it runs where the scheduler puts it, the server that it ships to beside the load, as if it were
  elsewhere. Then the agent with its defaults, asked over 8 connections at a steady rate; its own processor
  time and memory are those of its process.
- **Settings**: each server's defaults on an empty directory; remote write receiver on; nothing is scraped; Prometheus and Vedette with delayed name removal,
  without which both refuse one of the queries.

Absolute figures move with the machine; compare within one run. Raw results lie in bench/out.
`
