//go:build unix

package kafka

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/buffer/kafkatest"
)

// Payloads of some 100 KB stand for requests of 5,000 samples.
const (
	benchPayload = 100 << 10
	benchSamples = 5000
)

// cpuSeconds returns what this process has used, kernel included; the broker is
// another process.
func cpuSeconds() float64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

func benchBuffer(b *testing.B, codec string) (*Buffer, []byte) {
	broker := kafkatest.Start(b, kafkatest.Options{Optimize: true})
	cfg := testConfig(b, broker.Addr())
	cfg.Topics.MaxMessageBytes = DefaultConfig().Topics.MaxMessageBytes
	cfg.Topics.Retention.Bytes = 256 << 20
	cfg.Producer.Compression = codec
	payload := make([]byte, benchPayload)
	rng := rand.NewChaCha8([32]byte{})
	_, _ = rng.Read(payload)
	return openTest(b, cfg), payload
}

func reportCPU(b *testing.B, seconds float64, messages int) {
	b.ReportMetric(seconds*1e9/float64(messages)/benchSamples, "cpu-ns/sample")
	b.ReportMetric(seconds*1e6/(float64(messages)*benchPayload/1e6), "cpu-µs/MB")
}

// BenchmarkAppend has eight connections append while a consumer of the same
// process takes the attachments.
func BenchmarkAppend(b *testing.B) {
	for _, codec := range []string{"none", "lz4", "zstd"} {
		b.Run(codec, func(b *testing.B) {
			k, payload := benchBuffer(b, codec)
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error)
			go func() {
				ended <- k.Consume(ctx, "g", testTopic, func(ctx context.Context, c buffer.Claim) error {
					for {
						if _, err := c.Next(ctx); err != nil {
							return err
						}
					}
				})
			}()
			record := buffer.Record{Tenant: "default", Format: buffer.FormatOTLP, MinTime: 1, MaxTime: 2, Payload: payload, Attachment: &struct{ x int }{}}
			if _, err := k.Append(ctx, testTopic, 0, []buffer.Record{record}); err != nil {
				b.Fatal(err)
			}
			var failed atomic.Value
			b.SetBytes(benchPayload)
			b.ReportAllocs()
			b.SetParallelism(4)
			b.ResetTimer()
			before := cpuSeconds()
			b.RunParallel(func(pb *testing.PB) {
				records := []buffer.Record{record}
				for pb.Next() {
					if _, err := k.Append(ctx, testTopic, 0, records); err != nil {
						failed.Store(err)
					}
				}
			})
			reportCPU(b, cpuSeconds()-before, b.N)
			b.StopTimer()
			cancel()
			if err := <-ended; err != nil {
				b.Fatal(err)
			}
			if err := failed.Load(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkReplay fetches a backlog, as after a crash.
func BenchmarkReplay(b *testing.B) {
	for _, size := range []int{1 << 10, benchPayload} {
		b.Run(fmt.Sprintf("payload=%d", size), func(b *testing.B) {
			k, payload := benchBuffer(b, "none")
			const total = 128 << 20
			records := make([]buffer.Record, max(1, benchPayload/size))
			for i := range records {
				records[i] = buffer.Record{Tenant: "default", Format: 1, Payload: payload[:size]}
			}
			n := 0
			for ; n*size < total; n += len(records) {
				if _, err := k.Append(context.Background(), testTopic, 0, records); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(n * size))
			b.ReportAllocs()
			stop := errors.New("enough")
			err := k.Consume(context.Background(), "g", testTopic, func(ctx context.Context, c buffer.Claim) error {
				if c.Partition() != 0 {
					<-ctx.Done()
					return nil
				}
				b.ResetTimer()
				before := cpuSeconds()
				for range b.N {
					c.StartAt(0)
					for next := int64(0); next < int64(n); {
						msgs, err := c.Next(ctx)
						if err != nil {
							return err
						}
						next = msgs[len(msgs)-1].Offset + 1
					}
				}
				b.StopTimer()
				b.ReportMetric((cpuSeconds()-before)*1e6/(float64(b.N)*float64(n*size)/1e6), "cpu-µs/MB")
				return stop
			})
			if !errors.Is(err, stop) {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkRecall reads what a repeated request makes a server read: 100 MB of messages, to find
// the newest position of a sender.
func BenchmarkRecall(b *testing.B) {
	const messages = 1000
	k, payload := benchBuffer(b, "none")
	for i := range int64(messages) {
		if _, err := k.Append(b.Context(), testTopic, 0, []buffer.Record{{Tenant: "t", Format: buffer.FormatRemoteWriteV1, Payload: payload,
			From: &buffer.Position{Sender: "t/x", Session: 1, First: i, Last: i, Parts: 1}}}); err != nil {
			b.Fatal(err)
		}
	}
	far := k.topics[testTopic].partition(k, 0).far
	now := time.Now()
	b.SetBytes(messages * benchPayload)
	cpu := cpuSeconds()
	for b.Loop() {
		<-far.turn
		far.drop(k)
		far.turn <- struct{}{}
		last, _, err := k.Recall(b.Context(), testTopic, 0, buffer.Origin{Sender: "t/x", Session: 1, Tries: buffer.Tries{From: now.Add(-time.Hour), To: now}})
		if err != nil || last.Last != messages-1 {
			b.Fatal(last, err)
		}
	}
	b.ReportMetric((cpuSeconds()-cpu)*1e6/(float64(b.N)*messages*benchPayload/1e6), "cpu-µs/MB")
}
