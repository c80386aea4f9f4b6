// Package tls is the feature tls: it counts requests inside TLS, of programs that
// are named in the configuration.
//
//	/proc, exec ─► processes that match ─► inspect: where OpenSSL's or Go's functions begin and return
//	           ─► attach uprobes, once for each file
//	uprobes     ─► head and tail of the plaintext ─► ring buffer
//	Run         ─► stream.Table: a parser per connection ─► requests
//
// OpenSSL's functions are watched where they begin, and by a uretprobe. Go moves
// and walks its stacks and would find the return address that a uretprobe has put
// there, which kills the process; so its functions are watched where they begin
// and at each of their RET instructions, which are found by disassembling.
//
// Invariants: nothing is attached to a file that no watched process has mapped;
// no probe is placed but at the beginning of an instruction of a function that
// was recognised; addresses of a connection are those of a socket that was read
// or written within a call of its own, or not known.
package tls
