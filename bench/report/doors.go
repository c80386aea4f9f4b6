package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/vedette-io/vedette/bench/peer"
)

// otlpOf returns what a peer did with OTLP, nil if it was not run.
func (r *Report) otlpOf(name string) *OTLPResult {
	for i := range r.OTLP {
		if r.OTLP[i].Peer == name {
			return &r.OTLP[i]
		}
	}
	return nil
}

func (r *Report) otlpPhase(name, title string) *OTLPPhase {
	if o := r.otlpOf(name); o != nil {
		return o.phase(title)
	}
	return nil
}

// table writes rows of cells, the first of which is the row's title.
func table(b *strings.Builder, rows [][]string) {
	for i, row := range rows {
		fmt.Fprintf(b, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			b.WriteString("|" + strings.Repeat("---|", len(row)) + "\n")
		}
	}
}

func (r *Report) writeOTLP(b *strings.Builder) {
	if len(r.OTLP) == 0 {
		return
	}
	b.WriteString("\n## OTLP\n\nCPU per data point; in brackets the data points a second while the load ran.\n\n")
	head := []string{""}
	for _, x := range r.OTLP {
		head = append(head, x.Title)
	}
	rows := [][]string{head}
	for i, p := range r.OTLP[0].Phases {
		row := []string{fmt.Sprintf("%s: %.2f million points, %.0f in a request, %.1f bytes each on the wire", p.Title,
			float64(p.Sent.Samples)/1e6, float64(p.Sent.Samples)/float64(max(1, p.Sent.Requests)), float64(p.Wire)/float64(max(1, p.Sent.Samples)))}
		for _, x := range r.OTLP {
			p := x.Phases[i]
			row = append(row, fmt.Sprintf("%.2f µs (%.0fk)", float64(p.PerPoint())/1e3, float64(p.Sent.Samples)/max(1e-9, p.Sent.Wall.Seconds())/1e3))
		}
		rows = append(rows, row)
	}
	for _, f := range []struct {
		title string
		cell  func(*OTLPResult) string
	}{
		{"data points refused", func(x *OTLPResult) string { return fmt.Sprint(x.rejected()) }},
		{"series found afterwards", func(x *OTLPResult) string { return found(x.Series) }},
		{"samples found afterwards", func(x *OTLPResult) string { return found(x.Samples) }},
		{"store", func(x *OTLPResult) string { return fmt.Sprintf("%.0f MB", float64(x.Store.Bytes)/1e6) }},
		{"peak memory", func(x *OTLPResult) string { return fmt.Sprintf("%.0f MB", float64(x.Memory.Peak)/1e6) }},
	} {
		row := []string{f.title}
		for i := range r.OTLP {
			row = append(row, f.cell(&r.OTLP[i]))
		}
		rows = append(rows, row)
	}
	table(b, rows)
	if v, p := r.otlpOf(peer.Vedette), r.otlpOf(peer.Prometheus); v != nil && p != nil {
		same := "the same"
		if v.Series != p.Series || v.Samples != p.Samples {
			same = "**not the same**"
		}
		fmt.Fprintf(b, "\nVedette and Prometheus hold %s numbers of series and samples.", same)
		if r.otlpOf(peer.VictoriaMetrics) != nil {
			b.WriteString(" VictoriaMetrics makes other series of the same points: resource attributes become labels of every series, and exponential histograms one series a bucket.")
		}
		b.WriteString("\n")
	}
}

func found(n int64) string {
	if n < 0 {
		return "refused"
	}
	return fmt.Sprint(n)
}

func (r *OTLPResult) rejected() int64 {
	n := int64(0)
	for _, p := range r.Phases {
		n += p.Sent.Rejected
	}
	return n
}

func (r *Report) writeKafka(b *strings.Builder) {
	k := r.Kafka
	if k == nil {
		return
	}
	fmt.Fprintf(b, "\n## Kafka\n\nApache Kafka %s, one broker on the same machine.\n", k.Broker)
	for _, l := range k.Loads {
		k.writeLoad(b, l)
	}
	if c := k.CatchUp; c != nil {
		fmt.Fprintf(b, "\n**Catching up** with %s (%.1f million samples of %s, %.0f MB in the topic) took %.1f s from the start of the process to ready, **%.0f times faster than real time**: %.0fk samples a second, %.0fk samples a CPU-second of Vedette (%.2f s), %.2f s of the broker's CPU, peak memory %.0f MB, %d samples missing.\n",
			c.Title, float64(c.Samples)/1e6, c.DataTime, float64(c.Bytes)/1e6, c.Wall.Seconds(), c.Speed(),
			float64(c.Samples)/max(1e-9, c.Wall.Seconds())/1e3, float64(c.Samples)/max(1e-9, c.CPU.Seconds())/1e3, c.CPU.Seconds(), c.BrokerCPU.Seconds(), float64(c.Peak)/1e6, c.Missing)
	}
	k.writeCrashes(b)
}

