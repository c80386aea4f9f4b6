/* SPDX-License-Identifier: Apache-2.0 */
/* The layout of what tcp.bpf.c counts. */
#pragma once

#include "kernel.h"

enum tcp_role { TCP_OUTGOING, TCP_INCOMING };

/* One process and one remote: of outgoing connections the peer's address and
 * port, of incoming ones the local port. */
struct tcp_key {
	__u64 start_ns;
	__u32 tgid;
	__u16 port;
	__u8 role;
	__u8 pad;
	__u32 addr[4];
};

struct tcp_value {
	__u64 connects; /* outgoing: established; incoming: seen to begin */
	__u64 sent;
	__u64 received;
	__u64 retransmits;
};

struct tcp_failure {
	struct tcp_key remote;
	__u32 error; /* errno, 0: given up by the process */
	__u32 pad;
};

/* Where a process answers: an address that connections came in on. The network
 * namespace tells loopback addresses apart, and is 0 with others. */
struct tcp_place {
	__u32 addr[4];
	__u32 netns;
	__u16 port;
	__u16 pad;
};

/* What is kept of a connection while it lives. */
struct tcp_conn {
	struct tcp_key key; /* tgid 0: nobody owns it yet */
	__u64 sent; /* these are in the map already */
	__u64 received;
	__u64 retransmits;
	__u64 session; /* of the iterator that told of it last */
	__u8 fresh; /* its beginning is not counted yet */
	__u8 pad[7];
};

/* One living connection, as the iterator tells it. */
struct tcp_open {
	struct tcp_key key;
	__u32 rtt_us;
	__u32 pad;
};

enum tcp_stat {
	TCP_STAT_FULL,    /* changes not counted: the map was full */
	TCP_STAT_UNOWNED, /* connections that ended before their process was known */
	TCP_STATS,
};
