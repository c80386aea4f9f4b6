package symbol

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/identity"
)

func fixture(t testing.TB, name string) (*image, []byte) {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	im, err := readImage(bytes.NewReader(b), int64(len(b)))
	require.NoError(t, err)
	return im, b
}

// nameAt looks an offset up as a stack would.
func nameAt(im *image, t *table, offset uint64) string {
	at, ok := im.address(offset)
	if !ok {
		return ""
	}
	i := t.find(at)
	if i < 0 {
		return ""
	}
	name, _ := t.read(im.r, i)
	return name
}

func TestSymbols(t *testing.T) {
	for name, functions := range map[string]map[uint64]string{
		"small-amd64":       {0x250: "inner", 0x26f: "inner", 0x280: "outer", 0x28f: "outer", 0x290: "_start"},
		"small-arm64":       {0x250: "inner", 0x27c: "inner", 0x280: "outer", 0x2a0: "outer", 0x2a4: "_start", 0x2b8: ""},
		"small-amd64.debug": {},
	} {
		im, _ := fixture(t, name)
		table := im.symbols(".symtab")
		require.NotNil(t, table, name)
		require.Len(t, table.functions, 3, name)
		for offset, want := range functions {
			require.Equal(t, want, nameAt(im, table, offset), "%s %#x", name, offset)
		}
		require.Nil(t, im.symbols(".dynsym"), name)
		require.Nil(t, im.gotable(), name)
		require.Len(t, im.buildID, 40, name)
	}
}

func TestDebugLink(t *testing.T) {
	im, _ := fixture(t, "small-amd64-stripped")
	require.Nil(t, im.symbols(".symtab"))
	name, sum, ok := im.debugLink()
	require.True(t, ok)
	require.Equal(t, "small-amd64.debug", name)
	debug, _ := fixture(t, name)
	got, err := debug.checksum()
	require.NoError(t, err)
	require.Equal(t, sum, got)
	require.Equal(t, im.buildID, debug.buildID)
}

// What the pclntab of this very program says is what its symbols say.
func TestGoTable(t *testing.T) {
	f, err := os.Open("/proc/self/exe")
	require.NoError(t, err)
	defer f.Close()
	st, err := f.Stat()
	require.NoError(t, err)
	im, err := readImage(f, st.Size())
	require.NoError(t, err)
	table := im.gotable()
	require.NotNil(t, table)
	found := 0
	for _, fn := range []any{TestGoTable, strings.Cut, fmt.Fprintf, bytes.Index, readImage, (*table0).method} {
		pc := uint64(reflect.ValueOf(fn).Pointer())
		want := runtime.FuncForPC(uintptr(pc)).Name()
		i := table.find(pc) // the test is not built to move
		if i < 0 {
			continue
		}
		got, ok := table.read(f, i)
		require.True(t, ok)
		require.Equal(t, want, got)
		found++
	}
	symtab := im.symbols(".symtab")
	if symtab == nil {
		return
	}
	require.Equal(t, 6, found)
	same := 0
	for i, fn := range symtab.functions {
		j := table.find(symtab.base + uint64(fn.addr))
		if j < 0 || table.functions[j].addr+uint32(table.base-symtab.base) != fn.addr {
			continue
		}
		a, _ := symtab.read(f, i)
		b, _ := table.read(f, j)
		if strings.TrimSuffix(a, ".abi0") == b {
			same++
		}
	}
	require.Greater(t, same*100, len(symtab.functions)*95, "of %d", len(symtab.functions))
}

type table0 struct{}

//go:noinline
func (*table0) method() {}

