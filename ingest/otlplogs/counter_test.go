package otlplogs

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/vedette-io/vedette/ingest"
	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pipeline is a door and a Counter at both ends of a buffer.
type pipeline struct {
	log      *buffer.Log
	door     *door.Door
	entry    *door.Entry
	consumer *ingest.Consumer
	counts   *prometheus.Registry
	stop     func()
}

func openPipeline(t *testing.T, fsys vfs.FS) *pipeline {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	cfg := buffer.DefaultConfig()
	cfg.Partitions = map[string]int{buffer.TopicLogs: 2}
	cfg.SegmentBytes = 64 << 10
	cfg.RetentionByTopic = map[string]buffer.Retention{buffer.TopicLogs: {Bytes: 256 << 10}}
	l, err := buffer.Open(cfg, fsys, "log", quiet, nil)
	require.NoError(t, err)
	formats := &wire.Formats{}
	Register(formats)
	p := &pipeline{log: l, counts: prometheus.NewRegistry()}
	p.consumer, err = ingest.NewConsumer(ingest.ConsumerOptions{
		Buffer: l, LogSink: NewCounter(p.counts), Config: ingest.DefaultConsumerConfig(), Formats: formats, Logger: quiet, Registerer: prometheus.NewRegistry(),
	})
	require.NoError(t, err)
	require.Equal(t, "vedette.store.logs", p.consumer.Group())
	answers := door.DefaultConfig()
	answers.StoreTimeout = time.Minute // so that what was answered was counted, however slow the machine is
	p.door, err = door.New(door.Options{Buffer: l, Config: answers, Formats: formats, MaxRecordBytes: 1 << 20, Logger: quiet, Registerer: prometheus.NewRegistry()})
	require.NoError(t, err)
	p.entry, err = p.door.Entry("otlp", door.EntryConfig{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.consumer.Run(ctx) }()
	<-p.consumer.CaughtUp()
	p.stop = func() {
		p.door.Close()
		require.NoError(t, p.consumer.Drain(context.Background()))
		require.NoError(t, p.consumer.Commit(context.Background()))
		cancel()
		require.NoError(t, <-done)
		require.NoError(t, l.Close())
	}
	return p
}

// messages reads what a new group finds in the buffer.
func (p *pipeline) messages(t *testing.T, group string) (records int) {
	t.Helper()
	for i := range p.log.Partitions(buffer.TopicLogs) {
		ctx, cancel := context.WithCancel(t.Context())
		err := p.log.Consume(ctx, fmt.Sprintf("%s-%d", group, i), buffer.TopicLogs, func(ctx context.Context, c buffer.Claim) error {
			if c.Partition() != i {
				return nil
			}
			defer cancel()
			for next := c.Oldest(); next < c.HighWatermark(); {
				messages, err := c.Next(ctx)
				if err != nil {
					return err
				}
				for _, m := range messages {
					r := New()
					if err := r.Decode(m.Format, m.Payload, wire.Limits{}); err != nil {
						return err
					}
					records += r.Logs.Len()
					next = m.Offset + 1
				}
			}
			return nil
		})
		cancel()
		require.NoError(t, err)
	}
	return records
}

// Log records are acknowledged, counted once, and stay in the buffer though they
// were consumed, within its retention; after a restart nothing is counted again.
func TestKept(t *testing.T) {
	fsys := vfs.NewMem()
	p := openPipeline(t, fsys)
	body := marshal(t, benchLogs(300))
	w, err := p.entry.Write(t.Context(), "team", buffer.FormatOTLPLogs, body)
	require.NoError(t, err)
	require.Equal(t, door.Written{Records: 300}, w)
	const want = `
# HELP vedette_ingest_kept_log_records_total Log records that came out of the buffer, which keeps them for its retention, by tenant, service.name and severity. Services beyond the first 1000 are together.
# TYPE vedette_ingest_kept_log_records_total counter
vedette_ingest_kept_log_records_total{service="checkout",severity="info",tenant="team"} 300
`
	require.NoError(t, testutil.GatherAndCompare(p.counts, strings.NewReader(want), "vedette_ingest_kept_log_records_total"))
	p.stop()

	p = openPipeline(t, fsys)
	n, err := testutil.GatherAndCount(p.counts)
	require.NoError(t, err)
	require.Zero(t, n)
	require.Equal(t, 300, p.messages(t, "look"), "consumed and kept")
	p.stop()

	p = openPipeline(t, vfs.NewMem())
	for range 200 { // of which the newest 256 KiB stay, and what is not finished
		_, err := p.entry.Write(t.Context(), "team", buffer.FormatOTLPLogs, body)
		require.NoError(t, err)
	}
	require.NoError(t, p.consumer.Drain(t.Context()))
	require.NoError(t, p.consumer.Commit(t.Context()))
	left := p.messages(t, "look")
	require.Greater(t, left, 1000)
	require.Less(t, left, 200*300/2)
	p.stop()
}

// A request larger than the buffer's largest record is divided; a record that does
// not fit on its own is refused before.
func TestLarge(t *testing.T) {
	p := openPipeline(t, vfs.NewMem())
	ld := benchLogs(20_000)
	for _, rl := range ld.ResourceLogs().All() {
		for _, lr := range rl.ScopeLogs().At(0).LogRecords().All() {
			lr.Attributes().PutEmptyBytes("noise").FromRaw(randomBytes(200))
		}
	}
	big := ld.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords()
	big.AppendEmpty().Body().SetEmptyBytes().FromRaw(randomBytes(800_000))
	big.AppendEmpty().Body().SetEmptyBytes().FromRaw(randomBytes(1 << 20))
	w, err := p.entry.Write(t.Context(), "team", buffer.FormatOTLPLogs, marshal(t, ld))
	var partial *door.PartialError
	require.ErrorAs(t, err, &partial)
	require.Equal(t, 1, partial.Samples)
	require.ErrorContains(t, err, "record with its resource and scope has 1048")
	require.Equal(t, 20_001, w.Records)
	p.stop()
}

func randomBytes(n int) []byte {
	r := newRandom(uint64(n))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// Metrics are bounded whatever tenants and services there are, and a message that
// comes twice counts once.
func TestCounterBounds(t *testing.T) {
	reg := prometheus.NewRegistry()
	c := NewCounter(reg)
	batch := func(tenant, service string) *signal.Logs {
		l := &signal.Logs{Tenant: tenant, Buf: []byte(service), Services: []signal.LogService{{Bytes: 10}}}
		l.Services[0].Name.Len = uint32(len(service))
		l.Services[0].BySeverity[signal.SeverityError] = 2
		return l
	}
	offset := int64(0)
	add := func(tenant, service string) {
		r, err := c.AppendLogs(t.Context(), batch(tenant, service), "src", buffer.TopicLogs, 0, offset)
		require.NoError(t, err)
		require.Equal(t, signal.AppendResult{Appended: 2}, r)
		offset++
	}
	for i := range 3000 {
		add("a", fmt.Sprint("service-", i))
		add(fmt.Sprint("tenant-", i), "s")
	}
	add("a", strings.Repeat("long", 100))
	n, err := testutil.GatherAndCount(reg, "vedette_ingest_kept_log_records_total")
	require.NoError(t, err)
	require.LessOrEqual(t, n, maxPlaces+maxTenants+1)
	require.Equal(t, offset, c.Durable("src", buffer.TopicLogs, 0))
	r, err := c.AppendLogs(t.Context(), batch("a", "again"), "src", buffer.TopicLogs, 0, offset-1)
	require.NoError(t, err)
	require.Equal(t, signal.AppendResult{Duplicates: 2}, r)
	require.Zero(t, c.Durable("src", buffer.TopicLogs, 1))
	require.Greater(t, c.Covered("src", buffer.TopicLogs, 1), int64(time.Hour))
}
