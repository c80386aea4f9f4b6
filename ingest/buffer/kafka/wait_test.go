package kafka

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ingest/buffer"
)

// A consumer that never waits for long gets what others produce all the same.
func TestShortWaits(t *testing.T) {
	ctx := testContext(t)
	cfg := testConfig(t, shared.Broker(t).Addr())
	here, there := openTest(t, cfg), openTest(t, cfg)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	got := make(chan string, 10)
	done := make(chan error, 1)
	go func() {
		done <- here.Consume(ctx, "g", buffer.TopicMetrics, func(ctx context.Context, c buffer.Claim) error {
			for ctx.Err() == nil {
				short, cancel := context.WithTimeout(ctx, quietBeforeFetch/5)
				messages, err := c.Next(short)
				cancel()
				if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					return err
				}
				for _, m := range messages {
					got <- string(m.Payload)
				}
			}
			return nil
		})
	}()
	_, err := here.Joined(ctx, buffer.TopicMetrics)
	require.NoError(t, err)
	for _, payload := range []string{"one", "two", "three"} {
		_, err := there.Append(ctx, buffer.TopicMetrics, 0, []buffer.Record{{Tenant: "t", Format: buffer.FormatOTLP, Payload: []byte(payload)}})
		require.NoError(t, err)
		select {
		case p := <-got:
			require.Equal(t, payload, p)
		case <-time.After(30 * time.Second):
			t.Fatalf("%s did not come", payload)
		}
	}
	stop()
	if err := <-done; err != nil {
		require.ErrorIs(t, err, context.Canceled)
	}
}
