package config

import (
	"fmt"
	"strings"
)

// Problem is one fault of a configuration file.
type Problem struct {
	File string // empty: of no file that the user has
	Line int    // 1-based; 0 if the fault has no place in the file
	Key  string // full path, such as "buffer.retention.max_bytes"; empty for the document
	Text string // what is wrong, and what would be right
}

// Error writes the problem as file:line: key: text.
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	if p.Key != "" {
		b.WriteString(p.Key)
		b.WriteString(": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// Problems are all faults found in one file, in the order of their lines.
type Problems []Problem

// Error writes one problem per line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}