func TestParseMapping(t *testing.T) {
	for line, want := range map[string]mapping{
		"55d0c0000000-55d0c0010000 r-xp 00002000 fe:0a 325835                     /usr/bin/true\n": {
			start: 0x55d0c0000000, end: 0x55d0c0010000, offset: 0x2000, major: 0xfe, minor: 0xa, inode: 325835, path: "/usr/bin/true"},
		"1000-2000 r-xp 00000000 00:00 0\n":                            {start: 0x1000, end: 0x2000},
		"1000-2000 --xp 00000000 00:00 0   [vdso]":                     {start: 0x1000, end: 0x2000, path: "[vdso]"},
		`1000-2000 rwxp 0 0:0 7   /tmp/a b;c\012d (deleted)` + "\n":    {start: 0x1000, end: 0x2000, inode: 7, path: "/tmp/a b;c\nd"},
		"7fff00000000-7fff00001000 rw-p 00000000 00:00 0    [stack]\n": {},
		"2000-1000 r-xp 0 0:0 0\n":                                     {},
		"x-y r-xp 0 0:0 0\n":                                           {},
		"1000-2000 r-xp 0\n":                                           {},
		"":                                                             {},
	} {
		got, ok := parseMapping([]byte(line))
		require.Equal(t, want.end != 0, ok, line)
		if ok {
			require.Equal(t, want, got, line)
		}
	}
	all := parseMaps([]byte("3000-4000 r-xp 0 0:0 0\n1000-2000 r-xp 0 0:0 0 /a\n"))
	require.Nil(t, mappingAt(all, 0xfff))
	require.Equal(t, "/a", mappingAt(all, 0x1000).path)
	require.Nil(t, mappingAt(all, 0x2000))
	require.Equal(t, uint64(0x3000), mappingAt(all, 0x3fff).start)
	require.Equal(t, "a b:c d", (&mapping{path: "/tmp/a b;c\nd"}).object())
}

func TestPerfMap(t *testing.T) {
	text := "1000 10 first\n2000 20 second one\nnonsense\n3000 0 empty\n1000 8 newer\n4000 4 not whole"
	p := &perfMap{}
	r := strings.NewReader(text)
	require.NoError(t, p.extend(r, int64(len(text))))
	for addr, want := range map[uint64]string{0x1000: "newer", 0x1007: "newer", 0x1008: "", 0x2010: "second one", 0x3000: "", 0x4000: ""} {
		e, ok := p.find(addr)
		require.Equal(t, want != "", ok, "%#x", addr)
		if ok {
			name, _ := p.name(r, e)
			require.Equal(t, want, name)
		}
	}
	// What is written later is read from there on.
	text += "\n5000 10 later\n"
	r = strings.NewReader(text)
	require.NoError(t, p.extend(r, int64(len(text))))
	for addr, want := range map[uint64]string{0x4001: "not whole", 0x5000: "later", 0x2000: "second one"} {
		e, ok := p.find(addr)
		require.True(t, ok)
		name, _ := p.name(r, e)
		require.Equal(t, want, name)
	}
}

func TestKernelSymbols(t *testing.T) {
	k, err := parseKernel(strings.NewReader(`ffffffff81001000 T do_syscall_64
ffffffff81000000 T _text
ffffffff81002000 d not_code
ffffffffc0001000 t nf_hook	[nf_tables]
0000000000000000 T hidden
rubbish
`))
	require.NoError(t, err)
	require.Len(t, k.symbols, 3)
	for addr, want := range map[uint64]string{
		0xffffffff81000fff: "_text", 0xffffffff81001000: "do_syscall_64", 0xffffffff81002000: "do_syscall_64",
		0xffffffffc0001004: "nf_hook", 0xffffffff80000000: "", 0xffffffffd0001004: "",
	} {
		got, ok := k.find(addr)
		require.Equal(t, want != "", ok)
		require.Equal(t, want, got)
	}
}

func TestReadable(t *testing.T) {
	for raw, want := range map[string]string{
		"main.(*server).serve":                             "main.(*server).serve",
		"_ZN4node5StartEiPPc":                              "node::Start",
		"_ZN3std2io5stdio5print17hf5f1c1c4e0b1c1e4E":       "std::io::stdio::print",
		"_RNvCs1234_7mycrate3foo":                          "mycrate::foo",
		"memcpy@@GLIBC_2.14":                               "memcpy",
		"a;b\nc\xff":                                       "a:b c?",
		"_Znothing":                                        "_Znothing",
		"main.Map[go.shape.int,go.shape.string].func1":     "main.Map[go.shape.int,go.shape.string].func1",
		"github.com/a/b.(*T).M·f":                          "github.com/a/b.(*T).M·f",
		strings.Repeat("x", maxShown) + "and so much more": strings.Repeat("x", maxShown),
	} {
		require.Equal(t, want, readable(raw), raw)
	}
}

