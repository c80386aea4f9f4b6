package kafka

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/vedette-io/vedette/internal/tlsclient"
)

// anyBroker is the address for requests that every broker answers, such as those for
// metadata: kafka-go knows but the addresses that it was given for them, so a cluster of which
// those brokers are gone would be lost to it.
const anyBroker = "any-broker.invalid:9092"

// maxLearnt bounds how many addresses are kept beside the configured ones.
const maxLearnt = 64

// brokers connects to brokers, and knows where there are some.
type brokers struct {
	connect    func(ctx context.Context, network, address string) (net.Conn, error)
	configured []string

	mu     sync.Mutex // guards what follows
	learnt []string   // others that the cluster has named, the newest last
}

func newBrokers(cfg *Config, dial func(ctx context.Context, network, address string) (net.Conn, error)) (*brokers, error) {
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext
	}
	if cfg.TLS.Enabled {
		source, err := tlsclient.New(cfg.TLS.files())
		if err != nil {
			return nil, err
		}
		dial = source.Dialer(dial)
	}
	return &brokers{connect: dial, configured: cfg.Brokers}, nil
}

// dial connects to an address that the cluster has named, or to any broker.
func (b *brokers) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if address == anyBroker {
		return b.dialAny(ctx, network)
	}
	conn, err := b.connect(ctx, network, address)
	if err == nil {
		b.learn(address)
	}
	return conn, err
}

// dialAny tries the configured brokers, then the others, and the next one whenever one has failed
// or has had its share of the time: one whose machine is gone does not answer at all, and one that
// is far away may yet, so those that were tried go on until one has answered.
func (b *brokers) dialAny(ctx context.Context, network string) (net.Conn, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(dialTimeout)
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	type outcome struct {
		conn net.Conn
		err  error
	}
	all := b.all()
	outcomes := make(chan outcome, len(all))
	var wg sync.WaitGroup
	defer func() { // the others give up
		cancel()
		wg.Wait()
		close(outcomes)
		for o := range outcomes {
			if o.err == nil {
				_ = o.conn.Close()
			}
		}
	}()
	started := 0
	start := func() {
		if started == len(all) {
			return
		}
		i := started
		started++
		wg.Go(func() {
			conn, err := b.connect(ctx, network, all[i])
			if err != nil && i >= len(b.configured) {
				err = errors.New(err.Error()) // somebody else may have the address by now, and refuses nothing
			}
			outcomes <- outcome{conn, err}
		})
	}
	share := time.NewTicker(max(time.Until(deadline)/time.Duration(len(all)), time.Millisecond))
	defer share.Stop()
	var errs []error
	for start(); len(errs) < len(all); start() {
		select {
		case o := <-outcomes:
			if o.err == nil {
				return o.conn, nil
			}
			if errs = append(errs, o.err); ctx.Err() != nil {
				return nil, errors.Join(errs...)
			}
		case <-share.C:
		}
	}
	return nil, errors.Join(errs...)
}

// all returns the addresses in the order in which they are tried.
func (b *brokers) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := slices.Concat(b.configured, b.learnt)
	for _, part := range [][]string{all[:len(b.configured)], all[len(b.configured):]} {
		rand.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
	}
	return all
}

// learn keeps an address.
func (b *brokers) learn(address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.Contains(b.configured, address) || slices.Contains(b.learnt, address) {
		return
	}
	b.learnt = append(b.learnt, address)
	if n := len(b.learnt) - maxLearnt; n > 0 {
		b.learnt = slices.Delete(b.learnt, 0, n)
	}
}
