//go:build unix

package kafka

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ingest/buffer"
)

// TestBrokerHangs stops the broker's process, so that connections stay open
// without answers: appends are refused in time, and all goes on afterwards.
func TestBrokerHangs(t *testing.T) {
	broker := shared.Broker(t)
	b := openTest(t, testConfig(t, broker.Addr()))
	c := consume(t, b, "g", true)
	record := func(payload string) []buffer.Record {
		return []buffer.Record{{Tenant: "t", Format: 1, Payload: []byte(payload)}}
	}
	_, err := b.Append(testContext(t), testTopic, 0, record("before"))
	require.NoError(t, err)
	c.await(t, 1)
	b.cfg.Producer.Timeout = 500 * time.Millisecond // nothing is under way
	pid := broker.Pid()
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	var full *buffer.FullError
	require.Eventually(t, func() bool { // its threads do not stop at once
		_, err := b.Append(testContext(t), testTopic, 0, record("meanwhile"))
		return errors.As(err, &full)
	}, patience, 10*time.Millisecond)
	require.Positive(t, full.RetryAfter)
	for range 2 {
		_, err := b.Append(testContext(t), testTopic, 0, record("meanwhile"))
		require.ErrorAs(t, err, &full)
	}
	require.Zero(t, b.inFlight.Load())
	require.NoError(t, syscall.Kill(pid, syscall.SIGCONT))
	require.Eventually(t, func() bool {
		_, err := b.Append(testContext(t), testTopic, 0, record("after"))
		return err == nil
	}, patience, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		all := c.all()
		return string(all[len(all)-1].Payload) == "after"
	}, patience, 10*time.Millisecond)
}
