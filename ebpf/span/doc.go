// Package span makes spans of the requests that the eBPF probe's features have
// seen, and says who called whom.
//
//	feature ─Add(Call)─► Recorder: held for Wait ─► joined, linked ─► OTLP
//
// A link is right or absent. These are the rules:
//
// Two ends join when their addresses mirror each other, the request's first byte
// has the same TCP sequence number at both, and no third call has them; on
// addresses that do not leave a host the network namespaces must be the same too.
// Ids are a hash of addresses, role and sequence number, so that the two ends
// have each other's without asking. What carries no valid traceparent has a
// trace of its own, of its two ends.
//
//   - A server span whose client span is known is that one's child.
//   - A client span is the child of the server span of its process that received
//     the same header, unchanged (trace id and parent id), if the process
//     received that header once and the client span begins within it. A header
//     that the process changed was written by a tracer: its parent id is that
//     tracer's span, and the parent.
//   - Else the header's parent id is the parent of the first call that has this
//     header, by time, and of no other: a proxy hands a header on, and what
//     comes behind the proxy is no child of what was before it. Requests without
//     a response are looked at for this too, since inner calls end first.
//   - A header that says "not sampled" names a parent that was not recorded: it is
//     nobody's parent. A client span with such a header is then the child of the
//     only server span of its process in the trace, if it begins within it.
//   - While calls are being lost, nobody knows who is first: no parent is taken
//     from headers.
//
// What is ambiguous by these rules has no parent. Without a traceparent nothing
// links a process's server spans to its client spans.
//
// Which requests become spans is decided by Wanted, and alike by the kernel: see
// there.
//
// Invariants: memory is bounded by Config.Buffer; a call becomes one span or is
// counted as lost; nothing is started before Run.
package span
