package crash

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vedette-io/vedette/bench/client"
	"github.com/vedette-io/vedette/bench/peer"
)

// Options of a run.
type Options struct {
	Spec    peer.Spec
	RunDir  string
	Rounds  int
	Writers int
	Groups  int // per writer
	Seed    uint64
	// The load of a round lasts between these before the kill.
	MinLoad, MaxLoad time.Duration

	// Broker is the buffer of the servers; nil is their own.
	Broker *peer.Broker
	// Stores is how many servers share the topics of Broker; one of them is killed.
	Stores int
	// KillBroker kills Broker instead of a server.
	KillBroker bool

	Log *slog.Logger
}

// session is how long a killed store keeps its partitions, a third of what it is
// by default.
const session = 3 * time.Second

// WithKafka returns options for servers whose buffer is the broker. Sessions are
// short, and requests are refused after two seconds without an acknowledgement of
// Kafka's.
func (o Options) WithKafka(b *peer.Broker) Options {
	o.Broker = b
	o.Spec = o.Spec.WithConfig(b.Config(fmt.Sprintf("consumer: {session_timeout: %s}", session), "producer: {timeout: 2s}"))
	return o
}

// DefaultOptions returns the full run.
func DefaultOptions(spec peer.Spec, runDir string) Options {
	return Options{
		Spec: spec, RunDir: runDir, Rounds: 20, Writers: 4, Groups: 8,
		Seed:    uint64(time.Now().UnixNano()),
		MinLoad: 200 * time.Millisecond, MaxLoad: 3 * time.Second,
		Log: slog.New(slog.DiscardHandler),
	}
}

// Round is what one kill did.
type Round struct {
	Load    time.Duration `json:"load_nanos"`
	Acked   int64         `json:"acked"`   // samples
	Unknown int64         `json:"unknown"` // samples in requests without an answer
	Resent  int64         `json:"resent"`  // of those, sent again after the restart
	Ready   time.Duration `json:"ready_nanos"`
	Verdict Verdict       `json:"verdict"`

	// With several stores, or when the broker is killed.
	Behind  time.Duration `json:"behind_nanos,omitempty"` // until the last acknowledged sample was found
	Overlap int64         `json:"overlap,omitempty"`      // samples that more than one store has
	Refused int64         `json:"refused,omitempty"`      // requests that were told to come back later
	NoRetry int64         `json:"no_retry,omitempty"`     // of those, without being told when
}

// Report is the outcome of a run.
type Report struct {
	Peer   string  `json:"peer"`
	Spans  bool    `json:"spans,omitempty"` // what is counted; else samples
	Seed   uint64  `json:"seed"`
	Rounds []Round `json:"rounds"`
	Final  Verdict `json:"final"` // of everything, after a stop in good order

	Buffer     string `json:"buffer,omitempty"` // empty is the server's own
	Stores     int    `json:"stores,omitempty"`
	KillBroker bool   `json:"kill_broker,omitempty"`
	Overlap    int64  `json:"overlap,omitempty"`    // of everything
	Peak       int64  `json:"peak_bytes,omitempty"` // memory of the server whose broker was killed
}

// Unit is what the report counts.
func (r *Report) Unit() string {
	if r.Spans {
		return "spans"
	}
	return "samples"
}

// String names what was killed and what became of the samples.
func (r *Report) String() string {
	text := fmt.Sprintf("%d rounds, %d %s acknowledged, %d lost, %d doubled or altered; ready after %s (median), %s (worst); seed %d",
		len(r.Rounds), r.Acked(), r.Unit(), r.Lost(), r.Doubled(), r.ReadyMedian().Round(time.Millisecond), r.ReadyWorst().Round(time.Millisecond), r.Seed)
	if r.Stores > 1 {
		text += fmt.Sprintf("; %d stores, %d samples in more than one", r.Stores, r.Overlap)
	}
	if r.KillBroker {
		refused, unsaid := r.Refusals()
		text += fmt.Sprintf("; broker killed, %d requests refused, %d of them without Retry-After, peak memory %d MB", refused, unsaid, r.Peak/1e6)
	}
	return text
}

// Refusals is the number of requests that were told to come back later, and of
// those that were not told when.
func (r *Report) Refusals() (refused, unsaid int64) {
	for _, x := range r.Rounds {
		refused += x.Refused
		unsaid += x.NoRetry
	}
	return refused, unsaid
}

// Acked is the number of samples acknowledged.
func (r *Report) Acked() int64 {
	n := int64(0)
	for _, x := range r.Rounds {
		n += x.Acked
	}
	return n
}

// Lost is the number of acknowledged samples missing, at the worst comparison.
func (r *Report) Lost() int64 {
	n := int64(0)
	for _, x := range r.Rounds {
		n += x.Verdict.Lost
	}
	return max(n, r.Final.Lost)
}

