package protocoltest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/protocol"
)

// Scenario is what a client does in one connection or several, and the requests
// that it is.
type Scenario struct {
	Name string
	// Note says what the client is, for the recording.
	Note string
	// Run does it at a server. The connection that is recorded is the last one.
	Run func(t *testing.T, addr string)
	// Want is what Brief gives of the whole connection.
	Want []string
	// WantHead is that seen with pieces of 512 bytes of head and 32 of tail, if it
	// is not the same.
	WantHead []string
}

// Record runs the scenarios at a real server and writes testdata anew, if
// VEDETTE_RECORD is set; else it skips.
func Record(t *testing.T, scenarios []Scenario, start func(testing.TB) string) {
	if os.Getenv("VEDETTE_RECORD") == "" {
		t.Skip("VEDETTE_RECORD is not set: testdata stays as it is")
	}
	server := start(t)
	require.NoError(t, os.MkdirAll("testdata", 0o755))
	for _, s := range scenarios {
		addr, recorded := Tap(t, server)
		s.Run(t, addr)
		all := recorded()
		require.NotEmpty(t, all, s.Name)
		all[len(all)-1].Save(t, filepath.Join("testdata", s.Name+".txt"), s.Note+". Made by VEDETTE_RECORD=1 go test -run TestRecord")
	}
}

// Check plays the recordings of scenarios to parsers, as both ends see them, in
// whole and in pieces.
func Check(t *testing.T, scenarios []Scenario, parser func() protocol.Parser) {
	for _, s := range scenarios {
		r := Load(t, filepath.Join("testdata", s.Name+".txt"))
		head := s.WantHead
		if head == nil {
			head = s.Want
		}
		for _, v := range []struct {
			name string
			view View
			want []string
		}{
			{"client", View{}, s.Want},
			{"server", View{Server: true}, s.Want},
			{"client by 7 bytes", View{Split: 7}, s.Want},
			{"server by 64 bytes", View{Server: true, Split: 64}, s.Want},
			{"client heads", View{Head: 512, Tail: 32}, head},
			{"server heads", View{Server: true, Head: 512, Tail: 32}, head},
		} {
			t.Run(s.Name+"/"+v.name, func(t *testing.T) {
				p := parser()
				found := Play(p, r, v.view)
				require.Equal(t, strings.Join(v.want, "\n"), strings.Join(Brief(found), "\n"), "lost %d", p.Lost())
				for _, q := range found {
					require.Equal(t, v.view.Server, q.Server)
					require.LessOrEqual(t, q.StartNanos, q.EndNanos)
					require.LessOrEqual(t, len(q.Summary), 256)
				}
			})
		}
	}
}
