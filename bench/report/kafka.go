package report

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/bench/crash"
	"github.com/vedette-io/vedette/bench/gen"
	"github.com/vedette-io/vedette/bench/peer"
	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/buffer/kafka"
	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/remotewrite"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/tenant"
)

// KafkaKey is the name of the scenario with Kafka as the buffer.
const KafkaKey = "KAFKA"

// BrokerUse is what a broker used while a peer was under load.
type BrokerUse struct {
	CreateCPU time.Duration `json:"create_cpu_nanos"`
	SteadyCPU time.Duration `json:"steady_cpu_nanos"`
	Memory    peer.Memory   `json:"memory"`
	Log       peer.Disk     `json:"log"`

	last time.Duration
}

// KafkaReport compares Kafka with the embedded buffer.
type KafkaReport struct {
	Broker  string      `json:"broker"` // version
	Loads   []KafkaLoad `json:"loads"`
	CatchUp *CatchUp    `json:"catch_up,omitempty"`
	// Crashes are rounds of kill -9: of the store, of one of two stores, of the broker.
	Crashes []*crash.Report `json:"crashes,omitempty"`
}

// KafkaLoad is one load with both buffers: the embedded one as it comes, with one
// partition, and Kafka with one; and both with as many as a topic is created with,
// which divides requests.
type KafkaLoad struct {
	Embedded Result `json:"embedded"`
	Divided  Result `json:"divided"`
	Single   Result `json:"single"` // Kafka with one partition
	Kafka    Result `json:"kafka"`
}

// kafkaPartitions is how many partitions Vedette creates a topic with.
const kafkaPartitions = 4

// CatchUp is how a store caught up with what came while it was down.
type CatchUp struct {
	Title     string        `json:"title"`
	Samples   int64         `json:"samples"`
	DataTime  time.Duration `json:"data_time_nanos"` // that the samples span
	Bytes     int64         `json:"bytes"`           // of the broker's log
	Wall      time.Duration `json:"wall_nanos"`      // from the start of the process to the last message
	CPU       time.Duration `json:"cpu_nanos"`
	BrokerCPU time.Duration `json:"broker_cpu_nanos"`
	Peak      int64         `json:"peak_bytes"`
	Missing   int64         `json:"missing"` // samples that a count then did not find
}

// Speed is how many times faster than real time the store caught up.
func (c *CatchUp) Speed() float64 { return c.DataTime.Seconds() / max(1e-9, c.Wall.Seconds()) }

// startBrokerUse begins to count what the broker uses.
func (x *run) startBrokerUse() (err error) {
	if x.broker == nil {
		return nil
	}
	x.res.Broker = new(BrokerUse)
	x.res.Broker.last, err = x.broker.CPU()
	return err
}

func (x *run) noteBrokerCreate() (err error) {
	if x.broker == nil {
		return nil
	}
	x.res.Broker.CreateCPU, err = x.brokerCPU()
	return err
}

func (x *run) noteBrokerSteady() (err error) {
	b := x.res.Broker
	if b == nil {
		return nil
	}
	if b.SteadyCPU, err = x.brokerCPU(); err != nil {
		return err
	}
	if b.Memory, err = x.broker.Memory(); err != nil {
		return err
	}
	b.Log, err = x.broker.LogSize()
	return err
}

// brokerCPU returns what the broker has used since it was last asked.
func (x *run) brokerCPU() (time.Duration, error) {
	now, err := x.broker.CPU()
	used := now - x.res.Broker.last
	x.res.Broker.last = now
	return used, err
}

// RunKafka puts Vedette under the loads of scenarios A and B, with either
// buffer, and lets it catch up with an hour.
func (r *Runner) RunKafka(ctx context.Context, vedette peer.Spec, shrink int, done func(*KafkaReport) error) error {
	out := new(KafkaReport)
	for _, s := range Scenarios(shrink) {
		if s.Key == Churn {
			continue
		}
		s.Queries, s.Crash = false, false
		if s.Key == Long {
			s = s.Resize(0, max(20, s.Scrapes/4)) // the same series, an hour of them
		}
		load, err := r.runKafkaLoad(ctx, vedette, s, out)
		if err != nil {
			return err
		}
		out.Loads = append(out.Loads, load)
		if err := done(out); err != nil {
			return err
		}
	}
	var err error
	if out.CatchUp, err = r.catchUp(ctx, vedette, shrink); err != nil {
		return fmt.Errorf("catch up from kafka: %w", err)
	}
	return done(out)
}

