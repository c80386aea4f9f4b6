package sampling

import (
	"fmt"
	"math"
	"math/bits"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/zeebo/xxh3"

	"github.com/vedette-io/vedette/internal/signal"
)

// TraceSummary is what is known of a complete trace. It has the fields of the
// trace store's summary in the same order, so that one converts to the other.
type TraceSummary struct {
	ID    signal.TraceID
	Start int64 // of the earliest span, unix nanoseconds
	End   int64 // of the latest span

	Spans  int
	Errors int // spans with status error

	// Root says that the trace's root span is there. Service, Name and Kind are the
	// root span's; without one, those of the earliest span.
	Root    bool
	Service string
	Name    string
	Kind    uint8
}

// Reason is why a trace is kept or dropped.
type Reason uint8

// Reasons, in the order in which they are looked at.
const (
	ReasonError    Reason = iota // a span failed
	ReasonSlow                   // slower than the quantile of its operation
	ReasonRare                   // among the first of its operation in the hour
	ReasonLearning               // too little is known of its operation
	ReasonChance                 // kept or dropped by its id
	numReasons
)

var reasonNames = [numReasons]string{"error", "slow", "rare", "learning", "probability"}

// String names the reason as metrics do.
func (r Reason) String() string { return reasonNames[r] }

// Decision is what is decided about a trace, and why.
type Decision struct {
	Keep   bool
	Reason Reason

	summary TraceSummary
	limit   int64 // duration that a slow trace exceeds, nanoseconds
	seen    int   // of the operation in the hour
	known   float64
	cfg     *TailConfig
}

// Explain says the decision in a sentence.
func (d Decision) Explain() string {
	t := d.summary
	operation := fmt.Sprintf("%q of %q", t.Name, t.Service)
	duration, limit := time.Duration(t.End-t.Start), time.Duration(d.limit)
	switch {
	case d.Reason == ReasonError:
		return fmt.Sprintf("keep: %d of %d spans have an error", t.Errors, t.Spans)
	case d.Reason == ReasonSlow:
		return fmt.Sprintf("keep: it took %s, more than %s, the quantile %g of %s", duration, limit, d.cfg.SlowQuantile, operation)
	case d.Reason == ReasonRare:
		return fmt.Sprintf("keep: number %d of %s in its hour, of which %d are kept", d.seen+1, operation, d.cfg.RarePerHour)
	case d.Reason == ReasonLearning:
		return fmt.Sprintf("keep: %.0f traces are known of %s, of which %.0f tell what is slow", d.known, operation, d.cfg.enough())
	case d.Keep:
		return fmt.Sprintf("keep: %s is usual, and its id is among the %g that are kept", operation, d.cfg.Probability)
	default:
		return fmt.Sprintf("drop: %s is usual, and its id is not among the %g that are kept", operation, d.cfg.Probability)
	}
}

// enough is how many traces of an operation tell what is slow.
func (c *TailConfig) enough() float64 { return max(math.Ceil(1/(1-c.SlowQuantile)), 10) }

const (
	// maxOperations is how many operations are known at once. Those beyond it are
	// taken for one.
	maxOperations = 10_000
	// forgetAfter is after how long an operation without traces is forgotten.
	forgetAfter = 24 // hours

	hourNanos = int64(time.Hour)
)

// Tail decides about complete traces by what it has learned of others.
type Tail struct {
	cfg     TailConfig
	metrics *tailMetrics

	mu         sync.Mutex
	operations map[operation]*learned
	others     learned // operations beyond the limit
	hour       int64   // newest that was seen
	now        func() time.Time
}

type operation struct{ service, name string }

// NewTail returns a Tail; cfg is valid.
func NewTail(cfg TailConfig, reg prometheus.Registerer) *Tail {
	t := &Tail{cfg: cfg, operations: map[operation]*learned{}, now: time.Now}
	t.metrics = newTailMetrics(reg, t)
	return t
}

