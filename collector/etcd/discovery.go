package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"
)

const (
	pageKeys = 1000 // keys of a page of a listing
	gather   = 1000 // responses of the watch that are sent on at once, at most

	firstRetry = 500 * time.Millisecond
	lastRetry  = 10 * time.Second
)

// errReconnected ends a watch whose connection was lost meanwhile.
var errReconnected = errors.New("connection was lost and is back")

// Discovery is a prefix that is watched.
type Discovery struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	name    string // of the scrape job

	state    *state
	revision int64 // newest that etcd has told of
}

// New returns the discoverer of cfg; Run starts it.
func New(cfg Config, o discovery.DiscovererOptions) (*Discovery, error) {
	m, ok := o.Metrics.(*metrics)
	if !ok {
		return nil, fmt.Errorf("set up etcd discovery: got metrics of type %T, want those of NewDiscovererMetrics", o.Metrics)
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Discovery{cfg: cfg, log: log.With("prefix", cfg.Prefix), metrics: m, name: o.SetName, state: newState(cfg.Prefix)}, nil
}

// Run sends target groups until ctx ends. It implements discovery.Discoverer.
func (d *Discovery) Run(ctx context.Context, up chan<- []*targetgroup.Group) {
	defer func() { d.metrics.targets.WithLabelValues(d.name).Sub(float64(d.state.targets)) }()
	wait := firstRetry
	for ctx.Err() == nil {
		begin := time.Now()
		err := d.session(ctx, up)
		if ctx.Err() != nil {
			return
		}
		if time.Since(begin) > lastRetry {
			wait = firstRetry
		}
		// Half of it by chance, so that many do not come back at once.
		pause := wait/2 + rand.N(wait/2)
		d.log.Warn("watch etcd; the last known targets stay", "err", err, "targets", d.state.targets, "retry_in", pause.Round(time.Millisecond))
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		wait = min(2*wait, lastRetry)
	}
}

// session lists and watches with one client until there is an error that the
// client does not mend.
func (d *Discovery) session(ctx context.Context, up chan<- []*targetgroup.Group) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client, err := d.cfg.dial(ctx)
	if err != nil {
		d.failed("dial")
		return err
	}
	lost, done := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(done)
		d.followConnection(ctx, client, lost)
	}()
	defer func() {
		cancel()
		<-done
		_ = client.Close() // the context's end, if anything
	}()
	for {
		select {
		case <-lost: // of what comes before the listing
		default:
		}
		if err := d.list(ctx, client, up); err != nil {
			d.failed("list")
			return err
		}
		err := d.watch(ctx, client, up, lost)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errReconnected):
			d.log.Info("list etcd again", "because", err)
		case errors.Is(err, rpctypes.ErrCompacted):
			d.metrics.compactions.WithLabelValues(d.name).Inc()
			d.log.Info("list etcd again", "because", err)
		default:
			d.failed("watch")
			return err
		}
	}
}

func (d *Discovery) failed(operation string) {
	d.metrics.errors.WithLabelValues(d.name, operation).Inc()
}

// followConnection keeps the gauge, and tells lost when a connection that was
// lost is back.
func (d *Discovery) followConnection(ctx context.Context, client *clientv3.Client, lost chan<- struct{}) {
	gauge := d.metrics.connected.WithLabelValues(d.name)
	conn := client.ActiveConnection()
	was, up := false, false
	for {
		now := conn.GetState()
		ready := now == connectivity.Ready
		switch {
		case ready && !up:
			gauge.Inc()
		case !ready && up:
			gauge.Dec()
			if ctx.Err() == nil {
				d.log.Warn("lose the connection to etcd; the last known targets stay")
			}
		}
		// Every round but the first means that the state has changed, even if it is
		// what it was.
		if ready && was {
			select {
			case lost <- struct{}{}:
			default:
			}
		}
		up, was = ready, was || ready
		if !conn.WaitForStateChange(ctx, now) {
			break
		}
	}
	if up {
		gauge.Dec()
	}
}

