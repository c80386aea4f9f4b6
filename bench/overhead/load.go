package overhead

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

const request = "GET /hello HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\r\n"

// send sends n requests over each of so many connections, one after another; at
// perSecond requests a second over all of them together, or as fast as they are
// answered if that is 0.
func send(ctx context.Context, addr string, connections, n int, perSecond float64) error {
	errs := make([]error, connections)
	var wg sync.WaitGroup
	for i := range connections {
		wg.Go(func() {
			var every time.Duration
			if perSecond > 0 {
				every = time.Duration(float64(connections) / perSecond * float64(time.Second))
			}
			errs[i] = sendOne(ctx, addr, n, every)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func sendOne(ctx context.Context, addr string, n int, every time.Duration) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return fmt.Errorf("send requests: %w", err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	r := bufio.NewReader(c)
	due := time.Now()
	for range n {
		if wait := time.Until(due); every > 0 && wait > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(wait):
			}
		}
		due = due.Add(every)
		if _, err := io.WriteString(c, request); err != nil {
			return fmt.Errorf("send a request: %w", err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return fmt.Errorf("read a response: %w", err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return fmt.Errorf("read a response: %w", err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("read a response: status %d, want 200", resp.StatusCode)
		}
	}
	return nil
}
