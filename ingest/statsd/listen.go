package statsd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// packetBytes is the largest packet, frame or line that is taken.
	packetBytes = 64 << 10
	// maxConnections is how many connections each stream socket has at a time.
	maxConnections = 256
)

// readPackets reads a packet socket until the deadline that Run sets, and then what
// the kernel holds.
func (s *Server) readPackets(p packetSocket) error {
	count := s.metrics.packets.WithLabelValues(p.kind)
	// One byte more tells a packet that was cut off from one that just fits.
	buf := make([]byte, packetBytes+1)
	read := func(b []byte) (int, error) { n, _, err := p.conn.ReadFrom(b); return n, err }
	if c, ok := p.conn.(interface{ Read([]byte) (int, error) }); ok {
		read = c.Read // makes no address
	}
	d := newDrainer(p.conn, read, false)
	for {
		n, err := d.Read(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("read %s: %w", p.kind, err)
		}
		b, truncated := buf[:n], n > packetBytes
		if truncated {
			b = b[:bytes.LastIndexByte(b, '\n')+1]
		}
		s.packet(count, b, truncated)
	}
}

// accept serves the connections of a stream socket until it is closed.
func (s *Server) accept(l streamSocket) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, maxConnections)
	for {
		c, err := l.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case isTemporary(err):
			timer := time.NewTimer(50 * time.Millisecond)
			select {
			case <-timer.C:
			case <-s.draining:
				timer.Stop()
			}
			continue
		case err != nil:
			return fmt.Errorf("accept %s: %w", l.kind, err)
		}
		select {
		case slots <- struct{}{}:
		default:
			s.metrics.turnedAway.Inc()
			_ = c.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			s.connection(l.kind, c)
		})
	}
}

// isTemporary reports whether accepting may succeed later, as when there are no
// file descriptors left.
func isTemporary(err error) bool {
	var t interface{ Temporary() bool }
	return err != nil && errors.As(err, &t) && t.Temporary()
}

// connection reads one connection to its end, or until Run ends and a moment
// longer.
func (s *Server) connection(kind string, c net.Conn) {
	s.metrics.connections.Inc()
	defer s.metrics.connections.Dec()
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-s.draining:
			_ = c.SetReadDeadline(time.Now().Add(drainTime))
		case <-done:
		}
	})
	defer wg.Wait()
	defer close(done)
	defer c.Close()
	var err error
	if d := newDrainer(c, c.Read, true); kind == "unix" {
		err = s.readFrames(d)
	} else {
		err = s.readLines(d)
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
		s.log.Debug("read statsd connection", "socket", kind, "err", err)
	}
}

// readFrames reads packets behind their length, 4 bytes little endian.
func (s *Server) readFrames(c io.Reader) error {
	count := s.metrics.packets.WithLabelValues("unix")
	var size [4]byte
	var buf []byte
	for {
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return err
		}
		n := int(binary.LittleEndian.Uint32(size[:]))
		if n > packetBytes {
			s.metrics.count(&tally{dropped: [numDrops]int{dropTooLarge: 1}})
			return fmt.Errorf("frame: got %d bytes, want <= %d", n, packetBytes)
		}
		if cap(buf) < n {
			buf = make([]byte, max(n, 4096))
		}
		if _, err := io.ReadFull(c, buf[:n]); err != nil {
			return err
		}
		s.packet(count, buf[:n], false)
	}
}

// readLines reads lines; the last one need not end.
func (s *Server) readLines(c io.Reader) error {
	count := s.metrics.packets.WithLabelValues("tcp")
	buf := make([]byte, 4096, packetBytes)
	have := 0
	for {
		if have == len(buf) {
			if len(buf) == packetBytes {
				s.metrics.count(&tally{dropped: [numDrops]int{dropTooLarge: 1}})
				return fmt.Errorf("line: want <= %d bytes", packetBytes)
			}
			buf = append(buf, make([]byte, len(buf))...)
		}
		n, err := c.Read(buf[have:])
		have += n
		whole := bytes.LastIndexByte(buf[:have], '\n') + 1
		if err != nil {
			whole = have
		}
		if whole > 0 {
			s.packet(count, buf[:whole], false)
			have = copy(buf, buf[whole:have])
		}
		if err != nil {
			return err
		}
	}
}