// list reads the prefix at one revision, page by page, and sends every group.
func (d *Discovery) list(ctx context.Context, client *clientv3.Client, up chan<- []*targetgroup.Group) error {
	next := newState(d.cfg.Prefix)
	key, end := d.cfg.Prefix, clientv3.GetPrefixRangeEnd(d.cfg.Prefix)
	var revision int64
	for more := true; more; {
		page, err := d.page(ctx, client, key, end, revision)
		if err != nil {
			return err
		}
		if revision == 0 { // the later pages' headers have that of their own time
			revision = page.Header.Revision
		}
		for _, kv := range page.Kvs {
			d.put(next, kv)
		}
		if more = page.More; more {
			key = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
		}
	}
	d.metrics.lists.WithLabelValues(d.name).Inc()
	if revision < d.revision {
		d.log.Warn("etcd has gone back, as after a backup was restored", "revision", revision, "before", d.revision)
	}
	changed := map[string]bool{}
	for service := range d.state.services {
		changed[service] = true
	}
	for service := range next.services {
		changed[service] = true
	}
	d.metrics.targets.WithLabelValues(d.name).Add(float64(next.targets - d.state.targets))
	d.state, d.revision = next, revision
	return send(ctx, up, next.groups(changed))
}

func (d *Discovery) page(ctx context.Context, client *clientv3.Client, key, end string, revision int64) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(d.cfg.Timeout))
	defer cancel()
	r, err := client.Get(ctx, key, clientv3.WithRange(end), clientv3.WithLimit(pageKeys), clientv3.WithRev(revision))
	if err != nil {
		return nil, fmt.Errorf("list %q: %w", key, d.cfg.explain(err))
	}
	return r, nil
}

// watch follows what changes after the listing until the watch ends.
func (d *Discovery) watch(ctx context.Context, client *clientv3.Client, up chan<- []*targetgroup.Group, lost <-chan struct{}) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	responses := client.Watch(ctx, d.cfg.Prefix, clientv3.WithPrefix(), clientv3.WithRev(d.revision+1))
	for {
		var r clientv3.WatchResponse
		select {
		case r = <-responses:
		case <-lost:
			return errReconnected
		}
		changed, before := map[string]bool{}, d.state.targets
		err := d.apply(r, changed)
		// What has come meanwhile is sent along.
		for n, waiting := 1, true; err == nil && waiting && n < gather; n++ {
			select {
			case r = <-responses:
				err = d.apply(r, changed)
			default:
				waiting = false
			}
		}
		d.metrics.targets.WithLabelValues(d.name).Add(float64(d.state.targets - before))
		if len(changed) > 0 {
			err = errors.Join(send(ctx, up, d.state.groups(changed)), err)
		}
		if err != nil {
			return err
		}
	}
}

// apply takes a response in and notes the services that it changed.
func (d *Discovery) apply(r clientv3.WatchResponse, changed map[string]bool) error {
	if err := r.Err(); err != nil {
		return fmt.Errorf("watch %q from revision %d: %w", d.cfg.Prefix, d.revision+1, err)
	}
	if r.Header == nil { // the channel is closed
		return fmt.Errorf("watch %q from revision %d: the client has ended", d.cfg.Prefix, d.revision+1)
	}
	d.revision = max(d.revision, r.Header.Revision)
	d.metrics.events.WithLabelValues(d.name).Add(float64(len(r.Events)))
	for _, e := range r.Events {
		if e.Type == clientv3.EventTypeDelete {
			changed[d.state.drop(string(e.Kv.Key))] = true
			continue
		}
		changed[d.put(d.state, e.Kv)] = true
	}
	return nil
}

// put takes a key into s. A value that makes no target is counted when it is
// seen first, and logged unless the key's value before was none either.
func (d *Discovery) put(s *state, kv *mvccpb.KeyValue) string {
	before, known := d.state.bad[string(kv.Key)] // a listing's state has none yet
	service, err := s.put(kv)
	if err == nil {
		return service
	}
	if before != kv.ModRevision {
		d.metrics.badValues.WithLabelValues(d.name).Inc()
	}
	if !known {
		d.log.Warn("skip a key of etcd that makes no target", "key", shorten(string(kv.Key)), "err", err)
	}
	return service
}

func send(ctx context.Context, up chan<- []*targetgroup.Group, groups []*targetgroup.Group) error {
	select {
	case up <- groups:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
