package gather

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	dto "github.com/prometheus/client_model/go"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/exposition"
	"github.com/vedette-io/vedette/internal/labels"
)

// Writer takes requests in. *door.Entry has more than this method; a function
// value joins the two.
type Writer func(ctx context.Context, tenant string, format buffer.Format, payload []byte) error

// Job is a set of collectors that are gathered together.
type Job struct {
	Name     string // the label job
	Instance string // the label instance
	Gatherer prometheus.Gatherer
	Interval time.Duration
}

// Options are what Run needs.
type Options struct {
	Jobs       []Job
	Tenant     string
	Write      Writer
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Runner gathers jobs.
type Runner struct {
	o        Options
	failures *prometheus.CounterVec
	seconds  *prometheus.GaugeVec
}

// New returns a Runner that Run starts.
func New(o Options) *Runner {
	f := promauto.With(o.Registerer)
	return &Runner{
		o: o,
		failures: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_collector_gather_failures_total",
			Help: "Rounds of a job that failed, wholly or in part, by what failed: gather or write.",
		}, []string{"job", "at"}),
		seconds: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "vedette_collector_gather_duration_seconds",
			Help: "How long the last round of a job took to gather.",
		}, []string{"job"}),
	}
}

// Run gathers every job at its interval until ctx ends, and then ends the series.
func (r *Runner) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, j := range r.o.Jobs {
		wg.Go(func() { r.runJob(ctx, j) })
	}
	wg.Wait()
	return nil
}

func (r *Runner) runJob(ctx context.Context, j Job) {
	s := newSeries(j)
	tick := time.NewTicker(j.Interval)
	defer tick.Stop()
	for {
		r.round(ctx, s)
		select {
		case <-tick.C:
		case <-ctx.Done():
			r.end(s)
			return
		}
	}
}

// round gathers a job once. One that has had nothing so far is not there at all.
func (r *Runner) round(ctx context.Context, s *series) {
	begin := time.Now()
	families, err := s.job.Gatherer.Gather()
	took := time.Since(begin)
	r.seconds.WithLabelValues(s.job.Name).Set(took.Seconds())
	if len(families) == 0 && err == nil && len(s.known) == 0 {
		return // such as GPUs on a machine that has none
	}
	if err != nil { // the rest of the families is there
		r.failed(ctx, s, "gather", err)
	}
	at := begin.UnixMilli()
	samples, addErr := s.add(families, at)
	if addErr != nil {
		r.failed(ctx, s, "gather", addErr)
	}
	up := 1.0
	if len(families) == 0 && err != nil {
		up = 0
	}
	s.report(up, took, samples, at)
	s.turn(at)
	r.write(ctx, s)
}

// end writes staleness markers, as for a target that is gone.
func (r *Runner) end(s *series) {
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s.turn(time.Now().UnixMilli())
	r.write(ctx, s)
}

func (r *Runner) write(ctx context.Context, s *series) {
	for _, payload := range s.requests.Payloads() {
		if err := r.o.Write(ctx, r.o.Tenant, buffer.FormatRemoteWriteV1, payload); err != nil && ctx.Err() == nil {
			r.failed(ctx, s, "write", err)
		}
	}
}

// failed counts a failure and logs the first of several in a row.
func (r *Runner) failed(ctx context.Context, s *series, at string, err error) {
	r.failures.WithLabelValues(s.job.Name, at).Inc()
	level := slog.LevelDebug
	if text := err.Error(); text != s.lastFailure {
		s.lastFailure, level = text, slog.LevelWarn
	}
	r.o.Logger.Log(ctx, level, "collect", "job", s.job.Name, "at", at, "err", err)
}

// series are a job's series and the requests under construction.
type series struct {
	job         Job
	requests    exposition.Requests
	known       map[labels.Hash]known
	round       uint32           // the one at hand
	described   map[string]int64 // families whose metadata has gone out, and when, in ms
	scratch     []exposition.Series
	lastFailure string
}

// known is a series of this round or of the one before.
type known struct {
	labels []byte
	round  uint32 // that had it last
}

func newSeries(j Job) *series {
	return &series{job: j, known: make(map[labels.Hash]known), described: make(map[string]int64)}
}

func (s *series) labels() []exposition.Label {
	return []exposition.Label{{Name: "job", Value: s.job.Name}, {Name: "instance", Value: s.job.Instance}}
}

// atATime is how many metrics of a family become series before their memory is
// used for the next ones: a round may be of tens of thousands.
const atATime = 64

// describeAgain is how old metadata may be: a receiver may have lost it, or be
// another one by now. A family is described with its first sample, whenever that
// comes: there is none of a request's duration before the first request.
const describeAgain = time.Hour

// add puts families into the request and returns how many samples they have. It
// lets go of each metric when that is done. Of a family that is bad the rest is
// left out.
func (s *series) add(families []*dto.MetricFamily, at int64) (samples int, err error) {
	var errs []error
	for i, f := range families {
		of := 0
		for metrics := range slices.Chunk(f.Metric, atATime) {
			n, err := s.addSome(f, metrics, at)
			of += n
			if err != nil {
				errs = append(errs, err)
				break
			}
			clear(metrics)
		}
		samples += of
		if last, ok := s.described[f.GetName()]; of > 0 && (!ok || at-last >= describeAgain.Milliseconds()) {
			s.requests.Metadata(f)
			s.described[f.GetName()] = at
		}
		families[i] = nil
	}
	return samples, errors.Join(errs...)
}

// addSome puts some metrics of a family into the request.
func (s *series) addSome(f *dto.MetricFamily, metrics []*dto.Metric, at int64) (samples int, err error) {
	some := dto.MetricFamily{Name: f.Name, Help: f.Help, Type: f.Type, Unit: f.Unit, Metric: metrics}
	if s.scratch, err = exposition.AppendSeries(s.scratch[:0], &some, s.labels()...); err != nil {
		return 0, err
	}
	var errs []error
	for i := range s.scratch {
		one := &s.scratch[i]
		if err := s.requests.Add(one, at); err != nil {
			errs = append(errs, fmt.Errorf("add series of %s: %w", f.GetName(), err))
			continue
		}
		s.see(one.Labels)
		samples++
	}
	return samples, errors.Join(errs...)
}

// see notes that this round has a series. It keeps nothing of lset.
func (s *series) see(lset []byte) {
	h := labels.HashCanonical(lset)
	k, ok := s.known[h]
	if !ok {
		k.labels = bytes.Clone(lset)
	}
	k.round = s.round
	s.known[h] = k
}

// report adds the series that a scraper makes of itself.
func (s *series) report(up float64, took time.Duration, samples int, at int64) {
	gauge := func(name, help string, v float64) *dto.MetricFamily {
		kind := dto.MetricType_GAUGE
		return &dto.MetricFamily{Name: &name, Help: &help, Type: &kind, Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: &v}}}}
	}
	_, _ = s.add([]*dto.MetricFamily{ // their names are valid
		gauge("up", "1 if the job could be gathered.", up),
		gauge("scrape_duration_seconds", "How long gathering took.", took.Seconds()),
		gauge("scrape_samples_scraped", "Samples that were gathered.", float64(samples)),
	}, at)
}

// turn ends the series of the round before that this one does not have.
func (s *series) turn(at int64) {
	for h, k := range s.known {
		if k.round != s.round {
			s.requests.Stale(k.labels, at)
			delete(s.known, h)
		}
	}
	for name, last := range s.described { // of those that are gone
		if at-last > 2*describeAgain.Milliseconds() {
			delete(s.described, name)
		}
	}
	s.round++
}
