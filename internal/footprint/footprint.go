// Package footprint keeps a process small that shares its host with those whom the
// host is for: it gives back what only the start has needed, and now and then what has
// not been needed since. Most of that is pages of the executable, which stay in the
// kernel's page cache.
package footprint

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

const (
	gcPercent = 25
	interval  = 15 * time.Second

	// While a process starts it runs through most of the executable once: what it may
	// take of memory then is looked at more often.
	startTime = 30 * time.Second
	startTick = 20 * time.Millisecond
	startRSS  = 46 << 20
	startMap  = 16 << 20 // of files: less is not worth it, and what is used would be taken away

	// With more than that on the heap a process is not small, and what is saved is not
	// worth what it costs: garbage is collected as usual.
	smallHeap = 64 << 20
)

// Keep keeps this process small until stop is called. The collector of garbage
// runs more often than usual while there is little on the heap, unless GOGC says how often. Call Drop first thing in
// main, for what packages have run through before.
func Keep(logger *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { keep(ctx, logger) })
	return func() {
		cancel()
		wg.Wait()
	}
}

func keep(ctx context.Context, logger *slog.Logger) {
	frugal := os.Getenv("GOGC") == ""
	percent := 0
	collect := func(heap uint64) {
		if want := percentFor(heap); frugal && want != percent {
			percent = want
			debug.SetGCPercent(percent)
		}
	}
	collect(0)
	keepStart(ctx, logger)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		heap := liveHeap()
		collect(heap)
		if heap <= smallHeap {
			debug.FreeOSMemory()
		}
		n, err := Drop()
		logger.Debug("Memory is given back", "file_bytes", n, "err", err)
	}
}

func percentFor(heap uint64) int {
	if heap > smallHeap {
		return 100
	}
	return gcPercent
}

// liveHeap is what the last collection of garbage has left.
func liveHeap() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	if metrics.Read(sample); sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}

// keepStart gives back pages of the executable whenever a starting process has
// become large. It returns when the start is over.
func keepStart(ctx context.Context, logger *slog.Logger) {
	tick := time.NewTicker(startTick)
	defer tick.Stop()
	begun, times := time.Now(), 0
	for ctx.Err() == nil && time.Since(begun) < startTime {
		size, files, err := residentBytes()
		if err == nil && size > startRSS && files > startMap {
			_, err = Drop()
			times++
		}
		if err != nil {
			logger.Debug("Memory of the start is not given back", "err", err)
			return
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	logger.Debug("Memory of the start was given back", "times", times)
}

// residentBytes is what this process has in memory, and how much of that comes from
// files.
func residentBytes() (all, files int64, err error) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, 0, fmt.Errorf("read how much memory is used: %w", err)
	}
	var size int64
	if _, err := fmt.Sscan(string(text), &size, &all, &files); err != nil {
		return 0, 0, fmt.Errorf("read how much memory is used: got %q: %w", text, err)
	}
	page := int64(os.Getpagesize())
	return all * page, files * page, nil
}
