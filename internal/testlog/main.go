// Command testlog reads the output of go test -json and prints what a person
// wants from it: one line per package, all output of tests that failed, and each
// skipped test with its reason.
//
//	go test -json ./... | go run ./internal/testlog
//
// It exits with 1 if anything failed or nothing was run.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

type event struct {
	Action     string
	Package    string
	ImportPath string // of build output
	Test       string
	Elapsed    float64
	Output     string
}

type key struct{ pkg, test string }

type summary struct {
	passed, failed, skipped, packages int
	skips                             []string
}

func main() {
	s, err := report(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "read go test's events:", err)
		os.Exit(1)
	}
	if s.failed > 0 || s.packages == 0 {
		os.Exit(1)
	}
}

// report copies r's interesting parts to w as they come and returns the counts.
func report(r io.Reader, w io.Writer) (summary, error) {
	var s summary
	output := map[key][]string{}
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				fmt.Fprintf(w, "%s", line) // of go itself
			} else {
				s.add(e, output, w)
			}
		}
		if err == io.EOF {
			s.print(w)
			return s, nil
		}
		if err != nil {
			return s, err
		}
	}
}

func (s *summary) add(e event, output map[key][]string, w io.Writer) {
	k := key{e.Package, e.Test}
	switch e.Action {
	case "output":
		output[k] = append(output[k], e.Output)
		return
	case "build-output":
		fmt.Fprint(w, e.Output)
		return
	case "pass", "fail", "skip":
	default:
		return
	}
	lines := output[k]
	delete(output, k)
	if e.Test == "" {
		s.packages++
		s.packageLine(e, lines, w)
		return
	}
	switch e.Action {
	case "pass":
		s.passed++
	case "fail":
		s.failed++
		fmt.Fprint(w, strings.Join(lines, ""))
	case "skip":
		s.skipped++
		s.skips = append(s.skips, fmt.Sprintf("%s %s: %s", e.Package, e.Test, reason(lines)))
	}
}

func (s *summary) packageLine(e event, lines []string, w io.Writer) {
	switch e.Action {
	case "fail":
		s.failed++
		fmt.Fprint(w, strings.Join(lines, ""))
		fmt.Fprintf(w, "FAIL\t%s\t%.1fs\n", e.Package, e.Elapsed)
	case "pass":
		fmt.Fprintf(w, "ok  \t%s\t%.1fs\n", e.Package, e.Elapsed)
	case "skip":
		fmt.Fprintf(w, "?   \t%s\t[no test files]\n", e.Package)
	}
}

// reason finds what a skipped test said: its lines that are neither framing nor
// empty, without the place in the source.
func reason(lines []string) string {
	var said []string
	for _, l := range lines {
		l = strings.TrimSpace(l)
		if l == "" || strings.HasPrefix(l, "=== ") || strings.HasPrefix(l, "--- ") {
			continue
		}
		if _, text, ok := strings.Cut(l, ".go:"); ok {
			if _, text, ok = strings.Cut(text, ": "); ok {
				l = text
			}
		}
		said = append(said, l)
	}
	if len(said) == 0 {
		return "no reason given"
	}
	return strings.Join(said, "; ")
}

func (s *summary) print(w io.Writer) {
	for _, l := range s.skips {
		fmt.Fprintln(w, "skipped", l)
	}
	fmt.Fprintf(w, "%d passed, %d failed, %d skipped\n", s.passed, s.failed, s.skipped)
}
