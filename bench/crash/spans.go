package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/vedette-io/vedette/bench/client"
	"github.com/vedette-io/vedette/bench/peer"
)

// smallSteps let flushes and merges of spans happen in rounds of seconds.
const smallSteps = "trace_store: {flush_spans: 20000, flush_interval: 1s, merge_spans: 150000, merge_interval: 5s}\n"

// DefaultSpanOptions returns the full run with spans.
func DefaultSpanOptions(spec peer.Spec, runDir string) Options {
	return DefaultOptions(spec.WithConfig(smallSteps), runDir)
}

// spanRun is the state of a run with spans.
type spanRun struct {
	run
	writers []*spanWriter
}

// RunSpans is Run with spans, against one store.
func RunSpans(ctx context.Context, o Options) (_ *Report, err error) {
	x := &spanRun{run: run{Options: o, rng: rand.New(rand.NewPCG(o.Seed, 2)), plain: true}}
	start := time.Now().Add(-3 * time.Hour).UnixNano()
	for i := range o.Writers {
		x.writers = append(x.writers, &spanWriter{id: i, seed: x.rng.Uint64(), start: start})
	}
	rep := &Report{Peer: o.Spec.Name, Seed: o.Seed, Spans: true}
	if o.Broker != nil {
		rep.Buffer = "kafka"
	}
	if _, err := x.start(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, x.p.Kill()) }()
	if err := x.rounds(ctx, rep, x.round); err != nil {
		return nil, err
	}
	rep.Final, err = x.find(ctx, make([]int, len(x.writers)))
	return rep, err
}

// round loads, kills, restarts and compares.
func (x *spanRun) round(ctx context.Context) (r Round, err error) {
	r.Load = x.MinLoad + time.Duration(x.rng.Int64N(int64(x.MaxLoad-x.MinLoad)+1))
	from := make([]int, len(x.writers))
	for i, w := range x.writers {
		from[i] = len(w.fates)
	}
	if err := x.loadAndKill(ctx, r.Load, x.write); err != nil {
		return r, err
	}
	for i, w := range x.writers {
		for k := from[i]; k < len(w.fates); k++ {
			if w.fates[k] == acknowledged {
				r.Acked += spansIn(k)
			} else {
				r.Unknown += spansIn(k)
			}
		}
	}
	if r.Ready, err = x.start(ctx); err != nil {
		return r, err
	}
	// Once before anything else is written, and again after the resent ones.
	if r.Verdict, err = x.find(ctx, from); err != nil {
		return r, err
	}
	if r.Resent, err = x.resend(ctx, from); err != nil || r.Resent == 0 {
		return r, err
	}
	r.Acked += r.Resent
	again, err := x.find(ctx, from)
	if again.Bad() > 0 && r.Verdict.Bad() == 0 {
		r.Verdict = again
	}
	return r, err
}

// write sends the requests of a writer in order until the server is gone.
func (x *spanRun) write(ctx context.Context, c *http.Client, id int) error {
	w := x.writers[id]
	for {
		body, err := w.request(len(w.fates))
		if err != nil {
			return err
		}
		err = x.send(ctx, c, client.Traces(x.p.URL), body)
		w.twice = append(w.twice, false)
		var refused *client.StatusError
		switch {
		case err == nil:
			w.fates = append(w.fates, acknowledged)
		case errors.As(err, &refused) && !refused.Temporary():
			return fmt.Errorf("write spans: %w", err)
		default:
			w.fates = append(w.fates, unknown)
			return nil
		}
	}
}

// resend sends about half of the round's requests of unknown fate again and
// returns how many spans were acknowledged.
func (x *spanRun) resend(ctx context.Context, from []int) (spans int64, err error) {
	c := client.New(1)
	defer c.CloseIdleConnections()
	for i, w := range x.writers {
		for k := from[i]; k < len(w.fates); k++ {
			if w.fates[k] != unknown || x.rng.IntN(2) == 0 {
				continue
			}
			body, err := w.request(k)
			if err != nil {
				return spans, err
			}
			if err := x.send(ctx, c, client.Traces(x.p.URL), body); err != nil {
				return spans, fmt.Errorf("send again: %w", err)
			}
			w.fates[k], w.twice[k] = acknowledged, true
			spans += spansIn(k)
		}
	}
	return spans, nil
}

// find compares until every acknowledged span is found or patience is over: a
// store may have to read Kafka first.
func (x *spanRun) find(ctx context.Context, from []int) (v Verdict, err error) {
	for start := time.Now(); ; {
		v, err = x.verify(ctx, from)
		if err != nil || v.Lost == 0 || x.Broker == nil || time.Since(start) > findPatience {
			return v, err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return v, err
		}
	}
}

// verify reads back the spans that every writer's requests from the given ones on
// carried, trace by trace, and counts them.
func (x *spanRun) verify(ctx context.Context, from []int) (Verdict, error) {
	found := make([]int64, len(x.writers))
	verdicts := make([]Verdict, len(x.writers))
	errs := make([]error, len(x.writers))
	c := client.New(len(x.writers))
	defer c.CloseIdleConnections()
	var wg sync.WaitGroup
	for i, w := range x.writers {
		wg.Go(func() {
			for k := max(0, from[i]-1); k < len(w.fates) && errs[i] == nil; k++ { // the one before has late spans
				for t := range tracesPerRequest {
					got, err := client.Trace(ctx, c, x.p.URL, w.traceID(k, t))
					if err != nil {
						errs[i] = err
						break
					}
					found[i] += w.compare(&verdicts[i], got, k, t, from[i])
				}
			}
		})
	}
	wg.Wait()
	var v Verdict
	for _, o := range verdicts {
		v.add(o)
	}
	if err := errors.Join(errs...); err != nil {
		return v, err
	}
	for i, w := range x.writers {
		if err := x.count(ctx, c, &v, w, from[i], found[i]); err != nil {
			return v, err
		}
	}
	return v, nil
}

// count compares how many spans of a writer's requests from the given one on a
// query counts with how many were found by their ids. A request that was sent
// twice may count twice until its copies are merged.
func (x *spanRun) count(ctx context.Context, c *http.Client, v *Verdict, w *spanWriter, from int, found int64) error {
	most := found
	for k := from; k < len(w.fates); k++ {
		if w.twice[k] {
			most += spansIn(k)
		}
	}
	query := fmt.Sprintf("{ span.%s = %d && span.%s >= %d } | count_over_time()", writerKey, w.id, requestKey, from)
	start, end := w.start-int64(time.Hour), time.Now().Add(time.Hour).UnixNano()
	series, err := client.TraceMetrics(ctx, c, x.p.URL, query, start, end, time.Duration(end-start))
	if err != nil {
		return err
	}
	got := int64(0)
	for _, s := range series {
		got += int64(s.Sum())
	}
	switch {
	case got < found:
		v.Lost += found - got
		v.note("writer %d: %s counts %d spans, want %d", w.id, query, got, found)
	case got > most:
		v.Doubled += got - most
		v.note("writer %d: %s counts %d spans, want at most %d", w.id, query, got, most)
	}
	return nil
}
