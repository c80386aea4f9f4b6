package report

import (
	"strings"
	"testing"
	"time"

	"github.com/vedette-io/vedette/bench/client"
	"github.com/vedette-io/vedette/bench/crash"
	"github.com/vedette-io/vedette/bench/peer"
)

// made returns a result whose figures are easy to check by hand: steady CPU in
// seconds per million samples, microseconds per created series, bytes a sample.
func made(s Scenario, name string, steady, create, bytesPerSample float64) Result {
	const series, samples = 1000, 10_000
	r := Result{
		Scenario: s, Peer: name, Title: name, Version: "v1", Series: series, AllSeries: series, Samples: series + samples,
		Create: client.Sent{Samples: series}, Steady: client.Sent{Samples: samples, Wall: time.Second},
		SteadyCPU: time.Duration(steady * samples * 1e3),
		CreateCPU: time.Duration(create*series*1e3 + steady*series*1e3),
		Store:     peer.Disk{Bytes: int64(bytesPerSample * (series + samples))},
		Memory:    peer.Memory{Peak: int64(steady * 1e8)},
	}
	if s.Crash {
		r.Restart = &Restart{Answers: 700 * time.Millisecond, Lost: 0}
	}
	return r
}

func sample() *Report {
	rep := &Report{Date: time.Unix(1_800_000_000, 0), Command: "make bench", Machine: ThisMachine()}
	for _, s := range Scenarios(1) {
		rep.Results = append(rep.Results,
			made(s, peer.Vedette, 0.45, 4, 0.6),
			made(s, peer.VictoriaMetrics, 1, 20, 1.5),
			made(s, peer.Prometheus, 4, 5, 4))
	}
	return rep
}

// withDoors adds what the scenarios OTLP and Kafka measure.
func withDoors(rep *Report) *Report {
	for name, perPoint := range map[string]time.Duration{peer.Vedette: 2 * time.Microsecond, peer.Prometheus: 5 * time.Microsecond} {
		x := OTLPResult{Peer: name, Title: name, Version: "v1", Series: 10, Samples: 100}
		for _, l := range otlpLoads(1) {
			for _, kind := range []string{otlpFirst, otlpGzip, otlpPlain} {
				x.Phases = append(x.Phases, OTLPPhase{Title: l.title + kind, Sent: client.Sent{Samples: 1000, Requests: 10, Wall: time.Second}, CPU: 1000 * perPoint})
			}
		}
		rep.OTLP = append(rep.OTLP, x)
	}
	s := Scenarios(1)[0]
	load := KafkaLoad{Embedded: made(s, peer.Vedette, 0.4, 4, 0.6), Single: made(s, peer.Vedette, 0.6, 4, 0.6), Divided: made(s, peer.Vedette, 0.5, 4, 0.6), Kafka: made(s, peer.Vedette, 0.55, 4, 0.6)}
	load.Kafka.Broker = &BrokerUse{SteadyCPU: 2 * time.Millisecond}
	rep.Kafka = &KafkaReport{
		Broker: "4.1.1", Loads: []KafkaLoad{load},
		CatchUp: &CatchUp{Samples: 1e6, DataTime: time.Hour, Wall: 2 * time.Second, CPU: time.Second},
		Crashes: []*crash.Report{{Stores: 2, Overlap: 7}, {Stores: 1, KillBroker: true, Rounds: []crash.Round{{Refused: 9, NoRetry: 1}}}},
	}
	return rep
}

