package crash

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vedette-io/vedette/bench/client"
	"github.com/vedette-io/vedette/bench/peer"
)

const (
	// calmPace is the time between two requests of a writer while something is
	// down, which may take seconds.
	calmPace = 50 * time.Millisecond
	// afterwards is how long the load goes on once everything is up again.
	afterwards = 300 * time.Millisecond
	// findPatience bounds the wait until everything acknowledged is found: another
	// store may have yet to read it.
	findPatience = time.Minute
)

// writers write to all stores that are up until they are told to stop.
type writers struct {
	run  *run
	calm atomic.Bool
	stop atomic.Bool
	acks []atomic.Int64 // of each writer

	mu sync.Mutex
	up []*peer.Process
}

func (w *writers) setUp(up ...*peer.Process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.up = up
}

// pick returns the store for request n.
func (w *writers) pick(n int) *peer.Process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.up[n%len(w.up)]
}

// write is one writer; it sends the requests of its groups in order, to one store
// after the other.
func (w *writers) write(ctx context.Context, c *http.Client, id int) error {
	x := w.run
	for n := 0; ; {
		for i := id; i < len(x.groups); i += x.Writers {
			if w.stop.Load() {
				return nil
			}
			g := x.groups[i]
			n++
			err := x.send(ctx, c, client.RemoteWrite(w.pick(n).URL), g.request(len(g.fates)))
			var refused *client.StatusError
			switch {
			case err == nil:
				g.fates = append(g.fates, acknowledged)
				w.acks[id].Add(1)
			case errors.As(err, &refused):
				return fmt.Errorf("write group %s: %w", g.name, err)
			case ctx.Err() != nil:
				g.fates = append(g.fates, unknown)
				return ctx.Err()
			default:
				g.fates = append(g.fates, unknown) // the store was killed meanwhile
			}
			if err != nil || w.calm.Load() {
				if err := pause(ctx, calmPace); err != nil {
					return err
				}
			}
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// runShared runs rounds in which the load goes on while a store, or the broker,
// is killed and started again.
func (x *run) runShared(ctx context.Context, rep *Report) (err error) {
	if x.Broker == nil {
		return errors.New("several stores and a broker that is killed need a broker")
	}
	x.others = make([]*peer.Process, max(1, x.Stores)-1)
	defer func() {
		for _, p := range append(x.others, x.p) {
			if p != nil {
				err = errors.Join(err, p.Kill())
			}
		}
	}()
	if err := x.startAll(ctx); err != nil {
		return err
	}
	for n := range x.Rounds {
		round, err := x.sharedRound(ctx)
		if err != nil {
			return fmt.Errorf("crash round %d: %w", n+1, err)
		}
		rep.Rounds = append(rep.Rounds, round)
		x.Log.Info("crash round", "round", n+1, "load", round.Load.Round(time.Millisecond), "acked", round.Acked, "unknown", round.Unknown,
			"ready", round.Ready.Round(time.Millisecond), "behind", round.Behind.Round(time.Millisecond), "lost", round.Verdict.Lost,
			"doubled", round.Verdict.Doubled, "altered", round.Verdict.Altered, "foreign", round.Verdict.Foreign,
			"overlap", round.Overlap, "refused", round.Refused)
	}
	if x.KillBroker {
		m, err := x.p.Memory()
		if err != nil {
			return err
		}
		rep.Peak = m.Peak
	}
	for _, p := range append(x.others, x.p) {
		if err := p.Stop(); err != nil {
			return err
		}
	}
	if err := x.startAll(ctx); err != nil {
		return err
	}
	rep.Final, rep.Overlap, _, err = x.find(ctx, make([]int, len(x.groups)))
	return err
}

// startAll starts every store on a directory of its own.
func (x *run) startAll(ctx context.Context) error {
	var err error
	if x.p, err = x.Spec.Start(x.storeDir(0)); err != nil {
		return err
	}
	for i := range x.others {
		if x.others[i], err = x.Spec.Start(x.storeDir(i + 1)); err != nil {
			return err
		}
	}
	for _, p := range append([]*peer.Process{x.p}, x.others...) {
		if _, err := p.WaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (x *run) storeDir(i int) string { return filepath.Join(x.RunDir, fmt.Sprintf("store-%d", i)) }

// sharedRound loads, kills, restarts, all under load, and compares.
func (x *run) sharedRound(ctx context.Context) (r Round, err error) {
	r.Load = x.MinLoad + time.Duration(x.rng.Int64N(int64(x.MaxLoad-x.MinLoad)+1))
	from := make([]int, len(x.groups))
	for i, g := range x.groups {
		from[i] = g.steps()
	}
	x.refused.Store(0)
	x.noRetry.Store(0)
	if r.Ready, err = x.underLoad(ctx, r.Load); err != nil {
		return r, err
	}
	r.Refused, r.NoRetry = x.refused.Load(), x.noRetry.Load()
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
	r.Verdict, r.Overlap, r.Behind, err = x.find(ctx, from)
	return r, err
}

// underLoad kills something after the given time while writers write, starts it
// again, and returns how long that took.
func (x *run) underLoad(ctx context.Context, load time.Duration) (ready time.Duration, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := client.New(x.Writers)
	defer c.CloseIdleConnections()
	w := &writers{run: x, acks: make([]atomic.Int64, x.Writers)}
	w.setUp(append([]*peer.Process{x.p}, x.others...)...)
	var wg sync.WaitGroup
	errs := make([]error, x.Writers)
	for id := range x.Writers {
		wg.Go(func() { errs[id] = w.write(ctx, c, id) })
	}
	if err = pause(ctx, load); err == nil {
		if x.KillBroker {
			ready, err = x.killBroker(ctx, w)
		} else {
			ready, err = x.killStore(ctx, w)
		}
	}
	if err == nil {
		w.calm.Store(false)
		err = pause(ctx, afterwards)
	}
	w.stop.Store(true)
	if err != nil {
		cancel()
	}
	wg.Wait()
	return ready, errors.Join(append(errs, err)...)
}

// killStore kills one store and starts it again; the others take its partitions
// over meanwhile.
func (x *run) killStore(ctx context.Context, w *writers) (time.Duration, error) {
	all := append([]*peer.Process{x.p}, x.others...)
	k := x.rng.IntN(len(all))
	if err := all[k].Kill(); err != nil {
		return 0, err
	}
	var rest []*peer.Process
	for i, p := range all {
		if i != k {
			rest = append(rest, p)
		}
	}
	w.calm.Store(true)
	w.setUp(rest...)
	// Every other time on average it is back before its session ends, and nobody
	// takes over.
	if x.rng.IntN(2) == 0 {
		if err := pause(ctx, session+time.Duration(x.rng.Int64N(int64(3*time.Second)))); err != nil {
			return 0, err
		}
	}
	p, err := x.Spec.Start(x.storeDir(k))
	if err != nil {
		return 0, err
	}
	if k == 0 {
		x.p = p
	} else {
		x.others[k-1] = p
	}
	ready, err := p.WaitReady(ctx)
	w.setUp(append(rest, p)...)
	return ready, err
}

// killBroker kills the broker, leaves it dead for a while, starts it again and
// waits until every writer has got something acknowledged.
func (x *run) killBroker(ctx context.Context, w *writers) (time.Duration, error) {
	if err := x.Broker.Kill(); err != nil {
		return 0, err
	}
	if err := pause(ctx, time.Duration(x.rng.Int64N(int64(4*time.Second)))); err != nil {
		return 0, err
	}
	start := time.Now()
	if err := x.Broker.Restart(); err != nil {
		return 0, err
	}
	w.calm.Store(true)
	for id := range w.acks {
		before := w.acks[id].Load()
		for w.acks[id].Load() == before {
			if time.Since(start) > findPatience {
				return 0, fmt.Errorf("writer %d got nothing acknowledged within %s of the broker's start", id, findPatience)
			}
			if err := pause(ctx, 5*time.Millisecond); err != nil {
				return 0, err
			}
		}
	}
	return time.Since(start), nil
}

// find compares until every acknowledged sample is found or patience is over.
// Behind is how long it took until that was so: 0 if nothing was ever missing.
func (x *run) find(ctx context.Context, from []int) (v Verdict, overlap int64, behind time.Duration, err error) {
	start := time.Now()
	for {
		behind = time.Since(start)
		v, overlap, err = x.verifyAll(ctx, from)
		if err != nil || v.Lost == 0 || behind > findPatience {
			return v, overlap, behind.Truncate(time.Millisecond), err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return v, overlap, behind, err
		}
	}
}

// union merges what several stores answered and counts the samples that more
// than one has. Samples of one time with different values all stay, for a
// comparison to find.
func union(answers [][]client.Series) (all []client.Series, overlap int64) {
	if len(answers) == 1 {
		return answers[0], 0
	}
	index := map[string]int{}
	for _, answer := range answers {
		for _, s := range answer {
			key := s.Labels["group"] + "\xff" + s.Labels["series"]
			i, ok := index[key]
			if !ok {
				index[key] = len(all)
				all = append(all, s)
				continue
			}
			var twice int64
			all[i].Points, twice = mergePoints(all[i].Points, s.Points)
			overlap += twice
		}
	}
	return all, overlap
}

// mergePoints merges points in order of time and counts those that are in both.
func mergePoints(a, b []client.Point) (merged []client.Point, twice int64) {
	merged = make([]client.Point, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0].Millis < b[0].Millis:
			merged, a = append(merged, a[0]), a[1:]
		case a[0].Millis == b[0].Millis && math.Float64bits(a[0].Value) == math.Float64bits(b[0].Value):
			merged, a, b = append(merged, a[0]), a[1:], b[1:]
			twice++
		default:
			merged, b = append(merged, b[0]), b[1:]
		}
	}
	return append(append(merged, a...), b...), twice
}
