package mysql

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/protocol"
)

// login is a client's first packet inside TLS.
func login(capabilities string) string {
	payload := capabilities + "\x00\x00\x00\x01\x2d" + strings.Repeat("\x00", 23) + "root\x00\x00shop\x00mysql_native_password\x00"
	return string([]byte{byte(len(payload)), 0, 0, 2}) + payload
}

const loginCapabilities = "\x0d\xaa\x0f\x00" // with a database, TLS

func TestBegins(t *testing.T) {
	whole := login(loginCapabilities)
	for in, want := range map[string]bool{
		whole:                               true,
		whole[:60]:                          false, // its length is not the piece's
		login("\x0d\xa2\x0f\x00"):           false, // never asked for TLS
		"\x09\x00\x00\x00\x03select 1":      true,
		"\x09\x00\x00\x00\x16select ?":      true,
		"\x0a\x00\x00\x00\x03select 1":      false,
		"\x09\x00\x00\x00\x03nothing!":      false,
		"\x09\x00\x00\x01\x03select 1":      false,
		"\x01\x00\x00\x00\x0e":              false, // a ping: too little to tell by
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n": false,
		"":                                  false,
	} {
		require.Equal(t, want, Begins([]byte(in), len(in)), "%q", in)
	}
}

// Inside TLS the greeting is not seen: a connection is told by the client's login.
func TestInsideTLS(t *testing.T) {
	for _, side := range []protocol.Direction{protocol.Sent, protocol.Received} {
		var got []protocol.Request
		p := New()
		nanos := int64(0)
		take := func(d protocol.Direction, b string) {
			nanos++
			p.Take(&protocol.Piece{Direction: d, Data: []byte(b), AtNanos: nanos}, func(r *protocol.Request) { got = append(got, *r) })
		}
		take(side, login(loginCapabilities))
		take(1-side, "\x2d\x00\x00\x03\xfemysql_native_password\x00"+strings.Repeat("r", 21)+"\x00")
		take(side, "\x14\x00\x00\x04"+strings.Repeat("p", 20))
		take(1-side, "\x07\x00\x00\x05\x00\x00\x00\x02\x00\x00\x00")
		for range 3 {
			take(side, "\x09\x00\x00\x00\x03update x")
			take(1-side, "\x07\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00")
		}
		require.Len(t, got, 3)
		for _, r := range got {
			require.Equal(t, "UPDATE", r.Operation)
			require.Equal(t, "shop", r.Target)
			require.Equal(t, side == protocol.Received, r.Server)
		}
		require.Zero(t, p.Lost())
	}
}
