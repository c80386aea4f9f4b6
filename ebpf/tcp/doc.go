// Package tcp is the feature tcp: connections, failures, bytes, retransmits and
// round trips, by process and remote.
//
// Nothing runs per packet: the kernel's own counters of a socket are read by an
// iterator over open files when metrics are collected, and when a connection
// ends. Where that program may not be loaded or the kernel lacks what it needs,
// the same counters are read through sock_diag, of the connections that are open
// at that moment.
package tcp
