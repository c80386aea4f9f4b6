package kafka

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ingest/buffer"
)

// appendFrom appends a message of a sender.
func appendFrom(t *testing.T, b *Buffer, session uint64, offset int64) {
	t.Helper()
	_, err := b.Append(t.Context(), testTopic, 0, []buffer.Record{{Tenant: "t", Format: 1, Payload: make([]byte, 1000),
		From: &buffer.Position{Sender: "t/x", Session: session, First: offset, Last: offset, Parts: 1}}})
	require.NoError(t, err)
}

func recalled(t *testing.T, b *Buffer, session uint64, ago time.Duration) (int64, error) {
	t.Helper()
	now := time.Now()
	last, known, err := b.Recall(t.Context(), testTopic, 0, buffer.Origin{Sender: "t/x", Session: session, Tries: buffer.Tries{From: now.Add(-ago), To: now}})
	if !known {
		return -1, err
	}
	return last.Last, err
}

// Who has been away for long and who has not do not undo what was read for the other;
// what was read is not read again, whatever order they come in.
func TestRecallReadsOnce(t *testing.T) {
	b := openTest(t, testConfig(t, shared.Broker(t).Addr()))
	for i := range int64(50) {
		appendFrom(t, b, 1, i)
	}
	read := func() float64 { return testutil.ToFloat64(b.topics[testTopic].metrics.recalledBytes) }
	want := func(session uint64, ago time.Duration, last int64) {
		t.Helper()
		got, err := recalled(t, b, session, ago)
		require.NoError(t, err)
		require.Equal(t, last, got)
	}
	want(1, time.Minute, 49)
	once := read()
	require.Positive(t, once)
	for range 5 {
		want(1, 100*time.Hour, 49)
		want(1, time.Minute, 49)
		want(1, 50*time.Hour, 49)
		want(1, time.Second, 49)
		want(2, time.Hour, -1)
	}
	require.InDelta(t, 2*once, read(), 0, "one reading near, one far")
	// Ever older: a few readings, not one each.
	for ago := 100 * time.Hour; ago < 200*time.Hour; ago += time.Hour {
		want(1, ago, 49)
	}
	require.LessOrEqual(t, read(), 4*once)
	appendFrom(t, b, 1, 50)
	want(1, time.Minute, 50)
	want(1, time.Hour, 50)
}

// Somebody who reads far back keeps one at a time waiting, for a moment, and nobody who
// has tried just now; who finds too many sessions is refused.
func TestRecallBounds(t *testing.T) {
	b := openTest(t, testConfig(t, shared.Broker(t).Addr()))
	appendFrom(t, b, 1, 1)
	var full *buffer.FullError
	<-b.farTurn // somebody reads
	_, err := recalled(t, b, 1, time.Hour)
	require.ErrorAs(t, err, &full)
	require.Positive(t, full.RetryAfter)
	got, err := recalled(t, b, 1, time.Minute)
	require.NoError(t, err)
	require.Equal(t, int64(1), got)
	b.farTurn <- struct{}{}

	<-b.topics[testTopic].partition(b, 0).near.turn
	_, err = recalled(t, b, 1, time.Minute)
	require.ErrorAs(t, err, &full)
	b.topics[testTopic].partition(b, 0).near.turn <- struct{}{}

	b.RecallOnly(func(sender string) bool { return sender == "t/y" })
	appendFrom(t, b, 3, 1)
	got, err = recalled(t, b, 3, time.Minute)
	require.NoError(t, err)
	require.Equal(t, int64(-1), got, "of others nothing is kept")
	b.RecallOnly(nil)

	kept := b.recalled.Load()
	b.recalled.Store(maxRecalled)
	appendFrom(t, b, 2, 1)
	_, err = recalled(t, b, 2, time.Minute)
	require.ErrorAs(t, err, &full)
	got, err = recalled(t, b, 1, time.Minute)
	require.NoError(t, err)
	require.Equal(t, int64(1), got, "those that are kept are known")
	b.recalled.Store(kept)
	p := b.topics[testTopic].partition(b, 0)
	p.near.drop(b)
	require.Zero(t, b.recalled.Load())

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = b.Recall(ctx, testTopic, 0, buffer.Origin{Sender: "t/x", Session: 1, Tries: buffer.Tries{To: time.Now()}})
	require.True(t, errors.As(err, &full), "got %v", err)
}

// A sender whose clock was not set has tried in 1970, and one that says it was before is looked for, too.
func TestRecallLongAgo(t *testing.T) {
	b := openTest(t, testConfig(t, shared.Broker(t).Addr()))
	appendFrom(t, b, 1, 7)
	for _, ago := range []time.Duration{time.Since(time.Unix(0, 0)), 100 * 365 * 24 * time.Hour, math.MaxInt64} {
		got, err := recalled(t, b, 1, ago)
		require.NoError(t, err, ago)
		require.Equal(t, int64(7), got, ago)
	}
}
