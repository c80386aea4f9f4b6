package main

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
	smallGCPercent = 25
	smallInterval  = 15 * time.Second

	// While an agent starts it runs through most of the executable once: what it may
	// take of memory then is looked at more often.
	smallStart     = 30 * time.Second
	smallStartTick = 20 * time.Millisecond
	smallStartRSS  = 46 << 20
)

// whileSmall keeps this process small until stop is called: see keepSmall.
func whileSmall(logger *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { keepSmall(ctx, logger) })
	return func() {
		cancel()
		wg.Wait()
	}
}

// keepSmall makes the collector of garbage run more often than usual, unless GOGC
// says how often, and gives back what only the start has needed, and now and then
// what has not been needed since: an agent shares its host with those whom the
// host is for.
func keepSmall(ctx context.Context, logger *slog.Logger) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(smallGCPercent)
	}
	startSmall(ctx, logger)
	tick := time.NewTicker(smallInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		debug.FreeOSMemory()
		n, err := dropOwnPages()
		logger.Debug("Memory is given back", "file_bytes", n, "err", err)
	}
}

// startSmall gives back pages of the executable whenever a starting process has
// become large. It returns when the start is over.
func startSmall(ctx context.Context, logger *slog.Logger) {
	tick := time.NewTicker(smallStartTick)
	defer tick.Stop()
	begun, times := time.Now(), 0
	for ctx.Err() == nil && time.Since(begun) < smallStart {
		size, err := residentBytes()
		if err == nil && size > smallStartRSS {
			_, err = dropOwnPages()
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