// Doubled is the number of samples there too often, altered or never sent.
func (r *Report) Doubled() int64 {
	n := int64(0)
	for _, x := range r.Rounds {
		n += x.Verdict.Bad() - x.Verdict.Lost
	}
	return max(n, r.Final.Bad()-r.Final.Lost)
}

func (r *Report) readyTimes() []time.Duration {
	var all []time.Duration
	for _, x := range r.Rounds {
		all = append(all, x.Ready)
	}
	slices.Sort(all)
	return all
}

// ReadyMedian is the median time from start to ready after a kill.
func (r *Report) ReadyMedian() time.Duration {
	if all := r.readyTimes(); len(all) > 0 {
		return all[len(all)/2]
	}
	return 0
}

// ReadyWorst is the longest time from start to ready after a kill.
func (r *Report) ReadyWorst() time.Duration {
	if all := r.readyTimes(); len(all) > 0 {
		return all[len(all)-1]
	}
	return 0
}

// run is the state of a run.
type run struct {
	Options
	rng    *rand.Rand
	groups []*group // writer w owns groups w, w+Writers, …
	p      *peer.Process
	others []*peer.Process // stores that share the topics with p

	plain            bool // bodies are not compressed
	refused, noRetry atomic.Int64
}

// Run runs all rounds on an empty directory and reports what was lost; the error
// is for what kept it from finding out.
func Run(ctx context.Context, o Options) (_ *Report, err error) {
	x := &run{Options: o, rng: rand.New(rand.NewPCG(o.Seed, 1))}
	// Old enough that no step lies in the future however fast the server is.
	start := time.Now().Add(-3*time.Hour).UnixMilli() / stepMillis * stepMillis
	for i := range o.Writers * o.Groups {
		x.groups = append(x.groups, newGroup(fmt.Sprintf("g%d", i), start))
	}
	rep := &Report{Peer: o.Spec.Name, Seed: o.Seed, Stores: o.Stores, KillBroker: o.KillBroker}
	if o.Broker != nil {
		rep.Buffer = "kafka"
	}
	if o.Stores > 1 || o.KillBroker {
		return rep, x.runShared(ctx, rep)
	}
	if _, err := x.start(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, x.p.Kill()) }()
	if err := x.rounds(ctx, rep, x.round); err != nil {
		return nil, err
	}
	rep.Final, err = x.verify(ctx, make([]int, len(x.groups)))
	return rep, err
}

// rounds goes through the rounds and then stops and starts the store once more.
func (x *run) rounds(ctx context.Context, rep *Report, round func(context.Context) (Round, error)) error {
	for n := range x.Rounds {
		r, err := round(ctx)
		if err != nil {
			return fmt.Errorf("crash round %d: %w", n+1, err)
		}
		rep.Rounds = append(rep.Rounds, r)
		x.logRound(n+1, r)
	}
	if err := x.p.Stop(); err != nil {
		return err
	}
	_, err := x.start(ctx)
	return err
}

func (o *Options) logRound(n int, r Round) {
	o.Log.Info("crash round", "round", n, "load", r.Load.Round(time.Millisecond), "acked", r.Acked,
		"unknown", r.Unknown, "ready", r.Ready.Round(time.Millisecond), "lost", r.Verdict.Lost,
		"doubled", r.Verdict.Doubled, "altered", r.Verdict.Altered, "foreign", r.Verdict.Foreign)
}

// start starts the server on the run's directory and waits until it is ready.
func (x *run) start(ctx context.Context) (time.Duration, error) {
	p, err := x.Spec.Start(x.RunDir)
	if err != nil {
		return 0, err
	}
	x.p = p
	return p.WaitReady(ctx)
}

// round loads, kills, restarts and compares.
func (x *run) round(ctx context.Context) (Round, error) {
	r := Round{Load: x.MinLoad + time.Duration(x.rng.Int64N(int64(x.MaxLoad-x.MinLoad)+1))}
	from := make([]int, len(x.groups))
	for i, g := range x.groups {
		from[i] = g.steps()
	}
	if err := x.loadAndKill(ctx, r.Load, x.write); err != nil {
		return r, err
	}
	const perRequest = seriesPerGroup * stepsPerRequest
	for i, g := range x.groups {
		for _, f := range g.fates[from[i]/stepsPerRequest:] {
			if f == acknowledged {
				r.Acked += perRequest
			} else {
				r.Unknown += perRequest
			}
		}
	}
	var err error
	if r.Ready, err = x.start(ctx); err != nil {
		return r, err
	}
	// Once before anything else is written, and again after the resent ones.
	if r.Verdict, err = x.verify(ctx, from); err != nil {
		return r, err
	}
	resent, err := x.resend(ctx, from)
	if err != nil {
		return r, err
	}
	for i, n := range resent {
		if n == 0 {
			from[i] = x.groups[i].steps() // nothing new to compare
		}
		r.Resent += n * perRequest
	}
	r.Acked += r.Resent
	again, err := x.verify(ctx, from)
	if again.Bad() > 0 && r.Verdict.Bad() == 0 {
		r.Verdict = again
	}
	return r, err
}

