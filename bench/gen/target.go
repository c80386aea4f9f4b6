package gen

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/vedette-io/vedette/internal/labels"
)

// SeriesPerTarget is what one target exposes, the scraper's own series included.
const SeriesPerTarget = 534

// ProbeMetric is a series that every target has and that is 1 at every scrape.
const ProbeMetric = "up"

// histogramBounds are the upper bounds of the application's latency histogram.
var histogramBounds = [...]string{
	"0.001", "0.0025", "0.005", "0.0075", "0.01", "0.015", "0.025", "0.035", "0.05", "0.075",
	"0.1", "0.15", "0.25", "0.5", "0.75", "1", "2.5", "5", "10", "+Inf",
}

// HistogramMetric names the application's latency histogram.
const HistogramMetric = "http_request_duration_seconds"

// Instance returns the instance label of target t.
func Instance(t int) string { return fmt.Sprintf("10.%d.%d.%d:9100", 20+t/62500, t/250%250, 1+t%250) }

// churnEvery is the share of series that churn: one in so many.
const churnEvery = 10

// Target continues the recording for one target. It is not safe for concurrent use.
type Target struct {
	id        int
	rng       *rand.Rand
	series    []*recordedSeries
	canonical [][]byte  // labels in wire form, one per series
	state     []float64 // current values, in units of 10^-decimals
	order     []int     // permutation of the recorded increments
	scrape    int
	histogram [len(histogramBounds)]float64
	sum       float64
	churn     bool
	churnEach int // scrapes between label changes of churning series
}

// ownSeries describes the series that are not recorded: first the histogram's,
// then the scraper's.
func ownSeries() [][]Label {
	var all [][]Label
	app := func(name string, more ...Label) {
		l := append([]Label{{"__name__", name}, {"handler", "/api/v1/orders"}, {"method", "GET"}}, more...)
		sortLabels(l)
		all = append(all, l)
	}
	for _, bound := range histogramBounds {
		app(HistogramMetric+"_bucket", Label{"le", bound})
	}
	app(HistogramMetric + "_sum")
	app(HistogramMetric + "_count")
	for _, name := range [...]string{
		ProbeMetric, "scrape_duration_seconds", "scrape_samples_scraped",
		"scrape_samples_post_metric_relabeling", "scrape_series_added",
	} {
		all = append(all, []Label{{"__name__", name}})
	}
	return all
}

// NewTarget prepares target id of the run with the given seed. With churnEach
// above zero a tenth of its series carry a pod label that changes every churnEach
// scrapes.
func NewTarget(rec *Recording, id int, seed uint64, churnEach int) (*Target, error) {
	own := ownSeries()
	if n := len(rec.series) + len(own); n != SeriesPerTarget {
		return nil, fmt.Errorf("prepare target: recording has %d series, want %d", len(rec.series), SeriesPerTarget-len(own))
	}
	t := &Target{
		id: id, rng: rand.New(rand.NewPCG(seed, uint64(id)+1)),
		churn: churnEach > 0, churnEach: churnEach,
		canonical: make([][]byte, SeriesPerTarget),
		state:     make([]float64, len(rec.series)),
	}
	for i := range rec.series {
		s := &rec.series[i]
		t.series = append(t.series, s)
		t.state[i] = t.startValue(s)
	}
	t.order = t.rng.Perm(len(rec.series[0].steps))
	t.setLabels(own)
	return t, nil
}

// startValue places a counter somewhere near the recorded start, so that no two
// targets count alike, and everything else at a recorded value.
func (t *Target) startValue(s *recordedSeries) float64 {
	scale := s.scale()
	v := s.values[t.rng.IntN(len(s.values))] * scale
	if s.shape == counter {
		v = s.values[0] * scale
		if s.labels[0].Value != "node_time_seconds" {
			v *= 0.5 + t.rng.Float64()
		}
	}
	if s.shape == constant {
		return s.values[0]
	}
	if s.decimals >= 0 {
		v = math.Round(v)
	}
	return v
}

