/* SPDX-License-Identifier: Apache-2.0 */
/* The layout of what stream.bpf.c keeps of a connection and sends. */
#pragma once

#include "kernel.h"

#define LOOK 64       /* bytes by which a protocol is told */
#define WINDOW 4096   /* bytes copied in one event, at most */
#define TAIL 32       /* bytes copied of the end of a longer I/O */
#define KEPT 12       /* bytes of an I/O too short to tell, or of a frame's header */
#define TRIES 32      /* I/Os looked at before a connection is ignored */
#define WINDOWS 1024  /* events for one I/O of HTTP/2 */
#define BUFFERS 1024  /* an I/O's buffers that are followed (the kernel's limit) */
#define DEEP 8        /* windows of an I/O with several requests */
#define EARLY 16      /* I/Os in which a database's connection may turn to TLS */

/* Protocols; the numbers are those of Go's protocol.Kind. */
enum stream_kind {
	KIND_UNKNOWN,
	KIND_HTTP1,
	KIND_HTTP2,
	KIND_POSTGRESQL,
	KIND_MYSQL,
	KIND_REDIS,
	KIND_KAFKA,
};

enum stream_flag {
	FLAG_SENT = 1,
	FLAG_CLOSED = 2, /* the connection has ended, or is not what it was taken for */
	FLAG_UNREAD = 4, /* ... and what was received may yet be read */
};

/* What is known of one direction. */
struct half {
	__u32 skip;  /* HTTP/2: bytes left of the current frame */
	__u8 data;   /* ... which is a DATA frame */
	__u8 begun;  /* an I/O has been followed */
	__u8 blind;  /* where frames begin is not known */
	__u8 cut;    /* bytes in kept */
	__u8 kept[KEPT];
};

struct stream_conn {
	__u64 cookie;
	__u64 ready_ns; /* arrival of the oldest unread byte, 0: none */
	__u64 process_start;
	struct half half[2]; /* received, sent */
	__u32 tgid;
	__u32 correlation; /* Kafka: of the request by which it was told */
	__u8 kind;
	__u8 sure;  /* both directions fit the kind */
	__u8 asker; /* direction of the I/O by which it was told */
	__u8 ignored;
	__u8 tries;
	__u8 told; /* user space has an event of it */
	__u8 early; /* I/Os of a database's connection, up to EARLY */
	__u8 deep;  /* several requests came in one I/O: so may their answers */
	__u32 ready_seq; /* up to where it had received at ready_ns */
	__u32 pad;
};

/* An event: this header, then head bytes, then tail bytes. */
struct stream_event {
	__u64 conn;
	__u64 process_start;
	__u64 ready_ns;
	__u64 at_ns;
	__u32 tgid;
	__u32 netns;
	__u32 seq;    /* of the first byte */
	__u32 length; /* bytes moved */
	__u16 head;
	__u16 tail;
	__u16 local_port;
	__u16 peer_port;
	__u8 kind;
	__u8 flags;
	__u8 pad[2];
	__u32 acked; /* received: the bytes sent before this one had arrived at the peer */
	__u32 local[4];
	__u32 peer[4];
};

enum stream_stat {
	STREAM_RING,       /* events for which the ring had no room */
	STREAM_UNREADABLE, /* I/Os whose memory could not be read */
	STREAM_IO_URING,   /* I/Os done by io_uring, on connections that are followed */
	STREAM_SYSCALL,    /* I/Os through calls that are not understood, likewise */
	STREAM_REFUTED,    /* connections taken for a protocol that they do not speak */
	STREAM_STATS,
};