func (r *Runner) runKafkaLoad(ctx context.Context, vedette peer.Spec, s Scenario, rep *KafkaReport) (load KafkaLoad, err error) {
	spool, err := r.writeSpool(s)
	if err != nil {
		return load, err
	}
	defer func() { err = errors.Join(err, spool.Close()) }()
	if load.Embedded, err = r.runPeer(ctx, s, vedette, spool, nil); err != nil {
		return load, fmt.Errorf("run load %s on the embedded buffer: %w", s.Key, err)
	}
	divided := vedette.WithConfig(fmt.Sprintf("buffer:\n  partitions: {%s: %d}\n", buffer.TopicMetrics, kafkaPartitions))
	if load.Divided, err = r.runPeer(ctx, s, divided, spool, nil); err != nil {
		return load, fmt.Errorf("run load %s on the embedded buffer, divided: %w", s.Key, err)
	}
	err = r.withBroker(func(b *peer.Broker) error {
		one := b.Config(fmt.Sprintf("topics: {partitions: {%s: 1}}", buffer.TopicMetrics))
		load.Single, err = r.runPeer(ctx, s, vedette.WithConfig(one), spool, b)
		return err
	})
	if err != nil {
		return load, fmt.Errorf("run load %s on kafka with one partition: %w", s.Key, err)
	}
	err = r.withBroker(func(b *peer.Broker) error {
		rep.Broker = b.Version()
		load.Kafka, err = r.runPeer(ctx, s, vedette.WithConfig(b.Config()), spool, b)
		return err
	})
	if err != nil {
		return load, fmt.Errorf("run load %s on kafka: %w", s.Key, err)
	}
	load.Kafka.Title = "Vedette on Kafka"
	return load, nil
}

// withBroker runs a new broker for as long as f takes.
func (r *Runner) withBroker(f func(*peer.Broker) error) (err error) {
	dir, done, err := r.prepareDir("kafka")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	b, err := peer.StartBroker(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Kill()) }()
	return f(b)
}

// catchUp fills the topic while no store runs and then starts one.
func (r *Runner) catchUp(ctx context.Context, vedette peer.Spec, shrink int) (out *CatchUp, err error) {
	s := Scenario{Key: "catch-up"}.Resize(max(10, 100/shrink), 240)
	spool, err := r.writeSpool(s)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, spool.Close()) }()
	out = &CatchUp{Title: s.Title, Samples: spool.Samples, DataTime: time.Duration(s.Scrapes) * gen.IntervalMillis * time.Millisecond}
	err = r.withBroker(func(b *peer.Broker) error {
		if err := r.fillTopic(ctx, b, spool); err != nil {
			return err
		}
		return r.measureCatchUp(ctx, vedette.WithConfig(b.Config()), b, &run{Runner: r, s: s, spool: spool}, out)
	})
	return out, err
}

// fillTopic writes the load as a door of a process without a store would.
func (r *Runner) fillTopic(ctx context.Context, b *peer.Broker, spool *gen.Spool) (err error) {
	quiet := slog.New(slog.DiscardHandler)
	reg := prometheus.NewRegistry()
	buf, err := kafka.Open(ctx, b.ClientConfig(), []string{buffer.TopicMetrics}, quiet, reg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, buf.Close()) }()
	formats := new(wire.Formats)
	remotewrite.Register(formats)
	d, err := door.New(door.Options{
		Buffer: buf, Config: door.DefaultConfig(), Formats: formats, MaxRecordBytes: int(buf.MaxRecordBytes()), Plain: true,
		Logger: quiet, Registerer: reg,
	})
	if err != nil {
		return err
	}
	defer d.Close()
	entry, err := d.Entry("bench", door.EntryConfig{})
	if err != nil {
		return err
	}
	// Some requests at a time, in order within a scrape's reach.
	requests := make(chan gen.Request)
	var wg sync.WaitGroup
	errs := make([]error, connections)
	for w := range connections {
		wg.Go(func() {
			var body []byte
			for q := range requests {
				if errs[w] != nil {
					continue
				}
				if body, errs[w] = spool.Body(body[:0], q); errs[w] == nil {
					_, errs[w] = entry.Write(ctx, tenant.Default, buffer.FormatRemoteWriteV1, body)
				}
			}
		})
	}
	for _, q := range spool.Requests {
		requests <- q
	}
	close(requests)
	wg.Wait()
	return errors.Join(errs...)
}

// measureCatchUp starts the store and measures until it says that it has read
// all there is.
func (r *Runner) measureCatchUp(ctx context.Context, spec peer.Spec, b *peer.Broker, x *run, out *CatchUp) (err error) {
	log, err := b.LogSize()
	if err != nil {
		return err
	}
	out.Bytes = log.Bytes
	before, err := b.CPU()
	if err != nil {
		return err
	}
	dir, done, err := r.prepareDir("run-catch-up")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	if x.p, err = spec.Start(dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, x.p.Kill()) }()
	if out.Wall, err = x.p.WaitReady(ctx); err != nil {
		return err
	}
	if out.CPU, err = x.p.CPU(); err != nil {
		return err
	}
	after, err := b.CPU()
	if err != nil {
		return err
	}
	out.BrokerCPU = after - before
	m, err := x.p.Memory()
	if err != nil {
		return err
	}
	out.Peak = m.Peak
	found, err := x.count(ctx, x.s.Scrapes)
	out.Missing = out.Samples - found
	r.Log.Info("caught up", "load", out.Title, "wall", out.Wall.Round(time.Millisecond), "speed", int(out.Speed()),
		"cpu", out.CPU.Round(time.Millisecond), "broker_cpu", out.BrokerCPU.Round(time.Millisecond), "missing", out.Missing)
	return err
}
