package kafka

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Any broker that is left is found: one that refuses and one whose machine is gone do not
// keep those from being tried that the cluster has named.
func TestAnyBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.Brokers = []string{"refuses:1", "gone:2"}
		up := map[string]bool{"third:3": true}
		b, err := newBrokers(&cfg, func(ctx context.Context, _, address string) (net.Conn, error) {
			if up[address] {
				here, there := net.Pipe()
				return here, there.Close()
			}
			if address == "gone:2" {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return nil, errors.New("refused " + address)
		})
		require.NoError(t, err)
		reach := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), dialTimeout)
			defer cancel()
			conn, err := b.dial(ctx, "tcp", anyBroker)
			if err == nil {
				err = conn.Close()
			}
			return err
		}
		require.ErrorContains(t, reach(), "refused refuses:1")
		conn, err := b.dial(t.Context(), "tcp", "third:3")
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		for range 20 { // in any order
			begin := time.Now()
			require.NoError(t, reach())
			require.Less(t, time.Since(begin), dialTimeout, "of the test's own clock")
		}
		for i := range 2 * maxLearnt {
			b.learn(fmt.Sprint("host:", i))
			b.learn(fmt.Sprint("host:", i))
		}
		b.learn("gone:2")
		require.Len(t, b.all(), len(cfg.Brokers)+maxLearnt)
	})
}

// A broker that is slow to answer is reached however many are named beside it, and of those that
// answer one connection stays.
func TestAnyBrokerSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.Brokers = []string{"slow:1"}
		var open atomic.Int64
		b, err := newBrokers(&cfg, func(ctx context.Context, _, address string) (net.Conn, error) {
			wait := time.Hour
			if address == "slow:1" || address == "slow:2" {
				wait = dialTimeout / 2
			}
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(wait):
			}
			here, there := net.Pipe()
			open.Add(1)
			return &countedConn{here, &open}, there.Close()
		})
		require.NoError(t, err)
		for i := range maxLearnt - 1 {
			b.learn(fmt.Sprint("gone:", i))
		}
		b.learn("slow:2")
		for range 20 { // in any order
			ctx, cancel := context.WithTimeout(t.Context(), dialTimeout)
			conn, err := b.dial(ctx, "tcp", anyBroker)
			cancel()
			require.NoError(t, err)
			require.Equal(t, int64(1), open.Load())
			require.NoError(t, conn.Close())
		}
	})
}

type countedConn struct {
	net.Conn
	open *atomic.Int64
}

func (c *countedConn) Close() error {
	c.open.Add(-1)
	return c.Conn.Close()
}

// Whoever has the address of a broker now that is gone does not end anything by showing another certificate;
// a configured one does.
func TestAnyBrokerStranger(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Brokers = []string{"configured:1"}
	refuses := "learnt:1"
	b, err := newBrokers(&cfg, func(_ context.Context, _, address string) (net.Conn, error) {
		if address == refuses {
			return nil, fmt.Errorf("connect to %s: %w", address, x509.UnknownAuthorityError{})
		}
		return nil, errors.New("refused " + address)
	})
	require.NoError(t, err)
	b.learn("learnt:1")
	_, err = b.dial(t.Context(), "tcp", anyBroker)
	require.ErrorContains(t, err, "connect to learnt:1")
	require.False(t, isRefusal(err), "got %v", err)
	refuses = "configured:1"
	_, err = b.dial(t.Context(), "tcp", anyBroker)
	require.True(t, isRefusal(err), "got %v", err)
}
