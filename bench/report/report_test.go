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
