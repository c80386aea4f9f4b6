// Package cli asks a Prometheus HTTP API and prints the answer for a person in
// a terminal, or as JSON or CSV for a program.
//
//	Request ─► Client ─► Result ─► Render: table | chart | json | csv
//
// Output is a function of the Result and the Options alone: no terminal is
// asked, no clock is read and nothing is coloured. Text that came from a server
// is stripped of control characters before it is printed in tables and charts.
package cli
