package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReport(t *testing.T) {
	const head = "KERNEL 6.1.0 x86_64\r\nPACKAGE http1\r\n"
	for _, tc := range []struct {
		name, out string
		ok        bool
		want      []string
	}{
		{"all", head + "=== RUN   TestA\r\n--- PASS: TestA (0.1s)\r\nEXIT http1 0\r\nEND\r\n", true, []string{"6.0-amd64: 6.1.0 is up", "http1: 1 passed, 0 failed", "6.0-amd64  1/0/0"}},
		{"skipped", head + "=== RUN   TestA\n    a_test.go:1: no BTF\n--- SKIP: TestA (0s)\nEXIT http1 0\nEND\n", true, []string{"0 passed, 0 failed, 1 skipped", "SKIP TestA: no BTF"}},
		{"skipped alike", head + "=== RUN   TestA\n    a_test.go:1: no BTF\n--- SKIP: TestA (0s)\n=== RUN   TestB\n    a_test.go:1: no BTF\n--- SKIP: TestB (0s)\nEXIT http1 0\nEND\n", true, []string{"SKIP TestA, TestB: no BTF"}},
		{"subtests", head + "=== RUN   TestA\n=== RUN   TestA/x\n    a_test.go:1: no fexit\n=== RUN   TestA/y\n--- PASS: TestA (0s)\n    --- SKIP: TestA/x (0s)\n    --- PASS: TestA/y (0s)\nEXIT http1 0\nEND\n", true, []string{"2 passed", "SKIP TestA/x: no fexit"}},
		{"failed", head + "=== RUN   TestA\n    a_test.go:1: got 1, want 2\n--- FAIL: TestA (0s)\nEXIT http1 1\nEND\n", false, []string{"FAIL TestA", "got 1, want 2", "exit status 1", "0/1/0"}},
		{"way", "KERNEL 6.1.0 x86_64\nPACKAGE probe\n=== RUN   TestLadders/http\n    a_test.go:1: way fexit: refused in 1s: no\n    a_test.go:1: way kprobe: loaded in 2.5s\n    a_test.go:1: way packets: loaded in 2.5s\n" +
			"=== RUN   TestLadders/http+spans\n    a_test.go:1: way kprobe: loaded in 2.5s\nEXIT probe 0\nPACKAGE http1\nEXIT http1 0\nEND\n", true, []string{"kprobe 0/0/0"}},
		{"none", "KERNEL 6.1.0 x86_64\nPACKAGE http1\n=== RUN   TestLadders/http\n    a_test.go:1: way kprobe: refused in 2.5s: no\nEXIT http1 0\nEND\n", true, []string{"none 0/0/0"}},
		{"worse with spans", "KERNEL 6.1.0 x86_64\nPACKAGE probe\n=== RUN   TestLadders/http\n    a_test.go:1: way kprobe: loaded in 2.5s\n" +
			"=== RUN   TestLadders/http+spans\n    a_test.go:1: way packets: loaded in 2.5s\nEXIT probe 0\nEND\n", false, []string{`got the way "packets", want "kprobe"`}},
		{"panicked", head + "Kernel panic - not syncing\n", false, []string{"did not come to the end", "Kernel panic", "unfinished"}},
		{"silent", "", false, []string{"did not come to the end", "not reached"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var b bytes.Buffer
			r := newResults(&b, "6.0-amd64", options{})
			for at := 0; at < len(tc.out); at += 7 { // as it comes
				_, err := r.Write([]byte(tc.out[at:min(at+7, len(tc.out))]))
				require.NoError(t, err)
			}
			r.end()
			table(&b, []string{"http1"}, []*results{r})
			require.Equal(t, tc.ok, !r.failed, b.String())
			for _, want := range tc.want {
				require.Contains(t, b.String(), want)
			}
		})
	}
}

// A kernel that takes another way than it was seen to take fails.
func TestWrongWays(t *testing.T) {
	for kernel, features := range seen {
		r := results{name: kernel, ways: map[string]string{"http+spans": "another"}}
		for _, feature := range laddered {
			r.ways[feature] = "another"
		}
		require.Len(t, r.wrongWays(), len(features), kernel)
		for feature, way := range features {
			require.Contains(t, laddered, feature)
			r.ways[feature] = way
		}
		r.ways["http+spans"] = r.ways["http"]
		require.Empty(t, r.wrongWays(), kernel)
	}
}

// Names and contents begin at multiples of four, and directories come before
// what is in them.
func TestArchive(t *testing.T) {
	a := newArchive()
	a.file("a/b/c", 0o644, []byte("content"))
	a.file("a/b/d", 0o755, nil)
	b := a.bytes()
	require.Zero(t, len(b)%4)
	require.Equal(t, 5, strings.Count(string(b), "070701")) // a, a/b, the files, the end
	require.Less(t, bytes.Index(b, []byte("a\x00")), bytes.Index(b, []byte("a/b\x00")))
	at := bytes.Index(b, []byte("content"))
	require.Positive(t, at)
	require.Zero(t, at%4)
}

func TestByVersion(t *testing.T) {
	require.Negative(t, byVersion("x/vmlinuz-5.4-amd64", "x/vmlinuz-5.10-amd64"))
	require.Negative(t, byVersion("x/vmlinuz-5.10-amd64", "x/vmlinuz-5.10-arm64"))
	require.Negative(t, byVersion("x/vmlinuz-5.19-amd64", "x/vmlinuz-6.1-amd64"))
}

// What init is told comes behind what the kernel is, and leaves the machine as it was.
func TestTold(t *testing.T) {
	m := machine{args: []string{"-m", "1", "-append", "quiet"}}
	require.Equal(t, []string{"-m", "1", "-append", "quiet " + olderGroups}, m.told(olderGroups).args)
	require.Equal(t, "quiet", m.args[3])
	require.Negative(t, byVersion("vmlinuz-4.15-amd64", "vmlinuz-4.18"))
	require.Positive(t, byVersion("vmlinuz-4.18-amd64", "vmlinuz-4.18"))
}
