/* SPDX-License-Identifier: Apache-2.0 */
/* What user space and the programs of tls share, and the kernel types that
 * kernel.h lacks. */
#pragma once

#include "kernel.h"

#if defined(__TARGET_ARCH_x86)
struct pt_regs___tls {
	unsigned long r14;
} __attribute__((preserve_access_index));
#define TASK_G(r) (((struct pt_regs___tls *)(r))->r14)
#else
#define TASK_G(r) ((r)->regs[28])
#endif

/* The registers as a uprobe sees them: an interface that does not change, so
 * nothing is mended. Go passes arguments and results in registers of its own
 * choice since 1.17 (amd64) and 1.18 (arm64). */
#if defined(__TARGET_ARCH_x86)
struct uregs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di;
	unsigned long orig_ax, ip, cs, flags, sp, ss;
};
#define ARG1(r) ((r)->di)
#define ARG2(r) ((r)->si)
#define ARG4(r) ((r)->cx)
#define RESULT(r) ((r)->ax)
#define STACK(r) ((r)->sp)
#define GO_ARG1(r) ((r)->ax)
#define GO_ARG2(r) ((r)->bx)
#define GO_ARG3(r) ((r)->cx)
#define GO_RESULT(r) ((r)->ax)
#define GO_G(r) ((r)->r14)
#else
struct uregs {
	__u64 regs[31];
	__u64 sp;
	__u64 pc;
	__u64 pstate;
};
#define ARG1(r) ((r)->regs[0])
#define ARG2(r) ((r)->regs[1])
#define ARG4(r) ((r)->regs[3])
#define RESULT(r) ((r)->regs[0])
#define STACK(r) ((r)->sp)
#define GO_ARG1(r) ((r)->regs[0])
#define GO_ARG2(r) ((r)->regs[1])
#define GO_ARG3(r) ((r)->regs[2])
#define GO_RESULT(r) ((r)->regs[0])
#define GO_G(r) ((r)->regs[28])
#endif

#define CAPTURE 4096 /* bytes of plaintext copied of one call */
#define TAIL 256     /* of which the last ones, when there are more */
/* Frames of HTTP/2 begin anywhere in what is written at once: of such
 * connections a whole record is copied, in so many pieces. */
#define PIECES 5

enum tls_kind {
	TLS_RECEIVED,
	TLS_SENT,
	TLS_CLOSE, /* the connection has ended */
	TLS_EXEC,  /* a process runs something else */
	TLS_HANDSHAKE, /* of calls only */
	TLS_MEMORY, /* a process hands its library memory instead of sockets */
};

/* Followed by head bytes, then by tail bytes; between them length - head - tail
 * bytes were not copied. */
struct tls_event {
	__u64 conn;
	__u64 process_start;
	__u64 at_ns;
	__u64 ready_ns; /* received: when data arrived; sent: when the call began */
	__u32 tgid;
	__u32 netns; /* 0: the socket is not known */
	__u32 seq; /* see tls_conn; counted from anywhere unless anchored */
	__u32 length;
	__u32 local[4];
	__u32 peer[4];
	__u16 local_port;
	__u16 peer_port;
	__u16 head;
	__u16 tail;
	__u32 offset; /* of the first byte in what the connection carried this way */
	__u8 kind;
	__u8 placed; /* offset is known */
	__u8 anchored; /* the other end knows seq, too */
	__u8 pad;
	__u8 comm[16]; /* the thread's name, for a process that soon exits */
	/* Received, while another thread writes: where what it writes ends, as seq. An
	 * answer may have been read before the write of what it answers has returned. */
	__u32 acked;
	__u32 pad2;
};

/* A call that has not returned: of a thread, or of a goroutine. */
struct tls_call_key {
	__u64 task; /* thread group and thread; of Go the group alone */
	__u64 g;    /* of Go */
};

struct tls_call {
	__u64 process_start;
	__u64 tls; /* SSL *, *tls.Conn */
	__u64 buffer;
	__u64 length_at; /* where the _ex functions leave the length */
	__u64 stack;
	__u64 enter_ns;
	__u64 ready_ns;
	__u64 conn; /* its id, since a socket was used */
	__u64 length; /* of what Go writes */
	__u64 bio; /* where BIO_read leaves what it reads, while it does */
	__u8 kind;
	__u8 on_stack; /* the buffer's distance from the end of a goroutine's stack */
	__u8 http2; /* as of the connection */
	__u8 go;
	__u8 pad[4];
};

struct tls_conn_key {
	__u64 tls;
	__u32 tgid;
	__u32 pad;
};

/* Both ends of a connection number what it carries alike: from TCP's sequence
 * number of the client's first byte of TLS on, which is base, without what TLS
 * adds. */
struct tls_conn {
	__u64 id;
	__u64 sk; /* 0: not known */
	__u64 ready_ns; /* when what was read last had arrived */
	__u32 local[4];
	__u32 peer[4];
	__u16 local_port;
	__u16 peer_port;
	__u32 netns;
	__u8 known; /* whether it is HTTP/2 */
	__u8 http2;
	__u8 placed;
	__u8 fresh; /* seen from its beginning, and no socket yet */
	__u32 base;
	__u32 moved[2]; /* bytes received and sent */
	__u32 anchored; /* base is known */
	/* Of Go, whose connections may be read and written at once: bytes whose writing
	 * has begun, and those of which user space was told. */
	__u32 begun;
	__u32 told;
	__u32 pad;
};

/* Of a socket that TLS was seen on. */
struct tls_sock {
	__u64 id;
	__u64 tls;
	__u64 ready_ns;
	__u32 tgid;
	__u32 base;   /* of a process that hands its library memory: see tls_conn */
	__u8 greeted; /* base is known */
	__u8 noted;   /* reads of it that are in ciphers, or were */
	__u8 pad[2];
	__u32 ready_seq; /* up to where it had received at ready_ns */
};

/* What a socket has received, encrypted: 16 bytes of a record that no other
 * record has, and the socket. */
struct tls_cipher_key {
	__u64 bytes[2];
	__u32 tgid;
	__u32 pad;
};

struct tls_cipher {
	__u64 sk; /* 0: several */
	__u32 local[4];
	__u32 peer[4];
	__u16 local_port;
	__u16 peer_port;
	__u32 netns;
	__u32 base;
	__u32 greeted;
};

enum tls_stat {
	TLS_STAT_RING,       /* events for which the ring had no room */
	TLS_STAT_CALLS,      /* calls for which the map had no room */
	TLS_STAT_UNREADABLE, /* buffers that could not be read */
	TLS_STATS,
};

COUNTERS(TLS_STATS)
