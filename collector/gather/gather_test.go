package gather_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dtopb "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/vedette-io/vedette/collector/gather"
	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/doortest"
	"github.com/vedette-io/vedette/internal/signal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start gathers registry as job node into a pipeline until stop.
func start(t *testing.T, registry prometheus.Gatherer, reg prometheus.Registerer) (p *doortest.Pipeline, stop func()) {
	t.Helper()
	p = doortest.New(t, doortest.Options{})
	entry := p.Entry("node")
	r := gather.New(gather.Options{
		Jobs:   []gather.Job{{Name: "node", Instance: "box", Gatherer: registry, Interval: 5 * time.Millisecond}},
		Tenant: "team", Logger: slog.New(slog.DiscardHandler), Registerer: reg,
		Write: func(ctx context.Context, tenant string, format buffer.Format, payload []byte) error {
			_, err := entry.Write(ctx, tenant, format, payload)
			return err
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return p, func() {
		cancel()
		require.NoError(t, <-done)
	}
}

func has(p *doortest.Pipeline, parts ...string) func() bool {
	return func() bool {
		for _, l := range p.Sink.Lines() {
			found := true
			for _, part := range parts {
				found = found && strings.Contains(l, part)
			}
			if found {
				return true
			}
		}
		return false
	}
}

// What a registry says arrives with the labels of its job, beside what a scraper
// says of itself; a series that goes ends with a staleness marker, and so do all
// of them at the end.
func TestGather(t *testing.T) {
	registry := prometheus.NewRegistry()
	gauge := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "node_thing", Help: "A thing."}, []string{"device"})
	registry.MustRegister(gauge)
	gauge.WithLabelValues("a").Set(1)
	gauge.WithLabelValues("b").Set(2)
	p, stop := start(t, registry, prometheus.NewRegistry())
	wait := func(parts ...string) {
		t.Helper()
		require.Eventually(t, has(p, parts...), time.Minute, time.Millisecond, "%q in %q", parts, p.Sink.Lines())
	}
	const labels = `instance="box", job="node"`
	wait(`team {__name__="node_thing", device="b", ` + labels + `} `)
	wait(`{__name__="up", `+labels+`} `, " 1")
	wait(`{__name__="scrape_samples_scraped", `+labels+`} `, " 2")
	gauge.DeleteLabelValues("b")
	wait(`device="b"`, "NaN:7ff0000000000002")
	require.False(t, has(p, `device="a"`, "NaN")())
	stop()
	wait(`device="a"`, "NaN:7ff0000000000002")
	wait(`"up"`, "NaN:7ff0000000000002")
}

// A family is described when it comes, not only if it was there at the start.
func TestLateFamilyIsDescribed(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "early", Help: "Was there."}, func() float64 { return 1 }))
	p, stop := start(t, registry, prometheus.NewRegistry())
	defer stop()
	described := func(name, help string) func() bool {
		return func() bool {
			return slices.ContainsFunc(p.Sink.Metadata(), func(m signal.Metadata) bool { return m.Family == name && m.Help == help })
		}
	}
	require.Eventually(t, described("early", "Was there."), time.Minute, time.Millisecond)
	late := prometheus.NewCounter(prometheus.CounterOpts{Name: "late_total", Help: "Came later."})
	registry.MustRegister(late)
	require.Eventually(t, described("late_total", "Came later."), time.Minute, time.Millisecond)
}

type broken struct{ families prometheus.Gatherer }

func (b broken) Gather() (f []*dtopb.MetricFamily, err error) {
	f, err = b.families.Gather()
	return f, errors.Join(err, errors.New("one part is broken"))
}

// A part that fails is counted, and the rest arrives.
func TestPartsFail(t *testing.T) {
	registry, own := prometheus.NewRegistry(), prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "good"}, func() float64 { return 7 }))
	p, stop := start(t, broken{registry}, own)
	require.Eventually(t, has(p, `"good"`, " 7"), time.Minute, time.Millisecond)
	require.Eventually(t, has(p, `"up"`, " 1"), time.Minute, time.Millisecond)
	stop()
	n, err := testutil.GatherAndCount(own, "vedette_collector_gather_failures_total")
	require.NoError(t, err)
	require.Equal(t, 1, n)
}
