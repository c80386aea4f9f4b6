package main

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"
)

var (
	verdict = regexp.MustCompile(`^\s*--- (PASS|FAIL|SKIP): (\S+)`)
	remark  = regexp.MustCompile(`^\s+\S+\.go:\d+: (.*)`)
	way     = regexp.MustCompile(`^way (.+): (loaded|refused) in ([^\s:]+)(?:: (.*))?$`)
)

// results is what the tests in one kernel come to. It is written what the kernel
// prints, and tells of each package when it is done: the number of tests that passed,
// each that failed with what it said, and why others were skipped.
type results struct {
	w       io.Writer
	name    string
	verbose bool

	kernel   string
	packages map[string]*outcome
	ways     map[string]string // the best that loads, by feature that was tried
	failed   bool
	panicked bool
	ended    bool

	rest  []byte   // of a line
	tail  []string // the last lines
	pkg   *outcome // at hand
	test  string
	said  map[string][]string // by test: verdicts on subtests come at the end
	since time.Time
}

// outcome is what the tests of a package come to.
type outcome struct {
	name                    string
	passed, failed, skipped int
	began                   time.Time
	done                    bool
	failures                []string
	reasons                 []string // why tests were skipped, in order
	skips                   map[string][]string
}

func newResults(w io.Writer, name string, o options) *results {
	return &results{w: w, name: name, verbose: o.verbose, since: time.Now(), packages: make(map[string]*outcome), ways: make(map[string]string)}
}

// Write takes what the kernel prints.
func (r *results) Write(b []byte) (int, error) {
	if r.verbose {
		_, _ = r.w.Write(b)
	}
	r.rest = append(r.rest, b...)
	for {
		line, rest, ok := strings.Cut(string(r.rest), "\n")
		if !ok {
			return len(b), nil
		}
		r.rest = []byte(rest)
		r.line(strings.TrimRight(line, "\r"))
	}
}

func (r *results) line(line string) {
	r.tail = append(r.tail[max(0, len(r.tail)-14):], line)
	r.panicked = r.panicked || strings.Contains(line, "Kernel panic")
	fields := strings.Fields(line)
	switch {
	case strings.HasPrefix(line, "KERNEL ") && len(fields) > 1:
		r.kernel = fields[1]
		fmt.Fprintf(r.w, "%s: %s is up after %s\n", r.name, r.kernel, time.Since(r.since).Round(time.Second))
	case strings.HasPrefix(line, "PACKAGE ") && len(fields) == 2:
		r.pkg = &outcome{name: fields[1], began: time.Now(), skips: make(map[string][]string)}
		r.packages[r.pkg.name] = r.pkg
		r.said = make(map[string][]string)
	case line == "END":
		r.ended = true
	case r.pkg == nil:
	case strings.HasPrefix(line, "EXIT ") && len(fields) == 3:
		if r.pkg.done = true; fields[2] != "0" {
			r.pkg.failures = append(r.pkg.failures, "exit status "+fields[2])
		}
		r.tell(r.pkg)
	case strings.HasPrefix(line, "=== ") && len(fields) == 3:
		r.test = fields[2]
	case verdict.MatchString(line):
		r.judge(verdict.FindStringSubmatch(line))
	case remark.MatchString(line):
		text := remark.FindStringSubmatch(line)[1]
		r.said[r.test] = append(r.said[r.test], text)
		r.noteWay(text)
	case len(r.said[r.test]) > 0 && len(r.said[r.test]) < 30:
		r.said[r.test] = append(r.said[r.test], strings.TrimSpace(line))
	}
}

func (r *results) judge(m []string) {
	p, test := r.pkg, m[2]
	switch m[1] {
	case "PASS":
		p.passed++
	case "SKIP":
		p.skipped++
		reason := ""
		if said := r.said[test]; len(said) > 0 {
			reason = said[len(said)-1]
		}
		if p.skips[reason] == nil {
			p.reasons = append(p.reasons, reason)
		}
		p.skips[reason] = append(p.skips[reason], test)
	case "FAIL":
		p.failed++
		p.failures = append(p.failures, test)
		for _, said := range r.said[test] {
			p.failures = append(p.failures, "    "+said)
		}
	}
}

// noteWay keeps what the probe's TestLadders says of a feature.
func (r *results) noteWay(text string) {
	feature, ok := strings.CutPrefix(r.test, "TestLadders/")
	m := way.FindStringSubmatch(text)
	if !ok || m == nil {
		return
	}
	best := r.ways[feature]
	if best == "" && m[2] == "loaded" {
		best = m[1]
	}
	r.ways[feature] = best
}

// tell prints what became of a package.
func (r *results) tell(p *outcome) {
	took := time.Since(p.began).Round(time.Second)
	fmt.Fprintf(r.w, "%s: %s: %d passed, %d failed, %d skipped in %s\n", r.name, p.name, p.passed, p.failed, p.skipped, took)
	for _, line := range p.failures {
		r.failed = true
		fmt.Fprintf(r.w, "  FAIL %s\n", line)
	}
	for _, reason := range p.reasons {
		fmt.Fprintf(r.w, "  SKIP %s: %s\n", strings.Join(p.skips[reason], ", "), reason)
	}
}

// end judges the whole.
func (r *results) end() {
	if !r.ended {
		r.failed = true
		fmt.Fprintf(r.w, "%s: FAIL the kernel did not come to the end; its last words:\n", r.name)
		for _, line := range append(r.tail, string(r.rest)) {
			fmt.Fprintf(r.w, "  %s\n", line)
		}
	}
	for _, line := range r.wrongWays() {
		r.failed = true
		fmt.Fprintf(r.w, "%s: FAIL %s\n", r.name, line)
	}
}

// features names those that a package tests otherwise than itself.
var features = map[string]string{"http1": "http"}

// table prints a line for each kernel: the way of each feature, and how many of its
// package's tests passed, failed and were skipped.
func table(w io.Writer, packages []string, all []*results) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintln(w, "\nthe way that holds, and the tests that passed/failed/were skipped:")
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "kernel\t"+strings.Join(packages, "\t"))
	for _, r := range all {
		cells := []string{r.name}
		for _, p := range packages {
			cells = append(cells, r.cell(p))
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	_ = tw.Flush()
}

func (r *results) cell(pkg string) string {
	p := r.packages[pkg]
	if p == nil && r.ended {
		return "-"
	}
	if p == nil {
		return "not reached"
	}
	s := fmt.Sprintf("%d/%d/%d", p.passed, p.failed, p.skipped)
	if !p.done {
		s += " unfinished"
	}
	feature := pkg
	if f, ok := features[pkg]; ok {
		feature = f
	}
	switch w, tried := r.ways[feature]; {
	case w != "":
		return w + " " + s
	case tried:
		return "none " + s
	}
	return s
}
