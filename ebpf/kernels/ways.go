package main

import "fmt"

// laddered are the features that load programs.
var laddered = []string{"http", "stream", "tls", "tcp", "dns", "process", "block", "runq", "profile"}

// seen are the best ways that each kernel was seen to take; "" is none. A kernel that
// takes another one fails: else a program that its verifier no longer takes would go
// unnoticed, the next way taking its place.
var seen = map[string]map[string]string{
	"4.18-amd64": beside("packets alone", "sockets", nil),
	"5.4-amd64":  beside("packets", "sockets", nil),
	"5.8-amd64":  beside("packets", "sockets", nil),
	"5.10-amd64": beside("system calls", "sockets", plain),
	"5.10-arm64": beside("system calls", "sockets", oomless),
	"5.11-amd64": beside("system calls", "programs", oomless),
	"5.13-amd64": beside("system calls", "programs", oomless),
	"5.15-amd64": with("fexit bounded", "fexit", plain),
	"6.1-amd64":  with("fexit", "fexit", plain),
	"6.2-amd64":  with("fexit", "fexit", oomless),
	"6.8-amd64":  with("tracepoints", "tracepoints", plain),
	"6.12-amd64": with("tracepoints", "tracepoints", plain),
}

// plain are the ways of the features that need little; oomless those in kernels whose
// tracepoint mark_victim has no task, as before it was given one.
var (
	plain   = map[string]string{"process": "tracepoints", "block": "tracepoints", "profile": "clock"}
	oomless = map[string]string{"process": "without mark_victim", "block": "tracepoints", "profile": "clock"}
)

// with is a kernel that takes programs of TCP, http by one way, and by another all
// others that look at what sockets carry.
func with(http, others string, more map[string]string) map[string]string {
	ways := beside(http, "programs", more)
	for _, feature := range []string{"stream", "tls", "dns"} {
		ways[feature] = others
	}
	return ways
}

// beside is a kernel that takes http and tcp, and more if anything.
func beside(http, tcp string, more map[string]string) map[string]string {
	ways := map[string]string{"http": http, "tcp": tcp}
	for _, feature := range laddered {
		if feature != "http" && feature != "tcp" && feature != "runq" {
			ways[feature] = more[feature]
		}
	}
	return ways
}

// wrongWays tells the features that are not loaded in the way they should be.
func (r *results) wrongWays() []string {
	var wrong []string
	for _, feature := range laddered {
		got, tried := r.ways[feature]
		if want, known := seen[r.name][feature]; tried && known && got != want {
			wrong = append(wrong, fmt.Sprintf("%s: got the way %q, want %q", feature, got, want))
		}
	}
	if got, tried := r.ways["http+spans"]; tried && got != r.ways["http"] {
		wrong = append(wrong, fmt.Sprintf("http with spans: got the way %q, want %q as without", got, r.ways["http"]))
	}
	return wrong
}
