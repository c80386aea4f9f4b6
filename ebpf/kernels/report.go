package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

var (
	verdict = regexp.MustCompile(`^\s*--- (PASS|FAIL|SKIP): (\S+)`)
	remark  = regexp.MustCompile(`^\s+\S+\.go:\d+: (.*)`)
)

// report prints what became of the tests of one kernel: the number that passed,
// each that failed with what it said, and each that was skipped with the reason.
// It is true when all ran to their end and none failed.
func report(w io.Writer, name string, out []byte, took time.Duration, told bool) bool {
	var pkg, test, kernel string
	said := make(map[string][]string) // by test: verdicts on subtests come at the end
	passed, ended := 0, false
	ok := true
	var lines []string
	s := bufio.NewScanner(bytes.NewReader(out))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		line := strings.TrimRight(s.Text(), "\r")
		switch fields := strings.Fields(line); {
		case strings.HasPrefix(line, "KERNEL "):
			kernel = strings.TrimPrefix(line, "KERNEL ")
		case strings.HasPrefix(line, "PACKAGE "):
			pkg = fields[1]
			clear(said)
		case strings.HasPrefix(line, "EXIT ") && len(fields) == 3:
			if fields[2] != "0" {
				ok = false
				lines = append(lines, fmt.Sprintf("  FAIL %s: exit status %s", pkg, fields[2]))
			}
		case line == "END":
			ended = true
		case strings.HasPrefix(line, "=== ") && len(fields) == 3:
			test = fields[2]
		case verdict.MatchString(line):
			m := verdict.FindStringSubmatch(line)
			switch m[1] {
			case "PASS":
				passed++
			case "SKIP":
				reason := ""
				if r := said[m[2]]; len(r) > 0 {
					reason = r[len(r)-1]
				}
				lines = append(lines, fmt.Sprintf("  SKIP %s.%s: %s", pkg, m[2], reason))
			case "FAIL":
				ok = false
				lines = append(lines, fmt.Sprintf("  FAIL %s.%s", pkg, m[2]))
				if !told {
					for _, r := range said[m[2]] {
						lines = append(lines, "       "+r)
					}
				}
			}
		case remark.MatchString(line):
			said[test] = append(said[test], remark.FindStringSubmatch(line)[1])
		case len(said[test]) > 0 && len(said[test]) < 30:
			said[test] = append(said[test], strings.TrimSpace(line))
		}
	}
	if !ended {
		ok = false
		lines = append(lines, "  FAIL the kernel did not come to the end; its last words:")
		tail := strings.Split(strings.TrimSpace(string(out)), "\n")
		for _, l := range tail[max(0, len(tail)-15):] {
			lines = append(lines, "       "+strings.TrimRight(l, "\r"))
		}
	}
	fmt.Fprintf(w, "%s (%s): %d passed, %s\n%s", name, kernel, passed, took.Round(time.Second), strings.Join(append(lines, ""), "\n"))
	return ok
}
