package probe

import (
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature"
)

// TLS is looked into only when it is said whose.
func TestTLSIsOffWithoutTargets(t *testing.T) {
	c := DefaultConfig()
	c.Features = []string{"tls"}
	p, err := New(Options{Config: c, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	<-p.Started()
	state, reason := p.Feature("tls")
	require.Equal(t, feature.Off, state)
	require.Equal(t, "no targets are configured", reason)
	cancel()
	require.NoError(t, <-done)
}
