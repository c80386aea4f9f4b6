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
	"strconv"
	"strings"
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
)

// Keep keeps this process small until stop is called. The collector of garbage
// runs more often than usual, unless GOGC says how often. Call Drop first thing in
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
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	keepStart(ctx, logger)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		debug.FreeOSMemory()
		n, err := Drop()
		logger.Debug("Memory is given back", "file_bytes", n, "err", err)
	}
}

// keepStart gives back pages of the executable whenever a starting process has
// become large. It returns when the start is over.
func keepStart(ctx context.Context, logger *slog.Logger) {
	tick := time.NewTicker(startTick)
	defer tick.Stop()
	begun, times := time.Now(), 0
	for ctx.Err() == nil && time.Since(begun) < startTime {
		size, err := residentBytes()
		if err == nil && size > startRSS {
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

// residentBytes is what this process has in memory.
func residentBytes() (int64, error) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, fmt.Errorf("read how much memory is used: %w", err)
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, fmt.Errorf("read how much memory is used: got %q", text)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read how much memory is used: %w", err)
	}
	return pages * int64(os.Getpagesize()), nil
}
