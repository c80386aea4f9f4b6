package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/vedette-io/vedette/bench/overhead"
	"github.com/vedette-io/vedette/bench/peer"
)

// AgentKey is the name of the scenario that measures what the agent costs.
const AgentKey = "AGENT"

// AgentReport is what the scenario measured.
type AgentReport struct {
	Version string `json:"version"`
	*overhead.Report
}

// agentTargets are the rows of what must be reached that are about the agent.
func agentTargets() []Target {
	added := func(name string) func(*Report) (float64, bool) {
		return func(r *Report) (float64, bool) {
			if r.Agent == nil {
				return 0, false
			}
			d, ok := r.Agent.Overhead(name)
			return float64(d) / 1e3, ok
		}
	}
	return []Target{
		{"agent: nginx's CPU for a request, HTTP metrics on minus off", 1.5, 1.5, "µs", added(overhead.HTTP)},
		{"agent: the same, with spans of a tenth of the requests", 2, 2, "µs", added(overhead.Spans)},
		{"agent: peak memory at 20,000 requests a second", 60, 60, "MB", func(r *Report) (float64, bool) {
			if r.Agent == nil || r.Agent.Agent == nil {
				return 0, false
			}
			return float64(r.Agent.Agent.Memory.Peak) / 1e6, true
		}},
	}
}

func (r *Report) writeAgent(b *strings.Builder) {
	if r.Agent == nil {
		return
	}
	us := func(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d)/1e3) }
	fmt.Fprintf(b, "\n## What the agent costs\n\nProcessor time of nginx for a request, in µs: %d turns of %d requests with each kind of agent, each between two turns without one, whose mean is taken off. What is added is the median of those differences.\n\n",
		len(r.Agent.Variants[0].On), r.Agent.PerTurn)
	rows := [][]string{{"agent", "without", "with", "added", "half of the turns"}}
	for i := range r.Agent.Variants {
		v := &r.Agent.Variants[i]
		added := v.Added()
		rows = append(rows, []string{v.Title, us(overhead.Median(v.Off)), us(overhead.Median(v.On)), us(overhead.Median(added)),
			us(overhead.Quantile(added, 0.25)) + " – " + us(overhead.Quantile(added, 0.75))})
	}
	table(b, rows)
	if a := r.Agent.Agent; a != nil {
		mb := func(bytes int64) float64 { return float64(bytes) / 1e6 }
		fmt.Fprintf(b, "\nThe agent itself, with everything that is on by default and shipping to a server beside it, while nginx answered %.0f requests a second for %s: %.1f%% of a core, and at most %.0f MB of memory: at most %.0f MB of its own, at most %.0f MB of pages of its executable's file, which the kernel can take back at any time. Its start had taken up to %.0f MB. The kernel holds %.0f MB for its BPF maps.\n",
			a.PerSecond, a.Span.Round(time.Second), 100*a.CPU.Seconds()/a.Span.Seconds(), mb(a.Memory.Peak), mb(a.Highest.Anon), mb(a.Highest.File), mb(a.Start.Peak), mb(a.Maps))
	}
}

// NewAgentReport wraps what was measured of a version of Vedette.
func NewAgentReport(vedette peer.Spec, m *overhead.Report) *AgentReport {
	return &AgentReport{Version: vedette.Version, Report: m}
}
