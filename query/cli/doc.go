// Package cli asks a server's HTTP APIs and prints the answer for a person in a
// terminal, or as JSON or CSV for a program.
//
//	Request ───────► Client ─► Result ─► Render: table | chart | json | csv      Prometheus HTTP API
//	SearchRequest ─► Client ─┬► Found ─► table | json | ids                      TraceQL
//	                         └► Result, of a query that makes series
//	id of a trace ─► Client ──► Trace ─► forest ─► rows ─► waterfall | json | otlp
//
// Output is a function of the answer and the options alone: no terminal is asked
// and no clock is read, and colours come only if the options say so. Text that
// came from a server is stripped of control characters before it is printed for
// a person, and whatever a trace holds (parents in a circle, spans that end
// before they start, a depth of thousands) a waterfall takes time in proportion
// to its spans and no line is wider than the terminal.
package cli
