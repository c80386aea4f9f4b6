package main

import "fmt"

// laddered are the features that load programs.
var laddered = []string{"http", "stream", "tls", "tcp", "dns", "process", "block", "runq", "profile"}

// ways are the best that each kernel was seen to take; "" is none. A kernel that takes
// another one fails: else a program that its verifier no longer takes would go
// unnoticed, the next way taking its place.
var ways = map[string]map[string]string{}

// wrongWays tells the features that are not loaded in the way they should be.
func (r *results) wrongWays() []string {
	if len(r.ways) == 0 {
		return nil // the test that tells of them was not run
	}
	var wrong []string
	want := ways[r.name]
	for _, feature := range laddered {
		want, known := want[feature]
		if got := r.ways[feature]; known && got != want {
			wrong = append(wrong, fmt.Sprintf("%s: got the way %q, want %q", feature, got, want))
		}
	}
	if got, want := r.ways["http+spans"], r.ways["http"]; got != want {
		wrong = append(wrong, fmt.Sprintf("http with spans: got the way %q, want %q as without", got, want))
	}
	return wrong
}
