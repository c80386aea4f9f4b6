package footprint

import (
	"log/slog"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// Only what is mapped from the executable and was never written to is found.
func TestOwnMappings(t *testing.T) {
	const smaps = `00400000-02929000 r-xp 00000000 fe:00 11196214                           /opt/ve dette
Size:              38052 kB
Rss:               12212 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me sd
02929000-0539a000 r--p 02529000 fe:00 11196214                           /opt/ve dette
Rss:               22660 kB
Anonymous:             4 kB
0539a000-05617000 rw-p 04f9a000 fe:00 11196214                           /opt/ve dette
Rss:                1628 kB
Anonymous:             0 kB
05617000-05618000 r--s 04f9a000 fe:00 11196214                           /opt/ve dette
Rss:                   4 kB
Anonymous:             0 kB
c000000000-c000400000 rw-p 00000000 00:00 0 
Rss:                4096 kB
Anonymous:          4096 kB
7f0000000000-7f0000001000 r--p 00000000 fe:00 12                         /opt/ve dette.so
Rss:                   4 kB
Anonymous:             0 kB
7f0000002000-7f0000003000 r--p 00000000 fe:00 11196214                   /opt/ve dette
Rss:                   0 kB
Anonymous:             0 kB
`
	require.Equal(t, []mapping{{start: 0x400000, end: 0x2929000, resident: 12212 << 10}}, ownMappings([]byte(smaps), "/opt/ve dette"))
	require.Empty(t, ownMappings([]byte("0-x r-xp\nRss: 1 kB\nAnonymous: 0 kB\n"), ""))
}

// The process goes on after its pages were dropped.
func TestDropOwnPages(t *testing.T) {
	if _, err := os.Stat("/proc/self/smaps"); err != nil {
		t.Skip("the kernel does not list mappings:", err)
	}
	n, err := Drop()
	require.NoError(t, err)
	require.Positive(t, n)
	_, err = Drop()
	require.NoError(t, err)
}

// A process that is not small is left alone.
func TestPercent(t *testing.T) {
	require.Equal(t, gcPercent, percentFor(0))
	require.Equal(t, gcPercent, percentFor(smallHeap))
	require.Equal(t, 100, percentFor(smallHeap+1))
	all, files, err := residentBytes()
	if err != nil {
		t.Skip("the kernel does not say:", err)
	}
	require.Positive(t, files)
	require.Greater(t, all, files)
}

// Keep ends when it is told to.
func TestKeepStops(t *testing.T) {
	t.Setenv("GOGC", "100") // the test's own collector stays as it is
	stop := Keep(slog.New(slog.DiscardHandler))
	stop()
	stop()
}