// loadAndKill lets every writer write as fast as it can, kills the server after
// the given time and returns when all writers have noticed.
func (x *run) loadAndKill(ctx context.Context, load time.Duration, write func(ctx context.Context, c *http.Client, w int) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := client.New(x.Writers)
	defer c.CloseIdleConnections()
	var wg sync.WaitGroup
	errs := make([]error, x.Writers)
	for w := range x.Writers {
		wg.Go(func() { errs[w] = write(ctx, c, w) })
	}
	timer := time.NewTimer(load)
	defer timer.Stop()
	var err error
	select {
	case <-timer.C:
	case <-x.p.Done():
		err = fmt.Errorf("server ended by itself, its last words:\n%s", x.p.LastWords())
	case <-ctx.Done():
		err = ctx.Err()
	}
	err = errors.Join(err, x.p.Kill())
	cancel()
	wg.Wait()
	return errors.Join(append(errs, err)...)
}

// write sends the requests of writer w in order until the server is gone. Each
// request's fate is noted before the next is sent.
func (x *run) write(ctx context.Context, c *http.Client, w int) error {
	for {
		for i := w; i < len(x.groups); i += x.Writers {
			g := x.groups[i]
			err := x.send(ctx, c, client.RemoteWrite(x.p.URL), g.request(len(g.fates)))
			var refused *client.StatusError
			switch {
			case err == nil:
				g.fates = append(g.fates, acknowledged)
			case errors.As(err, &refused) && !refused.Temporary():
				return fmt.Errorf("write group %s: %w", g.name, err)
			default:
				g.fates = append(g.fates, unknown)
				return nil
			}
		}
	}
}

// send sends a body again for as long as the server asks to come back later.
func (x *run) send(ctx context.Context, c *http.Client, door client.Door, body []byte) error {
	for {
		rejected, err := door.Post(ctx, c, body, x.plain)
		if rejected > 0 {
			return fmt.Errorf("the server refuses %d of what is right", rejected)
		}
		var refused *client.StatusError
		if err == nil || !errors.As(err, &refused) || !refused.Temporary() {
			return err
		}
		x.refused.Add(1)
		if refused.RetryAfter == 0 {
			x.noRetry.Add(1)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(max(refused.RetryAfter, 20*time.Millisecond)):
		}
	}
}

// resend sends about half of the round's requests of unknown fate again and
// returns how many of each group were acknowledged.
func (x *run) resend(ctx context.Context, from []int) ([]int64, error) {
	c := client.New(1)
	defer c.CloseIdleConnections()
	n := make([]int64, len(x.groups))
	for i, g := range x.groups {
		for k := from[i] / stepsPerRequest; k < len(g.fates); k++ {
			if g.fates[k] != unknown || x.rng.IntN(2) == 0 {
				continue
			}
			if err := x.send(ctx, c, client.RemoteWrite(x.p.URL), g.request(k)); err != nil {
				return n, fmt.Errorf("send again: %w", err)
			}
			g.fates[k] = acknowledged
			n[i]++
		}
	}
	return n, nil
}

// verifySteps bounds the steps one query reads back.
const verifySteps = 1000

// verify reads back the steps of every group from the given one on.
func (x *run) verify(ctx context.Context, from []int) (Verdict, error) {
	v, _, err := x.verifyAll(ctx, from)
	return v, err
}

// verifyAll does so from all stores, and counts the samples that more than one
// of them has.
func (x *run) verifyAll(ctx context.Context, from []int) (v Verdict, overlap int64, err error) {
	c := client.New(1)
	defer c.CloseIdleConnections()
	stores := append([]*peer.Process{x.p}, x.others...)
	answers := make([][]client.Series, len(stores))
	for i, g := range x.groups {
		for lo := from[i]; lo < g.steps(); lo += verifySteps {
			hi := min(lo+verifySteps, g.steps())
			// The window is open at its start: one step before lo.
			query := fmt.Sprintf(`%s{group=%q}[%dms]`, metricName, g.name, (hi-lo)*stepMillis)
			for k, p := range stores {
				if answers[k], err = client.Instant(ctx, c, p.URL, query, g.millis(hi-1)); err != nil {
					return v, overlap, fmt.Errorf("read group %s back: %w", g.name, err)
				}
			}
			all, twice := union(answers)
			overlap += twice
			v.add(g.compare(all, lo, hi))
		}
	}
	return v, overlap, nil
}
