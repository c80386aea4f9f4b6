package nezha

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vedette-io/vedette/bench/client"
)

// Options of a load.
type Options struct {
	Files       []string // archives
	To          string   // address of OTLP traces over HTTP
	Connections int
	Spans       int       // in a request
	Progress    io.Writer // a line now and then, and one for every archive
}

// DefaultOptions returns a load of every archive in dir to a server at base.
func DefaultOptions(dir, base string) (Options, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.tar.zst"))
	if err == nil && len(files) == 0 {
		err = errors.New("no *.tar.zst there")
	}
	if err != nil {
		return Options{}, fmt.Errorf("look for archives in %s: %w", dir, err)
	}
	return Options{Files: files, To: base + client.TracesPath, Connections: 4, Spans: 1000, Progress: io.Discard}, nil
}

// Totals is what a load has sent.
type Totals struct {
	Spans    int64 // acknowledged
	Refused  int64 // of these, by the server
	Repeated int64 // lines left out, because they are there twice
	Requests int64
	Traces   int
	Services map[string]int64 // spans
	Took     time.Duration
	// First and Last are the starts of the first and of the last span of each
	// archive, unix nanoseconds.
	First, Last []int64
}

// loader is the state of a load.
type loader struct {
	Options
	totals Totals
	traces map[[16]byte]struct{}
	sent   client.Sent
	bodies chan []byte
	acked  atomic.Int64
}

// Load sends the traces of all archives.
func Load(ctx context.Context, o Options) (Totals, error) {
	l := &loader{Options: o, traces: map[[16]byte]struct{}{}, bodies: make(chan []byte, o.Connections)}
	l.totals.Services = map[string]int64{}
	start := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := client.New(o.Connections)
	defer c.CloseIdleConnections()
	var wg sync.WaitGroup
	errs := make([]error, o.Connections+1)
	for i := range o.Connections {
		wg.Go(func() {
			for body := range l.bodies {
				if errs[i] = client.OTLP(o.To).PostRetrying(ctx, c, body, true, &l.sent); errs[i] != nil {
					cancel()
					return
				}
				l.acked.Add(1)
			}
		})
	}
	errs[o.Connections] = l.read(ctx, start)
	close(l.bodies)
	wg.Wait()
	l.totals.Refused, l.totals.Requests = l.sent.Rejected, l.acked.Load()
	l.totals.Traces, l.totals.Took = len(l.traces), time.Since(start)
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return l.totals, err
		}
	}
	return l.totals, errors.Join(errs...)
}

// read packs the spans of every archive and hands the requests to the senders.
func (l *loader) read(ctx context.Context, start time.Time) error {
	told := start
	for _, file := range l.Files {
		first, last := int64(0), int64(0)
		p := NewPacker(l.Spans, func(body []byte, spans int) error {
			select {
			case l.bodies <- body:
			case <-ctx.Done():
				return ctx.Err()
			}
			l.totals.Spans += int64(spans)
			if time.Since(told) < time.Second {
				return nil
			}
			told = time.Now()
			return l.tell("%s: %d spans of %d traces so far", filepath.Base(file), l.totals.Spans, len(l.traces))
		})
		repeated, err := Read(file, func(s *Span) error {
			l.traces[s.Trace] = struct{}{}
			l.totals.Services[s.Service()]++
			if first == 0 || s.Start < first {
				first = s.Start
			}
			last = max(last, s.Start)
			return p.Add(s)
		})
		if err := errors.Join(err, p.Flush()); err != nil {
			return err
		}
		l.totals.Repeated += int64(repeated)
		l.totals.First, l.totals.Last = append(l.totals.First, first), append(l.totals.Last, last)
		if err := l.tell("%s: done, from %s to %s", filepath.Base(file), clock(first), clock(last)); err != nil {
			return err
		}
	}
	return nil
}

func clock(nanos int64) string { return time.Unix(0, nanos).UTC().Format("2006-01-02 15:04:05") }

func (l *loader) tell(format string, args ...any) error {
	_, err := fmt.Fprintf(l.Progress, format+"\n", args...)
	return err
}
