package probe

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf/rlimit"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature"
)

// What this kernel takes of every feature: each rung is loaded and let go, or says
// why not, those of spans, too. ebpf/kernels makes its table of what is logged here.
func TestLadders(t *testing.T) {
	_ = rlimit.RemoveMemlock() // see feature.Climb
	for name, ratio := range map[string]float64{"": 0, "+spans": 0.1} {
		c := DefaultConfig()
		c.Spans.Ratio = ratio
		p, err := New(Options{
			Config: c, Logger: slog.New(slog.DiscardHandler),
			WriteSpans: func(context.Context, []byte) error { return nil },
		})
		require.NoError(t, err)
		p.env.Self = uint32(os.Getpid())
		for _, f := range p.features {
			if ratio > 0 && f.Name() != "http" {
				continue // the programs of others are the same
			}
			t.Run(f.Name()+name, func(t *testing.T) {
				for _, r := range f.Ladder() {
					require.NotEmpty(t, r.Way)
					tryRung(t, f, p.env, r)
				}
			})
		}
	}
}

func tryRung(t *testing.T, f feature.Feature, env *feature.Environment, r feature.Rung) {
	began := time.Now()
	err := r.Load(env)
	took := time.Since(began).Round(time.Millisecond)
	if err != nil {
		t.Logf("way %s: refused in %v: %v", r.Way, took, err)
		return
	}
	t.Logf("way %s: loaded in %v", r.Way, took)
	require.NoError(t, f.Close())
}
