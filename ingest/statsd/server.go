package statsd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ingest/door"
)

// Options are what a Server is made of.
type Options struct {
	Entry      *door.Entry
	Config     Config
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Server listens for StatsD events.
type Server struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	table   *table
	flusher *flusher

	packets  []packetSocket
	streams  []streamSocket
	draining chan struct{} // closed when Run ends
	closed   sync.Once

	lastWarning string // of a flush
}

type packetSocket struct {
	kind string
	conn net.PacketConn
}

type streamSocket struct {
	kind     string
	listener net.Listener
}

// Open binds the sockets. Run serves them; Close is for a server that does not
// come to run.
func Open(o Options) (_ *Server, err error) {
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: o.Config, log: o.Logger, draining: make(chan struct{})}
	s.table = newTable(&s.cfg, time.Now)
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	if err := s.bind(); err != nil {
		return nil, err
	}
	s.metrics = newMetrics(o.Registerer, s.table)
	for _, p := range s.packets {
		registerDrops(o.Registerer, p)
	}
	s.flusher = newFlusher(s.table, o.Entry, s.metrics)
	return s, nil
}

func (s *Server) bind() error {
	if addr := s.cfg.ListenUDP; addr != "" {
		c, err := net.ListenPacket("udp", addr)
		if err != nil {
			return fmt.Errorf("listen_udp: %w", err)
		}
		s.addPackets("udp", c)
	}
	if path := s.cfg.ListenUnixgram; path != "" {
		if err := removeSocket(path); err != nil {
			return fmt.Errorf("listen_unixgram: %w", err)
		}
		c, err := net.ListenPacket("unixgram", path)
		if err != nil {
			return fmt.Errorf("listen_unixgram: %w", err)
		}
		s.addPackets("unixgram", c)
		if err := os.Chmod(path, socketMode); err != nil {
			return fmt.Errorf("listen_unixgram: %w", err)
		}
	}
	if path := s.cfg.ListenUnix; path != "" {
		if err := removeSocket(path); err != nil {
			return fmt.Errorf("listen_unix: %w", err)
		}
		l, err := net.Listen("unix", path)
		if err != nil {
			return fmt.Errorf("listen_unix: %w", err)
		}
		s.streams = append(s.streams, streamSocket{"unix", l})
		if err := os.Chmod(path, socketMode); err != nil {
			return fmt.Errorf("listen_unix: %w", err)
		}
	}
	if addr := s.cfg.ListenTCP; addr != "" {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return fmt.Errorf("listen_tcp: %w", err)
		}
		s.streams = append(s.streams, streamSocket{"tcp", l})
	}
	return nil
}

// socketMode lets everybody on the machine send and nobody else do anything.
const socketMode = 0o722

// removeSocket takes a socket away that a killed process has left; anything else
// at the path stays.
func removeSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("%s is there and not a socket", path)
	}
	return os.Remove(path)
}

// receiveBytes is asked of the kernel for each packet socket: what comes while
// the table is locked waits there.
const receiveBytes = 4 << 20

func (s *Server) addPackets(kind string, c net.PacketConn) {
	if b, ok := c.(interface{ SetReadBuffer(int) error }); ok {
		_ = b.SetReadBuffer(receiveBytes) // the kernel gives what it may
	}
	s.packets = append(s.packets, packetSocket{kind, c})
}

// Addr returns what a socket of a kind (udp, unixgram, unix, tcp) is bound to,
// or nil.
func (s *Server) Addr(kind string) net.Addr {
	for _, p := range s.packets {
		if p.kind == kind {
			return p.conn.LocalAddr()
		}
	}
	for _, l := range s.streams {
		if l.kind == kind {
			return l.listener.Addr()
		}
	}
	return nil
}

// Close closes the sockets of a server that does not run; after Run it does
// nothing.
func (s *Server) Close() error {
	s.closed.Do(func() {
		for _, p := range s.packets {
			_ = p.conn.Close()
		}
		for _, l := range s.streams {
			_ = l.listener.Close() // Run may have done it
		}
		if s.Addr("unixgram") != nil {
			_ = os.Remove(s.cfg.ListenUnixgram) // a listener of streams does it itself
		}
	})
	return nil
}

const (
	// drainTime is how long the sockets are read after the end has come, for what
	// is on its way; then comes what the kernel holds.
	drainTime = 100 * time.Millisecond
	// lastFlushTime is how long the last flush may take.
	lastFlushTime = 10 * time.Second
)

// Run serves until ctx ends. It then takes what the sockets still hold, closes
// them and flushes for the last time, so the door must be open until it returns.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	failed := make(chan error, len(s.packets)+len(s.streams))
	for _, p := range s.packets {
		wg.Go(func() { failed <- s.readPackets(p) })
	}
	for _, l := range s.streams {
		wg.Go(func() { failed <- s.accept(l) })
	}
	err := s.flushUntil(ctx, failed)
	close(s.draining)
	deadline := time.Now().Add(drainTime)
	for _, p := range s.packets {
		_ = p.conn.SetReadDeadline(deadline)
	}
	for _, l := range s.streams {
		_ = l.listener.Close()
	}
	wg.Wait()
	_ = s.Close()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlushTime)
	defer cancel()
	s.flush(last)
	return err
}

// flushUntil flushes at every interval until ctx ends or a socket fails.
func (s *Server) flushUntil(ctx context.Context, failed <-chan error) error {
	ticker := time.NewTicker(s.cfg.FlushInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			// A flush may take as long as the interval; the next one begins later then.
			limited, cancel := context.WithTimeout(ctx, s.cfg.FlushInterval)
			s.flush(limited)
			cancel()
		case err := <-failed:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Server) flush(ctx context.Context) {
	start := time.Now()
	err := s.flusher.flush(ctx, start)
	s.metrics.flush.Observe(time.Since(start).Seconds())
	if err == nil {
		s.lastWarning = ""
		return
	}
	level := slog.LevelWarn
	if err.Error() == s.lastWarning { // a series that is never taken is told of once
		level = slog.LevelDebug
	}
	s.lastWarning = err.Error()
	s.log.Log(ctx, level, "flush statsd", "err", err)
}

// packet takes the lines of a packet in.
func (s *Server) packet(kind prometheus.Counter, b []byte, truncated bool) {
	var n tally
	if truncated {
		n.dropped[dropTruncated]++
	}
	s.table.mu.Lock()
	s.table.lines(b, &n)
	s.table.mu.Unlock()
	kind.Inc()
	s.metrics.bytes.Add(float64(len(b)))
	s.metrics.count(&n)
}
