package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
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
