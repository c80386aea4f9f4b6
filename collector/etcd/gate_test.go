package etcd

import (
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// gate is a way to a server that can be shut and opened again.
type gate struct {
	listener net.Listener
	to       string
	wg       sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]*way
}

// way is one connection; what comes on a silent one is read and thrown away.
type way struct {
	mu     sync.Mutex
	silent bool
}

func newGate(t *testing.T, to string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	g := &gate{listener: l, to: to, conns: map[net.Conn]*way{}}
	g.wg.Go(g.accept)
	t.Cleanup(func() {
		_ = l.Close() // ends accept
		g.shut()
		g.wg.Wait()
	})
	return g
}

func (g *gate) address() string { return g.listener.Addr().String() }

func (g *gate) accept() {
	for {
		in, err := g.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", g.to)
		if err != nil {
			_ = in.Close()
			continue
		}
		g.mu.Lock()
		if g.closed {
			_, _ = in.Close(), out.Close()
			g.mu.Unlock()
			continue
		}
		w := &way{}
		g.conns[in], g.conns[out] = w, w
		g.mu.Unlock()
		g.wg.Go(func() { g.pass(in, out, w) })
		g.wg.Go(func() { g.pass(out, in, w) })
	}
}

func (g *gate) pass(dst, src net.Conn, w *way) {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		w.mu.Lock()
		silent := w.silent
		w.mu.Unlock()
		if !silent {
			_, writeErr := dst.Write(buf[:n])
			if err == nil {
				err = writeErr
			}
		}
		if err != nil {
			break
		}
	}
	_, _ = dst.Close(), src.Close()
	g.mu.Lock()
	delete(g.conns, src)
	g.mu.Unlock()
}

// shut cuts all connections and refuses new ones.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for c := range g.conns {
		_ = c.Close()
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = false
}

// hush lets nothing through the connections that there are.
func (g *gate) hush() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range g.conns {
		w.mu.Lock()
		w.silent = true
		w.mu.Unlock()
	}
}