func (k *KafkaReport) writeLoad(b *strings.Builder, l KafkaLoad) {
	fmt.Fprintf(b, "\nLoad %s: %s, %d series, %.1f million samples.\n\n", l.Kafka.Scenario.Key, l.Kafka.Scenario.Title, l.Kafka.AllSeries, float64(l.Kafka.Samples)/1e6)
	perMillion := func(cpu time.Duration, samples int64) string {
		return fmt.Sprintf("%.2f", cpu.Seconds()/float64(max(1, samples))*1e6)
	}
	mb := func(n int64) string { return fmt.Sprintf("%.0f MB", float64(n)/1e6) }
	broker := l.Kafka.Broker
	if broker == nil {
		broker = new(BrokerUse)
	}
	rows := [][]string{{"", "own buffer", "Kafka, 1 partition", fmt.Sprintf("own buffer, %d partitions", kafkaPartitions), fmt.Sprintf("Kafka, %d partitions", kafkaPartitions), "the broker beside the latter"}}
	for _, f := range []struct {
		title, broker string
		cell          func(Result) string
	}{
		{"CPU-s per million samples, all", perMillion(broker.CreateCPU+broker.SteadyCPU, l.Kafka.Samples), func(r Result) string { return fmt.Sprintf("%.2f", r.TotalPerMillion().Seconds()) }},
		{"CPU-s per million samples, steady", perMillion(broker.SteadyCPU, l.Kafka.Steady.Samples), func(r Result) string { return fmt.Sprintf("%.2f", r.SteadyPerMillion().Seconds()) }},
		{"buffer on disk at the end", mb(broker.Log.Bytes), func(r Result) string {
			if r.Broker != nil {
				return "–"
			}
			return mb(r.Log.Bytes)
		}},
		{"peak memory", mb(broker.Memory.Peak), func(r Result) string { return mb(r.Memory.Peak) }},
		{"samples a second while the load ran", "–", func(r Result) string {
			return fmt.Sprintf("%.0fk", float64(r.Steady.Samples)/max(1e-9, r.Steady.Wall.Seconds())/1e3)
		}},
		{"acknowledged samples that a count did not find", "–", func(r Result) string { return fmt.Sprint(r.Samples - r.FoundCount) }},
	} {
		rows = append(rows, []string{f.title, f.cell(l.Embedded), f.cell(l.Single), f.cell(l.Divided), f.cell(l.Kafka), f.broker})
	}
	table(b, rows)
}

func (k *KafkaReport) writeCrashes(b *strings.Builder) {
	if len(k.Crashes) == 0 {
		return
	}
	b.WriteString("\n**kill -9 with Kafka**: four writers; every acknowledged sample read back and compared. A killed store's partitions are free once its session ends, here after 3 s; half the time one of two stores stays away for longer, and the other takes over.\n\n")
	rows := [][]string{{"killed", "rounds", "samples acknowledged", "lost", "doubled or altered", "in both stores", "requests told to come back", "ready, median / worst"}}
	for _, c := range k.Crashes {
		title, both, refused := "the store", "–", "–"
		switch {
		case c.Stores > 1:
			title, both = fmt.Sprintf("one of %d stores, the others under load", c.Stores), fmt.Sprint(c.Overlap)
		case c.KillBroker:
			n, unsaid := c.Refusals()
			title, refused = "the broker, under load", fmt.Sprintf("%d, %d without Retry-After", n, unsaid)
		}
		rows = append(rows, []string{title, fmt.Sprint(len(c.Rounds)), fmt.Sprintf("%.1f million", float64(c.Acked())/1e6), fmt.Sprint(c.Lost()), fmt.Sprint(c.Doubled()),
			both, refused, fmt.Sprintf("%.1f / %.1f s", c.ReadyMedian().Seconds(), c.ReadyWorst().Seconds())})
	}
	table(b, rows)
}
