//go:build unix

package statsd

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What the kernel holds is read though the deadline has passed before anybody came
// to read, within a bound.
func TestDrain(t *testing.T) {
	dir := t.TempDir()
	gram, err := net.ListenPacket("unixgram", filepath.Join(dir, "gram"))
	require.NoError(t, err)
	defer gram.Close()
	sender, err := net.Dial("unixgram", gram.LocalAddr().String())
	require.NoError(t, err)
	defer sender.Close()
	send := func(text string) {
		t.Helper()
		_, err := sender.Write([]byte(text))
		require.NoError(t, err)
	}
	buf := make([]byte, 100)
	want := func(d *drainer, text string, failure error) {
		t.Helper()
		n, err := d.Read(buf)
		require.ErrorIs(t, err, failure)
		require.Equal(t, text, string(buf[:n]))
	}
	packets := newDrainer(gram, gram.(net.Conn).Read, false)
	send("early")
	want(packets, "early", nil)
	require.NoError(t, gram.SetReadDeadline(time.Unix(1, 0)))
	send("one")
	send("")
	send("two")
	want(packets, "one", nil)
	want(packets, "", nil)
	want(packets, "two", nil)
	want(packets, "", os.ErrDeadlineExceeded)
	packets.taken = maxDrainBytes + 1
	send("too much")
	want(packets, "", os.ErrDeadlineExceeded)

	l, err := net.Listen("unix", filepath.Join(dir, "stream"))
	require.NoError(t, err)
	defer l.Close()
	c, err := net.Dial("unix", l.Addr().String())
	require.NoError(t, err)
	conn, err := l.Accept()
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetReadDeadline(time.Unix(1, 0)))
	stream := newDrainer(conn, conn.Read, true)
	want(stream, "", os.ErrDeadlineExceeded)
	_, err = c.Write([]byte("text"))
	require.NoError(t, err)
	require.NoError(t, c.Close())
	want(stream, "text", nil)
	want(stream, "", io.EOF)
}
