//go:build unix

package buffer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/vedette-io/vedette/internal/vfs"
)

// benchLog returns a log on real files; its payloads of some 100 KB stand for
// requests of 5,000 samples.
func benchLog(b *testing.B, mode SyncMode) (*Log, []byte) {
	cfg := DefaultConfig()
	cfg.Sync = mode
	cfg.MaxBytes = 0
	l, err := Open(cfg, vfs.OS, b.TempDir(), nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { closeTest(b, l) })
	payload := make([]byte, benchPayload)
	rng := rand.NewChaCha8([32]byte{})
	_, _ = rng.Read(payload)
	return l, payload
}

const (
	benchPayload = 100 << 10
	benchSamples = 5000
	// benchBacklog bounds what lies on disk; the consumer commits in between.
	benchBacklog = 512 << 20
)

// cpuSeconds returns what the process has used, kernel included.
func cpuSeconds() float64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

// BenchmarkAppend has four connections append while a consumer takes the
// attachments. cpu-ns/sample is the process's CPU time, kernel included, per
// sample of a request.
func BenchmarkAppend(b *testing.B) {
	for _, mode := range []SyncMode{SyncAlways, SyncInterval, SyncNever} {
		b.Run(string(mode), func(b *testing.B) {
			l, payload := benchLog(b, mode)
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error)
			go func() {
				ended <- l.Consume(ctx, "g", testTopic, func(ctx context.Context, c Claim) error {
					var bytes int64
					for {
						msgs, err := c.Next(ctx)
						if err != nil {
							return err
						}
						if bytes += int64(len(msgs)) * benchPayload; bytes < benchBacklog/4 {
							continue
						}
						bytes = 0
						if err := c.Commit(ctx, msgs[len(msgs)-1].Offset+1); err != nil {
							return err
						}
					}
				})
			}()
			record := Record{Tenant: "default", Format: FormatRemoteWriteV1, Payload: payload, Attachment: &struct{ x int }{}}
			var failed atomic.Value
			b.SetBytes(benchPayload)
			b.ReportAllocs()
			b.SetParallelism(2)
			before := cpuSeconds()
			b.RunParallel(func(pb *testing.PB) {
				records := []Record{record}
				for pb.Next() {
					if _, err := l.Append(ctx, testTopic, 0, records); err != nil {
						failed.Store(err)
					}
				}
			})
			b.ReportMetric((cpuSeconds()-before)*1e9/float64(b.N)/benchSamples, "cpu-ns/sample")
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

// BenchmarkReplay reads a backlog back, as after a crash.
func BenchmarkReplay(b *testing.B) {
	for _, size := range []int{1 << 10, benchPayload} {
		b.Run(fmt.Sprintf("payload=%d", size), func(b *testing.B) {
			l, payload := benchLog(b, SyncNever)
			const total = 256 << 20
			records := make([]Record, max(1, benchPayload/size))
			for i := range records {
				records[i] = Record{Tenant: "default", Payload: payload[:size]}
			}
			n := 0
			for ; n*size < total; n += len(records) {
				if _, err := l.Append(context.Background(), testTopic, 0, records); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(n * size))
			b.ReportAllocs()
			stop := errors.New("enough")
			err := l.Consume(context.Background(), "g", testTopic, func(ctx context.Context, c Claim) error {
				b.ResetTimer()
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
				return stop
			})
			if !errors.Is(err, stop) {
				b.Fatal(err)
			}
		})
	}
}
