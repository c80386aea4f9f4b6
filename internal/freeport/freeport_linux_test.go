package freeport

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// confined lets the system choose out of one port only.
func confined(t *testing.T, port int) func(network, address string, c syscall.RawConn) error {
	t.Helper()
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if failed := c.Control(func(fd uintptr) {
			const localPortRange = 51 // IP_LOCAL_PORT_RANGE, since Linux 6.3: the highest and the lowest
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, localPortRange, port<<16|port)
		}); failed != nil {
			return failed
		}
		return err
	}
}

// listen listens at a port that the system chooses out of one.
func listen(t *testing.T, port int) error {
	t.Helper()
	l, err := (&net.ListenConfig{Control: confined(t, port)}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if errors.Is(err, syscall.ENOPROTOOPT) {
		t.Skip("the kernel does not let a socket confine its ports")
	}
	if err == nil {
		err = l.Close()
	}
	return err
}

// A reserved port is for those who name it, as often as they like, and for nobody
// who asks for any.
func TestReserve(t *testing.T) {
	p, err := Reserve()
	require.NoError(t, err)
	require.Positive(t, p.Number())
	server, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer server.Close()
	dialer := net.Dialer{Control: confined(t, p.Number())}
	taken := func() {
		t.Helper()
		require.ErrorIs(t, listen(t, p.Number()), syscall.EADDRINUSE)
		c, err := dialer.DialContext(context.Background(), "tcp", server.Addr().String())
		require.ErrorIs(t, err, syscall.EADDRNOTAVAIL, "%v", c)
	}
	for range 2 {
		taken()
		for _, host := range []string{"127.0.0.1", "127.0.0.2", "", "0.0.0.0"} {
			l, err := net.Listen("tcp", net.JoinHostPort(host, p.Text()))
			require.NoError(t, err, host)
			require.NoError(t, l.Close())
		}
		_, err := net.Dial("tcp", p.Addr())
		require.ErrorIs(t, err, syscall.ECONNREFUSED, "it listens itself")
	}
	p.Release()
	p.Release()
	_, err = p.held.Stat()
	require.ErrorIs(t, err, os.ErrClosed)
}

// Ports that are reserved differ, and a started process does not keep them.
func TestReserveMany(t *testing.T) {
	seen := map[int]bool{}
	for range 100 {
		p, err := Reserve()
		require.NoError(t, err)
		defer p.Release()
		require.False(t, seen[p.Number()], "twice")
		seen[p.Number()] = true
		flags, err := unix.FcntlInt(p.held.Fd(), unix.F_GETFD, 0)
		require.NoError(t, err)
		require.NotZero(t, flags&unix.FD_CLOEXEC)
	}
}

// Who listens on a port keeps it when it is released.
func TestReleaseUnderListener(t *testing.T) {
	p, err := Reserve()
	require.NoError(t, err)
	l, err := net.Listen("tcp", p.Addr())
	require.NoError(t, err)
	defer l.Close()
	p.Release()
	c, err := net.Dial("tcp", p.Addr())
	require.NoError(t, err)
	require.NoError(t, c.Close())
}
