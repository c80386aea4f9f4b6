package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestReport(t *testing.T) {
	const head = "KERNEL 6.1.0 x86_64\r\nPACKAGE http1\r\n"
	for _, tc := range []struct {
		name, out string
		ok        bool
		want      []string
	}{
		{"all", head + "=== RUN   TestA\r\n--- PASS: TestA (0.1s)\r\nEXIT http1 0\r\nEND\r\n", true, []string{"6.1-amd64 (6.1.0 x86_64): 1 passed"}},
		{"skipped", head + "=== RUN   TestA\n    a_test.go:1: no BTF\n--- SKIP: TestA (0s)\nEXIT http1 0\nEND\n", true, []string{"0 passed", "SKIP http1.TestA: no BTF"}},
		{"subtests", head + "=== RUN   TestA\n=== RUN   TestA/x\n    a_test.go:1: no fexit\n=== RUN   TestA/y\n--- PASS: TestA (0s)\n    --- SKIP: TestA/x (0s)\n    --- PASS: TestA/y (0s)\nEXIT http1 0\nEND\n", true, []string{"2 passed", "SKIP http1.TestA/x: no fexit"}},
		{"failed", head + "=== RUN   TestA\n    a_test.go:1: got 1, want 2\n--- FAIL: TestA (0s)\nEXIT http1 1\nEND\n", false, []string{"FAIL http1.TestA", "got 1, want 2", "exit status 1"}},
		{"panicked", head + "Kernel panic - not syncing\n", false, []string{"did not come to the end", "Kernel panic"}},
		{"silent", "", false, []string{"did not come to the end"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var b bytes.Buffer
			require.Equal(t, tc.ok, report(&b, "6.1-amd64", []byte(tc.out), time.Second, false))
			for _, want := range tc.want {
				require.Contains(t, b.String(), want)
			}
		})
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