func self(t testing.TB) identity.Key { return identity.Key{PID: uint32(os.Getpid()), StartNanos: 1} }

//go:noinline
func here() uint64 {
	pc, _, _, _ := runtime.Caller(0)
	return uint64(pc)
}

func TestOwnProcess(t *testing.T) {
	s := New(Options{Proc: "/proc", MaxBytes: 16 << 20})
	pc := here()
	frames := s.User(nil, self(t), []uint64{pc, pc, 1})
	require.Equal(t, "github.com/vedette-io/vedette/ebpf/profile/symbol.here", frames[0].Name)
	require.Equal(t, "symbol.test", frames[0].Object)
	require.Equal(t, frames[0], frames[1])
	require.Equal(t, Unknown, frames[2].Name)
	require.NotEmpty(t, s.open)
	s.Release()
	require.Empty(t, s.open)
	// A name that is known needs no file; another one opens it again.
	require.Equal(t, frames[0], s.User(nil, self(t), []uint64{pc})[0])
	require.Empty(t, s.open)
	other := uint64(reflect.ValueOf(TestOwnProcess).Pointer())
	require.Contains(t, s.User(nil, self(t), []uint64{other})[0].Name, "TestOwnProcess")
	require.NotEmpty(t, s.open)
	s.Release()
	if st := s.Stats(); st.Bytes < 1000 || st.Files == 0 || st.Processes != 1 {
		t.Errorf("got %+v", st)
	}
	s.Sweep(func(identity.Key) bool { return false })
	require.Zero(t, s.Stats().Processes)
}

// Files not used longest are dropped when there is no room, and read again.
func TestBudget(t *testing.T) {
	s := New(Options{Proc: "/proc", MaxBytes: 1})
	pc := here()
	for range 3 {
		require.Contains(t, s.User(nil, self(t), []uint64{pc})[0].Name, "here")
		s.Release()
		s.mu.Lock()
		s.shrink(nil)
		s.mu.Unlock()
		require.Zero(t, s.Stats().Files)
	}
	st := s.Stats()
	require.GreaterOrEqual(t, st.Misses, uint64(3))
	require.Equal(t, int64(0), s.bytes-sum(s))
}

func sum(s *Symboliser) (n int64) {
	for _, p := range s.processes {
		n += p.bytes
	}
	for _, f := range s.files {
		n += f.bytes
	}
	return n
}

func TestVDSO(t *testing.T) {
	b := ownVDSO()
	if b == nil {
		t.Skip("no vdso")
	}
	im, err := readImage(bytes.NewReader(b), int64(len(b)))
	require.NoError(t, err)
	table := im.symbols(".dynsym")
	require.NotNil(t, table)
	var names []string
	for i := range table.functions {
		name, _ := table.read(im.r, i)
		names = append(names, name)
	}
	require.Contains(t, strings.Join(names, " "), "clock_gettime")
}

// A process that is not there has no names, but costs nothing.
func TestGone(t *testing.T) {
	s := New(Options{Proc: t.TempDir(), MaxBytes: 1 << 20})
	s.Note(identity.Key{PID: 1})
	require.Equal(t, []Frame{{Name: Unknown}}, s.User(nil, identity.Key{PID: 1}, []uint64{0x1000}))
	require.Equal(t, []Frame{{Name: "[kernel]", Object: "kernel"}}, s.Kernel(nil, []uint64{0xffffffff81000000}))
	require.False(t, s.HasKernel())
	s.Release()
	require.Zero(t, s.Stats().Processes)
}
