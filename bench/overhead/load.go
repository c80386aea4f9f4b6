package overhead

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const request = "GET /hello HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\r\n"

// flood sends n requests over each of its connections, and does so for each part,
// after which it calls ended. One thread, kept on a processor other than nginx's,
// sends one on each connection and then reads one answer from each, so that nginx
// has the next ones before it asks. It spends less on a request than nginx, which is
// therefore never idle for long.
func flood(ctx context.Context, addr string, n int, ended func() error) error {
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and not unlocked: the thread ends
		failed <- func() error {
			if at := loadProcessor(); at > 0 {
				if err := pin(at); err != nil {
					return err
				}
			}
			f, err := newFlood(addr)
			if err != nil {
				return err
			}
			defer f.close()
			for range parts {
				for range n {
					if err := f.round(); err != nil {
						return err
					}
				}
				if err := errors.Join(ended(), ctx.Err()); err != nil {
					return err
				}
			}
			return nil
		}()
	}()
	return <-failed
}

// loadProcessor is where requests are sent, nginx having processor 0; 0 if there is
// no other.
func loadProcessor() int { return runtime.NumCPU() - 1 }

// pin keeps the calling thread on a processor.
func pin(processor int) error {
	var set unix.CPUSet
	set.Set(processor)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("keep the load on processor %d: %w", processor, err)
	}
	return nil
}

// besideLoad calls start, whose processes stay on the load's processor if there is
// more than one.
func besideLoad(start func() error) error {
	if loadProcessor() == 0 {
		return start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("keep processes on the load's processor: %w", err)
	}
	if err := pin(loadProcessor()); err != nil {
		return err
	}
	return errors.Join(start(), unix.SchedSetaffinity(0, &before))
}

// flooder is the connections of a flood.
type flooder struct {
	fds    []int
	answer []byte
	length int // of every answer, as the first had it; 0: none was read
}

func newFlood(addr string) (*flooder, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("send requests: %w", err)
	}
	f := &flooder{answer: make([]byte, 4096)}
	for range flooding {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			f.fds = append(f.fds, fd)
			err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
		}
		if err != nil {
			f.close()
			return nil, fmt.Errorf("send requests to %s: %w", addr, err)
		}
	}
	return f, nil
}

func (f *flooder) close() {
	for _, fd := range f.fds {
		_ = unix.Close(fd)
	}
}

// round sends a request over every connection and reads the answers.
func (f *flooder) round() error {
	for _, fd := range f.fds {
		if _, err := unix.Write(fd, []byte(request)); err != nil {
			return fmt.Errorf("send a request: %w", err)
		}
	}
	for _, fd := range f.fds {
		got := 0
		for got == 0 || got < f.length {
			n, err := unix.Read(fd, f.answer[got:])
			if err != nil || n == 0 {
				return fmt.Errorf("read a response: %w", cmp.Or(err, io.ErrUnexpectedEOF))
			}
			got += n
		}
		if f.length == 0 { // nginx sends it in one piece
			f.length = got
		}
		if got != f.length || !bytes.HasPrefix(f.answer, []byte("HTTP/1.1 200 ")) {
			return fmt.Errorf("read a response: got %q, want status 200 and %d bytes", f.answer[:got], f.length)
		}
	}
	return nil
}

// send sends n requests over each of so many connections, one after another, at
// perSecond requests a second over all of them together.
func send(ctx context.Context, addr string, connections, n int, perSecond float64) error {
	errs := make([]error, connections)
	var wg sync.WaitGroup
	for i := range connections {
		wg.Go(func() {
			errs[i] = sendOne(ctx, addr, n, time.Duration(float64(connections)/perSecond*float64(time.Second)))
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
		if wait := time.Until(due); wait > 0 {
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
