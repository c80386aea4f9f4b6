/* SPDX-License-Identifier: Apache-2.0 */
/* The layout of what dns.bpf.c keeps and tells. */
#pragma once

#include "kernel.h"

#define IPPROTO_UDP 17
#define DNS_HEAD 12
#define DNS_NAME 256   /* the longest name there is, as it is sent */
#define DNS_WINDOW 512 /* bytes of a message that are looked at */
#define DNS_VECTOR 64  /* messages of one sendmmsg or recvmmsg looked at */
#define DNS_PORTS 4

enum dns_side { DNS_CLIENT, DNS_SERVER };

/* A question under way, and what is told when it has been answered. */
struct dns_lookup {
	__u64 process_start;
	__u64 start_ns;    /* when it was asked, or read */
	__u64 duration_ns; /* until the answer was read, or sent */
	__u32 tgid;
	__u32 addr[4]; /* of the server, for a client */
	__u8 comm[16];
	__u16 type;
	__u16 name_length;
	__u8 side;
	__u8 code; /* of the answer */
	__u8 pad[2];
	__u8 name[DNS_NAME]; /* as it is sent: a length before each label */
};

struct dns_key {
	__u64 cookie; /* of the socket */
	__u64 question; /* for a server, which many ask with ids of their own */
	__u16 id;
	__u8 side;
	__u8 pad[5];
};

/* What is kept of a socket: of UDP that it asks without being connected; of TCP
 * where the messages are, received and sent. */
struct dns_socket {
	__u16 left[2];    /* bytes to come of the message under way */
	__u8 fresh[2];    /* its head is still to come */
	__u8 halved[2];   /* the first byte of a length is in high */
	__u8 high[2];
	__u8 ignored;
	__u8 pad;
};

enum dns_stat {
	DNS_STAT_FULL,      /* questions for which there was no room */
	DNS_STAT_DROPPED,   /* answers not told: the ring buffer was full */
	DNS_STAT_IO_URING,  /* messages through io_uring, not seen */
	DNS_STAT_SYSCALL,   /* messages through calls that are not understood */
	DNS_STAT_UNREADABLE,/* messages whose memory could not be read */
	DNS_STAT_FRAMING,   /* messages over TCP whose head came in pieces */
	DNS_STAT_UNMATCHED, /* answers to no question that is known */
	DNS_STATS,
};