func TestDoorsAreShown(t *testing.T) {
	page := withDoors(sample()).Markdown()
	for _, want := range []string{
		"| Prometheus: CPU per OTLP data point, SDK, gzip | 0.40 | 0.5 | 0.35 | within the limit |",
		"| the embedded buffer: CPU per steady sample with Kafka, broker apart, four partitions each, load A | 1.10 | 1.2 | 1 | within the limit |",
		"| the embedded buffer: CPU per steady sample with Kafka, broker apart, one partition each, load A | 1.50 | 1.2 | 1 | **falls short** |",
		"| the embedded buffer: CPU per steady sample with Kafka, broker apart, four partitions each, load B | not measured |",
		"| CPU-s per million samples, steady | 0.40 | 0.60 | 0.50 | 0.55 | 0.20 |",
		"Vedette and Prometheus hold the same numbers of series and samples.",
		"**1800 times faster than real time**",
		"| one of 2 stores, the others under load | 0 | 0.0 million | 0 | 0 | 7 | – |",
		"9, 1 without Retry-After",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
}

func TestMergeTakesWholeSections(t *testing.T) {
	old := sample()
	later := withDoors(&Report{Date: old.Date.Add(time.Hour), Command: "later", Machine: old.Machine})
	r := made(Scenarios(1)[1], peer.Vedette, 9, 4, 0.6)
	r.Version = "v2"
	later.Results = []Result{r}
	old.Merge(later)
	if x := old.find(Long, peer.Prometheus); x != nil {
		t.Error("a result of the older run stands beside one of the newer in one scenario")
	}
	if x := old.find(Long, peer.Vedette); x == nil || x.Version != "v2" {
		t.Errorf("got %+v, want the newer result", x)
	}
	if x := old.find(Wide, peer.Prometheus); x == nil || len(old.OTLP) != 2 || old.Kafka == nil {
		t.Error("sections are missing")
	}
	page := old.Markdown()
	for _, want := range []string{"| A | 15 January 2027, 08:00 UTC | v1 | `make bench` |", "| B | 15 January 2027, 09:00 UTC | v2 | `later` |", "| Kafka | 15 January 2027, 09:00 UTC | v1 | `later` |"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
}

func TestDerivedFigures(t *testing.T) {
	r := made(Scenarios(1)[0], peer.Vedette, 0.5, 4, 0.6)
	if got, want := r.SteadyPerMillion(), 500*time.Millisecond; got != want {
		t.Errorf("steady: got %s, want %s", got, want)
	}
	if got, want := r.PerCreatedSeries().Round(time.Nanosecond), 4*time.Microsecond; got != want {
		t.Errorf("create: got %s, want %s", got, want)
	}
	if got, want := r.BytesPerSample(), 0.6; got < want-1e-6 || got > want+1e-6 {
		t.Errorf("bytes a sample: got %v, want %v", got, want)
	}
}

func TestTargetsMarkWhatFallsShort(t *testing.T) {
	rep := sample()
	rep.Crash = &crash.Report{Peer: peer.Vedette, Rounds: []crash.Round{{Verdict: crash.Verdict{Lost: 3}}}}
	page := rep.Markdown()
	for _, want := range []string{
		"| VictoriaMetrics: CPU per steady sample, scenario A | 0.45 | 0.5 | 0.35 | within the limit |",
		"| Prometheus: CPU to create a series, scenario A | 0.80 | 0.7 | 0.5 | **falls short** |",
		"| VictoriaMetrics: bytes per sample with index, scenario C (churning) | 0.40 | 0.65 | 0.5 | aim reached |",
		"| ready after kill -9, scenario A | 0.70 s | 2 | 1 | aim reached |",
		"| acknowledged samples lost by kill -9 under full load | 3 | 0 | 0 | **falls short** |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
}

func TestMissingPeersAreNotMeasured(t *testing.T) {
	rep := &Report{Results: []Result{made(Scenarios(1)[0], peer.Prometheus, 4, 10, 4)}}
	page := rep.Markdown()
	if got := strings.Count(page, "not measured"); got != len(Targets()) {
		t.Errorf("%d rows are marked as not measured, want all %d:\n%s", got, len(Targets()), page)
	}
}

func TestScenariosShrink(t *testing.T) {
	for _, s := range Scenarios(10) {
		if s.Targets > 100 || s.Scrapes > 96 || !strings.Contains(s.Title, "targets") {
			t.Errorf("got %+v", s)
		}
	}
	if s := Scenarios(1)[0].Resize(7, 0); s.Targets != 7 || s.Scrapes != 30 || !strings.HasPrefix(s.Title, "7 targets × 30") {
		t.Errorf("got %+v", s)
	}
}