// Keep decides about a trace, counts the decision, and learns from the trace.
func (t *Tail) Keep(s TraceSummary) bool {
	if !t.cfg.Enabled {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.decideLocked(s)
	t.observeLocked(s)
	t.metrics.decisions[btoi(d.Keep)][d.Reason].Inc()
	return d.Keep
}

// Decide says what Keep would decide about a trace at this moment, and why.
func (t *Tail) Decide(s TraceSummary) Decision {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.decideLocked(s)
}

// Observe learns from a trace.
func (t *Tail) Observe(s TraceSummary) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.observeLocked(s)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (t *Tail) decideLocked(s TraceSummary) Decision {
	d := Decision{Keep: true, summary: s, cfg: &t.cfg}
	if t.cfg.Errors && s.Errors > 0 {
		d.Reason = ReasonError
		return d
	}
	l := t.operations[operation{s.Service, s.Name}]
	if l == nil && len(t.operations) >= maxOperations {
		l = &t.others
	}
	if l == nil {
		l = &learned{}
	}
	d.known, d.seen = l.total(), l.inHour(t.hourOf(s))
	isKnown := t.cfg.SlowQuantile > 0 && d.known >= t.cfg.enough()
	if isKnown {
		if d.limit = l.quantile(t.cfg.SlowQuantile); s.End-s.Start > d.limit {
			d.Reason = ReasonSlow
			return d
		}
	}
	switch {
	case d.seen < t.cfg.RarePerHour:
		d.Reason = ReasonRare
	case t.cfg.SlowQuantile > 0 && !isKnown:
		d.Reason = ReasonLearning
	default:
		d.Reason = ReasonChance
		d.Keep = chance(s.ID) >= Threshold(t.cfg.Probability)
	}
	return d
}

// chance returns 56 bits that depend on the id alone. They are not its own random
// bits, which those that sampled before have looked at.
func chance(id signal.TraceID) uint64 { return xxh3.Hash(id[:]) & (bits56 - 1) }

func (t *Tail) observeLocked(s TraceSummary) {
	hour := t.hourOf(s)
	if hour > t.hour {
		t.hour = hour
		t.forget()
	}
	key := operation{s.Service, s.Name}
	l := t.operations[key]
	switch {
	case l == nil && len(t.operations) >= maxOperations:
		l = &t.others
	case l == nil:
		l = &learned{}
		t.operations[key] = l
	}
	l.observe(hour, s.End-s.Start)
}

// hourOf returns the number of the hour in which a trace began. A clock that is
// ahead must not make it a later one than it is.
func (t *Tail) hourOf(s TraceSummary) int64 { return min(s.Start, t.now().UnixNano()) / hourNanos }

// forget takes operations out that have had no traces for long.
func (t *Tail) forget() {
	for key, l := range t.operations {
		if t.hour-l.hour > forgetAfter {
			delete(t.operations, key)
		}
	}
}

const (
	perDoubling = 8
	lowestBits  = 10 // durations up to 2^10 ns are in the first bucket
	highestBits = 44 // and beyond 2^44 ns, about five hours, in the last one
	numBuckets  = (highestBits-lowestBits)*perDoubling + 1
)

// learned is what is known of an operation: how long its traces take, of which
// every hour halves the weight, and how many came in the newest hour and the one
// before.
type learned struct {
	hour    int64
	counts  [2]int32 // of hour, and of the hour before
	sum     float64
	buckets [numBuckets]float32
}

// bucketOf returns the bucket of a duration: bucket i holds those up to
// 2^(10+i/8) ns.
func bucketOf(nanos int64) int {
	if nanos <= 1<<lowestBits {
		return 0
	}
	exp := bits.Len64(uint64(nanos)) - 1
	i := (exp-lowestBits)*perDoubling + int(math.Ceil((math.Log2(float64(nanos))-float64(exp))*perDoubling))
	return min(max(i, 0), numBuckets-1)
}

// boundOf returns the longest duration of a bucket.
func boundOf(bucket int) int64 {
	if bucket == numBuckets-1 {
		return math.MaxInt64
	}
	return int64(math.Exp2(lowestBits + float64(bucket)/perDoubling))
}

func (l *learned) observe(hour, nanos int64) {
	if hour > l.hour {
		if l.sum > 0 {
			factor := float32(math.Exp2(-float64(hour - l.hour)))
			l.sum = 0
			for i := range l.buckets {
				l.buckets[i] *= factor
				l.sum += float64(l.buckets[i])
			}
		}
		previous := int32(0)
		if hour == l.hour+1 {
			previous = l.counts[0]
		}
		l.hour, l.counts = hour, [2]int32{0, previous}
	}
	if at := l.hour - hour; at < 2 && l.counts[at] < math.MaxInt32 {
		l.counts[at]++
	}
	l.buckets[bucketOf(nanos)]++
	l.sum++
}

// inHour returns how many traces came in an hour. Of those that are long past
// nothing is known, which counts as many.
func (l *learned) inHour(hour int64) int {
	switch {
	case hour > l.hour || l.sum == 0:
		return 0
	case l.hour-hour < 2:
		return int(l.counts[l.hour-hour])
	default:
		return math.MaxInt32
	}
}

func (l *learned) total() float64 { return l.sum }

// quantile returns a duration that is above the quantile by at most 9%.
func (l *learned) quantile(q float64) int64 {
	rank, seen := q*l.sum, 0.0
	for i, n := range l.buckets {
		if seen += float64(n); n > 0 && seen >= rank {
			return boundOf(i)
		}
	}
	return math.MaxInt64
}
