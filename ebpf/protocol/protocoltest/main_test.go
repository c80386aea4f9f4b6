package protocoltest

import (
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What passes the tap is recorded, and survives being saved.
func TestTap(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b := make([]byte, 4)
		if _, err := io.ReadFull(c, b); err == nil {
			_, _ = c.Write([]byte("\x00p\"ong\n"))
		}
	}()
	addr, recorded := Tap(t, l.Addr().String())
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	_, err = io.WriteString(c, "ping")
	require.NoError(t, err)
	_, err = io.ReadAll(c)
	require.NoError(t, err)
	c.Close()
	all := recorded()
	want := Recording{{FromClient: true, Data: []byte("ping")}, {Data: []byte("\x00p\"ong\n")}}
	require.Equal(t, []Recording{want}, all)
	path := t.TempDir() + "/r.txt"
	want.Save(t, path, "by hand")
	require.Equal(t, want, Load(t, path))
}