// setLabels writes the wire form of every series' labels; called again only
// when a churning series changes its pod.
func (t *Target) setLabels(own [][]Label) {
	for i := range t.canonical {
		if t.canonical[i] != nil && !(t.churn && i%churnEvery == 0) {
			continue
		}
		var l []Label
		if i < len(t.series) {
			l = append(l, t.series[i].labels...)
		} else {
			l = append(l, own[i-len(t.series)]...)
		}
		l = append(l, Label{"cluster", "prod-1"}, Label{"instance", Instance(t.id)}, Label{"job", "node"}, Label{"region", "eu-central-1"})
		if t.churn && i%churnEvery == 0 {
			l = append(l, Label{"pod", fmt.Sprintf("orders-%08x-%05x", t.rng.Uint32(), t.rng.Uint32()&0xfffff)})
		}
		sortLabels(l)
		t.canonical[i] = t.canonical[i][:0:0]
		for _, x := range l {
			t.canonical[i] = labels.Append(t.canonical[i], x.Name, x.Value)
		}
	}
}

// Next computes the next scrape and calls sample for each series, in order,
// with its labels in wire form and its value.
func (t *Target) Next(sample func(canonical []byte, value float64)) {
	if t.churn && t.scrape > 0 && t.scrape%t.churnEach == 0 {
		t.setLabels(ownSeries())
	}
	t.step(func(i int, value float64) { sample(t.canonical[i], value) })
}

// step computes the next scrape and calls sample for each series, in order.
func (t *Target) step(sample func(i int, value float64)) {
	step := t.scrape % len(t.order)
	if step == 0 {
		t.rng.Shuffle(len(t.order), func(i, j int) { t.order[i], t.order[j] = t.order[j], t.order[i] })
	}
	for i, s := range t.series {
		sample(i, t.advance(i, s, t.order[step]))
	}
	t.advanceOwn(func(i int, value float64) { sample(len(t.series)+i, value) })
	t.scrape++
}

// advance moves recorded series i one scrape on and returns its value.
func (t *Target) advance(i int, s *recordedSeries, step int) float64 {
	switch s.shape {
	case constant:
		return t.state[i]
	case counter:
		t.state[i] += s.steps[step]
	case gauge:
		next := t.state[i] + s.steps[t.rng.IntN(len(s.steps))]
		if next >= s.min && next <= s.max {
			t.state[i] = next
		}
	case noisy:
		v := s.values[t.rng.IntN(len(s.values))] * (0.8 + 0.4*t.rng.Float64())
		if s.decimals < 0 {
			return v
		}
		return math.Round(v*s.scale()) / s.scale()
	}
	if s.decimals < 0 {
		return t.state[i]
	}
	return t.state[i] / s.scale()
}

// advanceOwn moves the histogram and the scraper's series one scrape on.
func (t *Target) advanceOwn(sample func(i int, value float64)) {
	requests := 20 + t.rng.IntN(60)
	for range requests {
		// Latencies are roughly log-normal around 20 ms.
		latency := math.Exp(t.rng.NormFloat64()*1.1) * 0.02
		t.sum += latency
		b := 0
		for b < len(bucketBounds)-1 && latency > bucketBounds[b] {
			b++
		}
		t.histogram[b]++
	}
	cumulative := 0.0
	for b, n := range t.histogram {
		cumulative += n
		sample(b, cumulative)
	}
	n := len(histogramBounds)
	sample(n, t.sum)
	sample(n+1, cumulative)
	exposed := float64(SeriesPerTarget - 5)
	added := 0.0
	if t.scrape == 0 {
		added = exposed
	}
	sample(n+2, 1)
	sample(n+3, math.Round((0.02+0.03*t.rng.Float64())*1e9)/1e9)
	sample(n+4, exposed)
	sample(n+5, exposed)
	sample(n+6, added)
}

// bucketBounds are histogramBounds as numbers.
var bucketBounds = [len(histogramBounds)]float64{
	0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.035, 0.05, 0.075,
	0.1, 0.15, 0.25, 0.5, 0.75, 1, 2.5, 5, 10, math.MaxFloat64,
}
