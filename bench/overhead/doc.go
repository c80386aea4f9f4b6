// Package overhead measures what the agent costs those whom it watches, and what
// it costs itself.
//
//	nginx ◄── requests over keep-alive, as many with the agent as without, in turns
//	  └─ processor time of its workers for a request, with minus without
//	agent: processor time and memory while nginx answers 20,000 requests a second
//
// Turns are short and alternate, so that what else the machine does falls on all
// of them alike; medians are told. A feature that does not load is an error: a
// figure of an agent that sees nothing would be worth nothing.
package overhead
