package tls

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/protocol"
)

// Go's functions are found in a program whatever the linker left of its symbols,
// and returns are RET instructions.
func TestInspectGo(t *testing.T) {
	for _, flags := range [][]string{nil, {"-ldflags=-s -w"}, {"-buildmode=pie", "-ldflags=-s -w"}} {
		path := buildApp(t, "CGO_ENABLED=0", flags...)
		f, err := os.Open(path)
		require.NoError(t, err)
		defer f.Close()
		what, err := inspect(f)
		require.NoError(t, err)
		require.Equal(t, "Go", what.library)
		var functions []function
		for _, p := range what.places {
			functions = append(functions, p.function)
			require.NotEmpty(t, p.returns)
			for _, at := range p.returns {
				b := make([]byte, 4)
				_, err := f.ReadAt(b, int64(at))
				require.NoError(t, err)
				if machine == 62 { // x86-64
					require.EqualValues(t, 0xc3, b[0])
				} else {
					require.Equal(t, []byte{0xc0, 0x03, 0x5f, 0xd6}, b)
				}
			}
		}
		slices.Sort(functions)
		require.Equal(t, []function{goRead, goWrite, goHandshake, goHandshake}, functions)
	}
}

func TestInspectOpenSSL(t *testing.T) {
	paths, err := filepath.Glob("/usr/lib/*-linux-gnu/libssl.so.3")
	require.NoError(t, err)
	if len(paths) == 0 {
		t.Skip("OpenSSL's library is missing")
	}
	f, err := os.Open(paths[0])
	require.NoError(t, err)
	defer f.Close()
	what, err := inspect(f)
	require.NoError(t, err)
	require.Equal(t, "OpenSSL", what.library)
	require.Len(t, what.places, 9)
	for _, p := range what.places {
		require.NotZero(t, p.begin)
		t.Logf("%s at %#x, watched at %#x and %#x", opensslNames[p.function], p.begin, p.enter, p.returns)
	}
}

func TestInspectOther(t *testing.T) {
	for _, data := range []string{"", "\x7fELF", strings.Repeat("x", 5000)} {
		_, err := inspect(strings.NewReader(data))
		require.Error(t, err)
	}
	f, err := os.Open("/bin/true")
	if err != nil {
		t.Skip("/bin/true is missing")
	}
	defer f.Close()
	_, err = inspect(f)
	require.ErrorIs(t, err, errNoTLS)
}

// Damaged programs give an error or nothing.
func FuzzInspect(f *testing.F) {
	if b, err := os.ReadFile("/bin/true"); err == nil {
		f.Add(b[:min(len(b), 64<<10)])
	}
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = inspect(bytes.NewReader(b)) })
}

func TestLibraries(t *testing.T) {
	const maps = `55e0a000-55e0b000 r-xp 00001000 fe:00 1000   /usr/sbin/nginx
7f1000-7f2000 r--p 00000000 fe:00 1234                       /usr/lib/libssl.so.3
7f2000-7f3000 r-xp 00001000 fe:00 1234                       /usr/lib/libssl.so.3
7f4000-7f5000 r-xp 00001000 00:31 99                         /opt/my app/libssl-3e69114b.so.1.1 (deleted)
7f6000-7f7000 r-xp 00000000 00:00 0                          [vdso]
7f8000-7f9000 r-xp 00000000 00:00 0
nonsense
`
	var got []string
	mapped(strings.NewReader(maps), "libssl", func(span, name string) { got = append(got, span+" "+name) })
	require.Equal(t, []string{"7f2000-7f3000 /usr/lib/libssl.so.3", "7f4000-7f5000 /opt/my app/libssl-3e69114b.so.1.1"}, got)
}

func TestDecode(t *testing.T) {
	b := make([]byte, headerSize+7)
	copy(b[headerSize:], "headend")
	set := func(h func(*bpf.TlsTlsEvent)) *event {
		var head bpf.TlsTlsEvent
		h(&head)
		encode(b, &head)
		e := new(event)
		if !e.decode(b) {
			return nil
		}
		return e
	}
	e := set(func(h *bpf.TlsTlsEvent) {
		h.Conn, h.Tgid, h.Length, h.Head, h.Tail, h.Kind = 7, 8, 100, 4, 3, uint8(bpf.TlsTlsKindTLS_SENT)
		h.AtNs, h.ReadyNs, h.Seq = 10, 9, 11
	})
	require.NotNil(t, e)
	require.EqualValues(t, 7, e.conn.ID)
	require.EqualValues(t, 8, e.conn.Process.PID)
	require.False(t, e.conn.Local.IsValid(), "an address that is not known")
	require.Equal(t, protocol.Sent, e.piece.Direction)
	require.Equal(t, "head", string(e.piece.Data))
	require.Equal(t, "end", string(e.piece.Tail))
	require.Equal(t, 100, e.piece.Len())
	require.EqualValues(t, 11, e.piece.Seq)
	e = set(func(h *bpf.TlsTlsEvent) { h.Netns, h.LocalPort, h.Length = 1, 443, 1 })
	require.Equal(t, uint16(443), e.conn.Local.Port())
	require.Nil(t, set(func(h *bpf.TlsTlsEvent) { h.Head, h.Length = 8, 8 }))
	require.Nil(t, set(func(h *bpf.TlsTlsEvent) { h.Head, h.Length = 4, 3 }))
	require.Nil(t, set(func(h *bpf.TlsTlsEvent) { h.Kind = 77 }))
}

func FuzzDecode(f *testing.F) {
	f.Add(make([]byte, headerSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e event
		if e.decode(b) && e.piece.Missed < 0 {
			t.Fatal(e)
		}
	})
}

// encode writes the header as the kernel's programs do.
func encode(b []byte, h *bpf.TlsTlsEvent) {
	copy(b, unsafe.Slice((*byte)(unsafe.Pointer(h)), headerSize))
}
