package span

import (
	"context"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/identity"
	"github.com/vedette-io/vedette/internal/signal"
)

// tick is how often calls are looked at. A feature's calls come within it.
const tick = time.Second

// writeTimeout bounds one write.
const writeTimeout = 10 * time.Second

// maxBatch bounds the spans of one write.
const maxBatch = 2048

// Write takes an OTLP ExportTraceServiceRequest.
type Write func(ctx context.Context, payload []byte) error

// Options of New.
type Options struct {
	Config   Config
	Resolver *identity.Resolver
	Write    Write
	Logger   *slog.Logger
}

// Recorder makes spans of calls. It implements feature.Calls, feature.Sampler
// and prometheus.Collector.
type Recorder struct {
	o         Options
	threshold uint64
	host      string
	salt      string
	lost      *prometheus.Desc
	spans     *prometheus.CounterVec
	doubted   prometheus.Counter

	mu       sync.Mutex
	incoming []*seen           // under mu
	held     int               // in incoming and known, under mu
	counts   map[string]uint64 // calls lost, by reason, under mu
	openers  []feature.Opener  // under mu

	// of Run alone
	known      []*seen
	open       []*seen
	ticks      int64
	lostBefore uint64
	doubtUntil int64
	failing    bool
}

// New returns a recorder of a valid configuration. It takes calls at once; spans
// are written while Run runs.
func New(o Options) *Recorder {
	host, _ := os.Hostname()
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return &Recorder{
		o: o, threshold: thresholdOf(o.Config.Ratio), host: host, salt: string(boot),
		lost: feature.SpanLostDesc(),
		spans: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_ebpf_spans_total",
			Help: "Spans made, by kind, and by whether the other end of the connection was seen.",
		}, []string{"kind", "joined"}),
		doubted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vedette_ebpf_span_doubted_parents_total",
			Help: "Spans left without the parent that their traceparent names, because something was lost that may have been its child first.",
		}),
		counts: map[string]uint64{"buffer_full": 0, "write": 0},
	}
}

// Threshold implements feature.Sampler.
func (r *Recorder) Threshold() uint64 { return r.threshold }

// Wanted implements feature.Calls. It is OpenTelemetry's consistent probability
// sampling: a request is kept when the low 56 bits of its trace id are at least
// (1-ratio)·2^56, so all hops of a trace are, and with a larger ratio all that a
// smaller one keeps. The header's sampled flag does not matter: it says what
// others recorded, and a hop may change it. Without a traceparent a hash of the
// connection's two ends and of the sequence number takes the place of the trace id.
func (r *Recorder) Wanted(traceparent string, seq uint32, local, peer netip.AddrPort) bool {
	return random(traceparent, seq, local, peer) >= r.threshold
}

// Full implements feature.Calls.
func (r *Recorder) Full() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fullLocked()
}

func (r *Recorder) fullLocked() bool {
	if r.held < r.o.Config.Buffer {
		return false
	}
	r.counts["buffer_full"]++
	return true
}

// Add implements feature.Calls.
func (r *Recorder) Add(c *feature.Call) {
	s := newSeen(c)
	s.call.Attributes = slices.Clone(c.Attributes)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fullLocked() {
		return
	}
	r.held++
	r.incoming = append(r.incoming, s)
}

// Watch makes known a feature that knows of requests without a response.
func (r *Recorder) Watch(o feature.Opener) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.openers = append(r.openers, o)
}

// Describe sends the descriptions.
func (r *Recorder) Describe(ch chan<- *prometheus.Desc) {
	ch <- r.lost
	r.spans.Describe(ch)
	r.doubted.Describe(ch)
}

// Collect sends what was made and lost.
func (r *Recorder) Collect(ch chan<- prometheus.Metric) {
	r.spans.Collect(ch)
	r.doubted.Collect(ch)
	r.mu.Lock()
	defer r.mu.Unlock()
	for reason, n := range r.counts {
		ch <- prometheus.MustNewConstMetric(r.lost, prometheus.CounterValue, float64(n), reason)
	}
}

