/* SPDX-License-Identifier: Apache-2.0 */
/* The layout of what http.bpf.c keeps and counts. */
#pragma once

#include "duration.h"

#define WINDOW 1024 /* bytes of a message looked at in one step */
#define CARRY 32    /* bytes of an unfinished line kept between I/Os */
#define DEPTH 16    /* pipelined requests whose method and start are kept */
#define SIZES 12    /* 64 B, 256 B, .. 64 MiB, more */
#define STEPS 2048  /* messages, chunks and windows followed in one I/O */
#define MISSES 64   /* I/Os that are not HTTP before a connection is ignored */

enum role { ROLE_UNKNOWN, ROLE_SERVER, ROLE_CLIENT };

enum method {
	OTHER, GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH,
};

enum state {
	AT_START,   /* between messages */
	IN_HEAD,    /* start line seen */
	HEAD_DONE,  /* the empty line after the fields, too */
	IN_BODY,    /* left bytes to go */
	CHUNK_SIZE, /* at the line that says how long a chunk is */
	IN_CHUNK,   /* left bytes to go, its line end included */
	IN_TRAILER, /* after the last chunk */
	DONE,       /* all of it seen */
	UNTIL_CLOSE,/* a response without a length */
	LOST,       /* next I/O that looks like a message begins one */
};

/* One direction of a connection. */
struct half {
	__u64 left;
	__u64 body;
	__u64 first_ns; /* arrival of the message's first byte */
	union {
		__u64 message; /* all of these, to clear them at once */
		struct {
			__u16 status;
			__u8 state;
			__u8 method;
			__u8 carried; /* bytes of carry in use, at its end */
			__u8 skip;    /* inside a line too long to be of interest */
			__u8 chunked;
			__u8 has_length;
		};
	};
	/* of spans only */
	__u8 in_part; /* some of the head is kept */
	__u8 traced;  /* random is a trace id's */
	__u8 cut;     /* its traceparent was split */
	__u8 pad;
	__u32 seq; /* of the message's first byte */
	__u64 random;
	__u64 carry[CARRY / 8];
};

struct conn {
	__u64 ready_ns; /* arrival of the oldest unread byte, 0: none */
	__u32 ready_seq; /* TCP's number of the byte after those that had arrived then */
	__u32 pad4;
#ifdef COPIES
	__u64 at; /* the socket's address */
#endif
	__u64 queue[DEPTH]; /* requests without response: start << 4 | method */
	__u32 sizes[DEPTH]; /* their bodies, bytes */
	__u32 pushed;
	__u32 popped;
	struct half half[2]; /* received, sent */
	__u64 process_start;
	__u32 tgid;
	__u32 addr[4];
	__u16 local_port;
	__u16 peer_port;
	__u8 role;
	__u8 misses;
	__u8 ignored;
	__u8 blind; /* some I/Os were not seen */
	/* the response under way */
	__u8 active;
	__u8 orphan; /* its request is not known yet */
	__u8 method;
	__u8 pad;
	__u16 status;
	__u16 pad2;
	__u64 start_ns;
	__u64 request_bytes;
	__u64 response_bytes;
	__u64 end_ns;
	__u64 closed_ns; /* 0: TCP has not done with it, or nobody has it */
	/* of spans only */
	__u64 tuple; /* hash of both ends */
	__u32 local_addr[4];
	__u32 netns;
	__u32 span_no; /* the request of the response under way, as pushed counts */
	__u16 headed;  /* requests whose heads are kept, one bit for each of DEPTH */
	__u8 spanned;  /* the head of span_no is kept */
	__u8 adopted;  /* the last request came after its response */
	__u8 pad3[4];
};

enum adopted { ADOPTED_NOT, ADOPTED_ACTIVE, ADOPTED_ENDED };

struct http_key {
	__u64 start_ns;
	__u32 tgid;
	__u16 port;
	__u16 status; /* 0: closed without a response */
	__u8 role;
	__u8 method;
	__u16 pad;
	__u32 addr[4]; /* of the server, for a client */
	__u32 pad2;
};

struct http_value {
	__u64 duration_ns;
	__u64 request_bytes;
	__u64 response_bytes;
	__u64 durations[SLOTS];
	__u64 request_sizes[SIZES];
	__u64 response_sizes[SIZES];
};

enum stat {
	STAT_FULL,       /* requests not counted: the map was full */
	STAT_UNREADABLE, /* I/Os whose memory could not be read */
	STAT_IO_URING,   /* I/Os done by io_uring, not seen */
	STAT_SYSCALL,    /* I/Os through calls that are not understood */
	STAT_HTTP2,      /* connections that speak HTTP/2 */
	STAT_LOST,       /* times the framing of a connection was lost */
	STAT_UNMATCHED,  /* responses whose request was not seen */
	STAT_DEEP,       /* pipelined requests beyond DEPTH */
	STAT_SPAN_FULL,      /* spans for which the ring had no room */
	STAT_SPAN_PIPELINED, /* sampled requests of pipelines beyond DEPTH */
	STAT_SPAN_CUT,       /* requests whose traceparent was split between I/Os */
	STAT_SPAN_EVICTED,   /* sampled requests whose head was evicted */
	STATS,
};

COUNTERS(STATS)

/* Messages are told by how they begin: 8 bytes at once, of which LOW keeps the
 * first n. */
#define W(a, b, c, d, e, f, g, h)                                              \
	((__u64)(a) | (__u64)(b) << 8 | (__u64)(c) << 16 | (__u64)(d) << 24 |  \
	 (__u64)(e) << 32 | (__u64)(f) << 40 | (__u64)(g) << 48 | (__u64)(h) << 56)
#define LOW(n) ((1ULL << (8 * (n))) - 1)
#define PROTO W('H', 'T', 'T', 'P', '/', '1', '.', 0)
#define PROTO2 W('H', 'T', 'T', 'P', '/', '2', '.', 0)

static __always_inline int method_of(__u64 w)
{
	if ((w & LOW(4)) == W('G', 'E', 'T', ' ', 0, 0, 0, 0))
		return GET;
	if ((w & LOW(5)) == W('P', 'O', 'S', 'T', ' ', 0, 0, 0))
		return POST;
	if ((w & LOW(5)) == W('H', 'E', 'A', 'D', ' ', 0, 0, 0))
		return HEAD;
	if ((w & LOW(4)) == W('P', 'U', 'T', ' ', 0, 0, 0, 0))
		return PUT;
	if ((w & LOW(7)) == W('D', 'E', 'L', 'E', 'T', 'E', ' ', 0))
		return DELETE;
	if ((w & LOW(6)) == W('P', 'A', 'T', 'C', 'H', ' ', 0, 0))
		return PATCH;
	if (w == W('O', 'P', 'T', 'I', 'O', 'N', 'S', ' '))
		return OPTIONS;
	if (w == W('C', 'O', 'N', 'N', 'E', 'C', 'T', ' '))
		return CONNECT;
	if ((w & LOW(6)) == W('T', 'R', 'A', 'C', 'E', ' ', 0, 0))
		return TRACE;
	return OTHER;
}
