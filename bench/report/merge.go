package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vedette-io/vedette/bench/peer"
)

// Origin is the run that a section comes from.
type Origin struct {
	Date    time.Time `json:"date"`
	Command string    `json:"command"`
	Version string    `json:"version"` // of Vedette
	Machine Machine   `json:"machine"`
}

// Names of the sections that are not scenarios.
const (
	sectionOTLP  = "OTLP"
	sectionKafka = "Kafka"
	sectionCrash = "kill -9"

	sectionTraces = "Traces"
	sectionAgent  = "Agent"
)

// sections returns what the report has, in order.
func (r *Report) sections() []string {
	var out []string
	for _, s := range r.scenarios() {
		out = append(out, s.Key)
	}
	if len(r.OTLP) > 0 {
		out = append(out, sectionOTLP)
	}
	if r.Kafka != nil {
		out = append(out, sectionKafka)
	}
	if r.Crash != nil {
		out = append(out, sectionCrash)
	}
	if r.Traces != nil {
		out = append(out, sectionTraces)
	}
	if r.Agent != nil {
		out = append(out, sectionAgent)
	}
	return out
}

// origin returns where a section comes from.
func (r *Report) origin(section string) Origin {
	if o, ok := r.Origins[section]; ok {
		return o
	}
	o := Origin{Date: r.Date, Command: r.Command, Machine: r.Machine}
	switch section {
	case sectionOTLP:
		if v := r.otlpOf(peer.Vedette); v != nil {
			o.Version = v.Version
		}
	case sectionKafka:
		if len(r.Kafka.Loads) > 0 {
			o.Version = r.Kafka.Loads[0].Kafka.Version
		}
	case sectionTraces:
		if v := r.Traces.find(tracesMain, peer.Vedette); v != nil {
			o.Version = v.Version
		}
	case sectionAgent:
		o.Version = r.Agent.Version
	case sectionCrash:
		for _, x := range r.Results {
			if x.Peer == peer.Vedette {
				o.Version = x.Version
			}
		}
	default:
		if v := r.find(section, peer.Vedette); v != nil {
			o.Version = v.Version
		}
	}
	return o
}

// Merge takes over what a later report measured and notes where every section
// comes from. Sections are taken whole: figures of two runs never stand side by
// side.
func (r *Report) Merge(later *Report) {
	origins := map[string]Origin{}
	for _, s := range r.sections() {
		origins[s] = r.origin(s)
	}
	for _, s := range later.sections() {
		origins[s] = later.origin(s)
	}
	fresh := map[string]bool{}
	for _, x := range later.Results {
		fresh[x.Scenario.Key] = true
	}
	r.Results = slices.DeleteFunc(r.Results, func(x Result) bool { return fresh[x.Scenario.Key] })
	r.Results = append(r.Results, later.Results...)
	slices.SortStableFunc(r.Results, func(a, b Result) int { return strings.Compare(a.Scenario.Key, b.Scenario.Key) })
	if len(later.OTLP) > 0 {
		r.OTLP = later.OTLP
	}
	if later.Kafka != nil {
		r.Kafka = later.Kafka
	}
	if later.Crash != nil {
		r.Crash = later.Crash
	}
	if later.Traces != nil {
		r.Traces = later.Traces
	}
	if later.Agent != nil {
		r.Agent = later.Agent
	}
	r.Origins = origins
}

// writeOrigins says when and how the figures were measured.
func (r *Report) writeOrigins(b *strings.Builder) {
	date := func(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 UTC") }
	if len(r.Origins) == 0 {
		fmt.Fprintf(b, "Measured on %s with `%s`; the figures below are that run's, written by it.\n\n", date(r.Date), r.Command)
		return
	}
	b.WriteString("Measured in several runs, which wrote the figures below; those of one section are of one run.\n\n")
	rows := [][]string{{"section", "measured on", "Vedette", "command"}}
	for _, s := range r.sections() {
		o := r.origin(s)
		rows = append(rows, []string{s, date(o.Date), o.Version, "`" + o.Command + "`"})
		if o.Machine != r.Machine {
			rows[len(rows)-1][1] += fmt.Sprintf(", on %s, %d cores", o.Machine.CPU, o.Machine.Cores)
		}
	}
	table(b, rows)
	b.WriteString("\n")
}

// versions returns title and version of every server, Vedette first, a server of
// several runs with all its versions.
func (r *Report) versions() [][2]string {
	titles := map[string]string{}
	versions := map[string][]string{}
	var order []string
	note := func(name, title, version string) {
		if _, ok := titles[name]; !ok {
			order = append(order, name)
			titles[name] = title
		}
		if !slices.Contains(versions[name], version) {
			versions[name] = append(versions[name], version)
		}
	}
	for _, x := range r.Results {
		note(x.Peer, x.Title, x.Version)
	}
	for _, x := range r.OTLP {
		note(x.Peer, x.Title, x.Version)
	}
	if r.Kafka != nil {
		for _, l := range r.Kafka.Loads {
			note(l.Embedded.Peer, l.Embedded.Title, l.Embedded.Version)
		}
		note("kafka", "Apache Kafka", r.Kafka.Broker)
	}
	if r.Traces != nil {
		for _, x := range r.Traces.Results {
			note(x.Peer, x.Name, x.Version)
		}
	}
	if r.Agent != nil {
		note(peer.Vedette, "Vedette", r.Agent.Version)
	}
	var out [][2]string
	for _, name := range order {
		out = append(out, [2]string{titles[name], strings.Join(versions[name], ", ")})
	}
	return out
}