// Run makes spans until ctx ends, and then of all that it has.
func (r *Recorder) Run(ctx context.Context) error {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			r.turn(ctx, false)
			t.Reset(tick) // what had ended by now comes in before the next turn
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
			defer cancel()
			r.turn(ctx, true)
			return nil
		}
	}
}

// turn writes the calls that have waited long enough, or all of them. What was
// open at the turn before has ended and come in since, or is open still: so
// between known and open nothing is missing that began before the turn before.
func (r *Recorder) turn(ctx context.Context, last bool) {
	r.ticks++
	wait := int64((r.o.Config.Wait + tick - 1) / tick)
	r.take()
	l := newLinker(append(slices.Clip(r.known), r.open...))
	l.salt, l.fleet, l.doubt = r.salt, r.o.Config.Fleet, last || r.ticks < r.doubtUntil
	var ready []finished
	for _, s := range r.known {
		if !s.settled && (last || r.ticks-s.added >= wait) {
			ready = append(ready, finished{s, l.link(s)})
		}
	}
	for _, s := range ready {
		s.settled = true
	}
	for batch := range slices.Chunk(ready, maxBatch) {
		r.write(ctx, batch)
	}
	for _, s := range ready {
		s.call.Attributes = nil // it is held for others' links, which want none
	}
	if !last {
		r.look(wait)
		r.forget(wait)
	}
}

// take moves what has come in to what is known.
func (r *Recorder) take() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.incoming {
		s.added = r.ticks
	}
	r.known = append(r.known, r.incoming...)
	r.incoming = r.incoming[:0]
}

// look asks for the requests without a response, and for what was lost.
func (r *Recorder) look(wait int64) {
	r.mu.Lock()
	lost := r.counts["buffer_full"]
	openers := r.openers
	r.mu.Unlock()
	r.open = r.open[:0]
	for _, o := range openers {
		n, err := o.Open(func(c *feature.Call) {
			s := newSeen(c)
			s.open = true
			r.open = append(r.open, s)
		})
		if err != nil {
			r.doubtUntil = r.ticks + 2*wait + 1
		}
		lost += n
	}
	if lost != r.lostBefore {
		r.lostBefore = lost
		r.doubtUntil = r.ticks + 2*wait + 1
	}
}

// forget drops what nothing can be linked to any more: what has been written for
// as long as it was held, and has no open call in its trace.
func (r *Recorder) forget(wait int64) {
	traces := make(map[signal.TraceID]bool)
	for _, s := range r.open {
		if s.headed {
			traces[s.header.trace] = true
		}
	}
	before := len(r.known)
	r.known = slices.DeleteFunc(r.known, func(s *seen) bool {
		return s.settled && r.ticks-s.added >= 2*wait && !(s.headed && traces[s.header.trace])
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held -= before - len(r.known)
}

// write hands spans on. What cannot be written is counted, and logged once until
// it can be again.
func (r *Recorder) write(ctx context.Context, spans []finished) {
	payload := encode(spans, r.o.Resolver, r.host, offset())
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	err := r.o.Write(ctx, payload)
	if err != nil {
		if !r.failing {
			r.o.Logger.Error("spans were not written", "error", err)
		}
		r.failing = true
		r.mu.Lock()
		r.counts["write"] += uint64(len(spans))
		r.mu.Unlock()
		return
	}
	r.failing = false
	for _, s := range spans {
		kind, joined := "client", "false"
		if s.call.Server {
			kind = "server"
		}
		if s.other != nil {
			joined = "true"
		}
		r.spans.WithLabelValues(kind, joined).Inc()
		if s.doubted {
			r.doubted.Inc()
		}
	}
}

// offset is the time of day less the kernel's monotonic clock. Of some readings the
// one counts that was interrupted least: spans of one trace are written at different
// times, and must not move against each other.
func offset() int64 {
	var offset int64
	least := int64(math.MaxInt64)
	for range 5 {
		var before, real, after unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &before)
		_ = unix.ClockGettime(unix.CLOCK_REALTIME, &real)
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &after)
		if took := after.Nano() - before.Nano(); took < least {
			least, offset = took, real.Nano()-before.Nano()-took/2
		}
	}
	return offset
}
