/* SPDX-License-Identifier: Apache-2.0 */
/* Counts HTTP/1.x requests where TCP sockets are read and written.
 *
 * sock_recv_length and sock_send_length fire after the call; its registers
 * still hold the user's buffer, and what lies there is the message. A small
 * parser per direction follows heads, lengths and chunks across I/Os, so that
 * a message is found wherever it begins. sk_data_ready starts the clock.
 * A finished response adds one to a bucket of the requests map. */
#pragma once

#include "http.h"
#include "untyped.h"

/* Rounds of a loop are functions that bpf_loop calls, or, with BOUNDED defined as
 * the most steps of an I/O, part of a loop of C. ONCE is before what the verifiers
 * of kernels that need those loops must not follow more than once. */
#ifdef BOUNDED
#define STEP static __always_inline
#define ONCE __noinline
#else
#define STEP static
#define ONCE static __always_inline
#endif

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct tcp_sock___clock {
	__u64 tcp_clock_cache;
	__u32 snd_nxt;
	__u32 write_seq;
};
#pragma clang attribute pop

/* How functions that are verified once are told of a connection and of one of its
 * halves, that of the direction sent. Before 5.12 they take no pointers: with
 * COPIES, for UNTYPED programs, they look it up. */
#ifdef COPIES
#define CONN_ARG __u64 at
#define HALF_ARG __u64 at
#define BOTH_ARGS __u64 at
#define CONN(c) ((c)->at)
#define HALF(c, h) ((c)->at)
#define BOTH(c, h) ((c)->at)
#define FIND_CONN struct conn *c = conns_of((struct sock *)at, false)
#define FIND_BOTH                                          \
	FIND_CONN;                                         \
	struct half *h;                                    \
                                                           \
	if (!c)                                            \
		return 0;                                  \
	h = &c->half[sent & 1]
#define FIND_HALF FIND_BOTH
#else
#define CONN_ARG struct conn *c
#define HALF_ARG struct half *h
#define BOTH_ARGS struct conn *c, struct half *h
#define CONN(c) (c)
#define HALF(c, h) (h)
#define BOTH(c, h) (c), (h)
#define FIND_CONN
#define FIND_BOTH
#define FIND_HALF
#endif

/* keeps the types in the object, for the bindings */
const struct process *bind_process __attribute__((unused));
const enum stat *bind_stat __attribute__((unused));
const enum method *bind_method __attribute__((unused));
const enum role *bind_role __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct http_key);
	__type(value, struct http_value);
} requests SEC(".maps");

SOCKET_STORAGE(conns, struct conn)

/* One I/O under way. In a map and not on the stack, because the verifier does
 * not follow the values of what a map holds. */
struct scratch {
	__u8 data[4096]; /* carry, then a window of the message, then room to overrun */
	__u64 now;
	__u64 arrived;
	__u64 left; /* bytes of the I/O not consumed */
	__u64 base; /* current buffer */
	__u64 room; /* bytes of it not consumed */
	__u64 iov;  /* next buffer's iovec, 0: there is none */
	__u32 iovs;
	__u32 end_seq; /* TCP's number of the byte after the I/O */
	__u32 line; /* found by next_line */
	__u32 lf;
	__u8 virgin; /* the first bytes ever read from this connection */
	/* of spans only: what this window has of a request's head */
	__u32 seq;       /* TCP's number of the byte at CARRY */
	__u32 start_at;  /* the start line */
	__u32 start_len; /* 0: it is not here */
	__u32 parent_at; /* the field traceparent */
	__u32 parent_lf; /* where that ends, 0: it is not here */
};

/* One for each direction: a task that receives may take the processor from one
 * that sends. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct http_value);
} zero_value SEC(".maps");

/* What following an I/O needs at hand. */
struct io {
	struct conn *c;
	struct half *h;
	struct scratch *b;
	__u32 sent;
	__u32 end;  /* of the window */
	__u32 stop; /* what follows is no line */
};

static __always_inline struct scratch *get_scratch(__u32 sent)
{
	return bpf_map_lookup_elem(&scratch, &sent);
}

/* The time of an I/O, once it is asked for: reading the clock takes as long as
 * reading a line. */
static __always_inline __u64 now_of(struct scratch *b)
{
	if (!b->now)
		b->now = bpf_ktime_get_ns();
	return b->now;
}

static __always_inline __u64 load(struct scratch *b, __u64 pos)
{
	return *(__u64 *)(b->data + (pos & 2047));
}

#include "http_span.h"

static __always_inline __u32 size_bucket(__u64 n)
{
	__u32 e;

	if (n <= 64)
		return 0;
	e = (log2_64(n - 1) - 4) / 2;
	return e >= SIZES ? SIZES - 1 : e;
}

/* Adds the response under way to the requests map. */
__noinline int record(CONN_ARG, __u64 end_ns)
{
	FIND_CONN;
	struct http_key key = {};
	struct http_value *v;
	__u32 zero = 0, s;
	__u64 ns;

	if (!c)
		return 0;
	if (spanning && c->spanned)
		send_span(CONN(c), end_ns);
	key.start_ns = c->process_start;
	key.tgid = c->tgid;
	key.port = c->role == ROLE_SERVER ? c->local_port : c->peer_port;
	key.status = c->status;
	key.role = c->role;
	key.method = c->method;
	if (c->role == ROLE_CLIENT) {
		key.addr[0] = c->addr[0];
		key.addr[1] = c->addr[1];
		key.addr[2] = c->addr[2];
		key.addr[3] = c->addr[3];
	}
	v = bpf_map_lookup_elem(&requests, &key);
	if (!v) {
		v = bpf_map_lookup_elem(&zero_value, &zero);
		if (!v)
			return 0;
		bpf_map_update_elem(&requests, &key, v, BPF_NOEXIST);
		v = bpf_map_lookup_elem(&requests, &key);
		if (!v) {
			count(STAT_FULL);
			return 0;
		}
	}
	ns = end_ns > c->start_ns ? end_ns - c->start_ns : 0;
	__sync_fetch_and_add(&v->duration_ns, ns);
	s = duration_slot(ns);
	if (s < SLOTS)
		__sync_fetch_and_add(&v->durations[s], 1);
	s = size_bucket(c->request_bytes);
	if (s < SIZES)
		__sync_fetch_and_add(&v->request_sizes[s], 1);
	s = size_bucket(c->response_bytes);
	if (s < SIZES)
		__sync_fetch_and_add(&v->response_sizes[s], 1);
	if (c->request_bytes)
		__sync_fetch_and_add(&v->request_bytes, c->request_bytes);
	if (c->response_bytes)
		__sync_fetch_and_add(&v->response_bytes, c->response_bytes);
	return 0;
}

/* The response under way has ended. One whose request is still unknown waits
 * for it. */
static __always_inline int finish(struct conn *c, __u64 now)
{
	if (!c || !c->active)
		return 0;
	c->active = 0;
	c->end_ns = now;
	if (!c->orphan)
		record(CONN(c), now);
	return 0;
}

#include "http_message.h"

/* Returned by next_line. */
enum found {
	NO_LINE,   /* none ends in the window; line is where one has begun */
	MORE,      /* look on behind it */
	NO_MORE,   /* what follows is no line */
};

/* Finds the next line of the half in [from, end) that matters, and acts on it:
 * of header fields only those of interest and the empty line. Leaves in line and
 * lf of the scratch where to look on. Functions cost a return each, which
 * processors with a flawed predictor make dear: so the ones below are inlined. */
__noinline int next_line(CONN_ARG, __u32 sent, __u64 end)
{
	FIND_CONN;
	struct scratch *b = get_scratch(sent);
	__u64 line, pos, lf;
	struct half *h;
	bool fields, found = false;
	__u64 x, m;

	if (!b || !c)
		return NO_LINE;
	line = b->line;
	pos = b->lf;
	h = &c->half[sent & 1];
	fields = h->state == IN_HEAD && !h->skip;
	for (__u64 i = 0; i < 2 * WINDOW / 8; i++) {
		/* whatever way a round took, the next begins with the same bounds, those
		 * of load: so the verifier follows one */
		asm volatile("%0 &= 2047" : "+r"(pos));
		asm volatile("%0 &= 2047" : "+r"(line));
		if (pos >= end)
			break;
		x = *(__u64 *)(b->data + pos) ^ 0x0a0a0a0a0a0a0a0aULL;
		/* the high bit of every byte that is zero; the lowest is right */
		m = (x - 0x0101010101010101ULL) & ~x & 0x8080808080808080ULL;
		if (!m) {
			pos += 8;
			continue;
		}
		m &= -m;
		lf = pos + ((((m >> 7) - 1) & 0x0101010101010101ULL) * 0x0101010101010101ULL >> 56);
		if (lf >= end) {
			pos = end;
			break;
		}
		if (!fields || lf - line <= 1) {
			b->line = line;
			b->lf = lf;
			found = true;
			break;
		}
		m = *(__u64 *)(b->data + line);
		/* The 1st and 4th letters of content-, transfer- and traceparent: one
		 * branch, since the verifier follows each in every round. */
		if (((1ULL << ('c' ^ 't') | 1ULL << ('t' ^ 'n')) >> ((m ^ m >> 24) & 31)) & 1)
			header_line(HALF(c, h), sent, line, lf);
		line = pos = lf + 1;
	}
	if (!found) {
		b->line = line;
		b->lf = pos < end ? pos : end;
		return NO_LINE;
	}
	/* read back, so that the verifier forgets in which round it was found */
	line = b->line;
	lf = b->lf;
	b->line = b->lf = lf + 1;
	return on_line(c, h, sent, line, lf) ? NO_MORE : MORE;
}

/* Looks at the next line of a window that matters; returns 1 when there is none
 * or what follows is no line. */
static __always_inline long scan_one(struct io *io)
{
	int found = next_line(CONN(io->c), io->sent, io->end);

	io->stop = found == NO_MORE;
	/* not at the end: so many short lines that one search is not enough */
	return found == NO_MORE || (found == NO_LINE && io->b->lf >= io->end);
}

#ifdef BOUNDED /* kernels without bpf_loop, before 5.17 */
static __always_inline void scan_rest(struct io *io)
{
	for (int i = 0; i < 32; i++) {
		if (scan_one(io))
			break;
	}
}
#else
static long scan_line(__u32 i, struct io *io)
{
	return scan_one(io);
}

static __always_inline void scan_rest(struct io *io)
{
	bpf_loop(WINDOW, scan_line, io, 0);
}
#endif

static __always_inline void advance(struct scratch *b, __u64 n)
{
	b->left -= n;
	b->base += n;
	b->room = b->room > n ? b->room - n : 0;
}

/* Skips n bytes that may span buffers; the cursor is then mended by step. */
static __always_inline void skip(struct scratch *b, __u64 n)
{
	if (n >= b->left) {
		b->left = 0;
		return;
	}
	if (n > b->room)
		n = b->room;
	advance(b, n);
}

/* Is it TLS or something else that is not HTTP? */
static __always_inline bool refuse(struct io *io)
{
	struct scratch *b = io->b;
	__u8 ch = b->data[CARRY];

	if ((ch == 0x16 || ch == 0x17) && b->data[CARRY + 1] == 3)
		io->c->ignored = 1; /* TLS */
	return (ch < 'A' || ch > 'Z') && ch != '\r' && ch != '\n';
}

/* Parses the next window of lines. */
static __always_inline int lines(struct io *io)
{
	struct half *h = io->h;
	struct conn *c = io->c;
	struct scratch *b = io->b;
	__u64 n = b->left < b->room ? b->left : b->room;
	__u32 rest, line;

	if (n > WINDOW)
		n = WINDOW;
	if (n > 64 && h->state == CHUNK_SIZE)
		n = 64;
	__builtin_memcpy(b->data, h->carry, CARRY);
	asm volatile("%0 &= 2047" : "+r"(n));
	if (bpf_probe_read_user(b->data + CARRY, n, (void *)b->base)) {
		count(STAT_UNREADABLE);
		c->blind = 1;
		h->state = LOST;
		return 1;
	}
	if (h->state == AT_START && !h->carried) {
		h->first_ns = b->arrived ? b->arrived : now_of(b);
		if (c->role == ROLE_UNKNOWN && refuse(io)) {
			h->state = LOST;
			return 1;
		}
	}
	if (spanning) {
		b->seq = b->end_seq - b->left;
		b->start_len = 0;
		b->parent_lf = 0;
	}
	io->end = CARRY + n;
	b->lf = CARRY;
	b->line = CARRY - h->carried;
	/* most often a message's start line, then the rest of its head */
	if (!scan_one(io) && !scan_one(io))
		scan_rest(io);
	line = b->line;
	h->carried = 0;
	if (io->stop) {
		h->skip = 0;
		advance(b, line > CARRY ? line - CARRY : 0);
		return h->state == LOST || c->ignored;
	}
	rest = io->end - line;
	if (h->skip) {
		/* still inside it */
	} else if (line > CARRY && n == WINDOW && n < b->left && n < b->room) {
		/* look at the unfinished line anew, with what follows it */
		n = line - CARRY;
	} else if (rest <= CARRY) {
		h->carried = rest;
		__builtin_memcpy(h->carry, b->data + ((io->end - CARRY) & 2047), CARRY);
	} else {
		if (h->state == AT_START) {
			if (!start_line(BOTH(c, h), io->sent, line, 0)) {
				h->state = LOST;
				return 1;
			}
			h->state = IN_HEAD;
			if (spanning)
				b->start_len = rest;
		} else if (spanning && begins_parent(b, line)) {
			h->cut = 1;
		}
		h->skip = 1;
	}
	if (spanning && h->state == IN_HEAD && !h->status && (b->start_len || b->parent_lf))
		part_of_head(BOTH(c, h), io->sent);
	advance(b, n);
	return 0;
}

/* Moves the cursor to the next buffer. */
static __always_inline int next_buffer(struct scratch *b)
{
	__u64 v[2];

	if (!b->iov || !b->iovs || bpf_probe_read_user(v, sizeof(v), (void *)b->iov))
		return 0;
	b->iov += sizeof(v);
	b->iovs--;
	b->base = v[0];
	b->room = v[1];
	return 1;
}

/* One step over an I/O: a window of lines or a body, and what ends with it.
 * Returns 1 when nothing is left of it. */
STEP long step(__u32 i, struct io *io)
{
	struct scratch *b = io->b;
	struct half *h = io->h;
	struct conn *c = io->c;
	__u64 n;

	if (!b->left || h->state == LOST || c->ignored)
		return 1;
	if (h->state == UNTIL_CLOSE) {
		h->body += b->left;
		c->response_bytes = h->body;
		c->end_ns = now_of(b);
		return 1;
	}
	if (!b->room && !((h->state == IN_BODY || h->state == IN_CHUNK) && h->left >= b->left)) {
		if (next_buffer(b))
			return 0;
		count(STAT_UNREADABLE);
		c->blind = 1;
		h->state = LOST;
		return 1;
	}
	if (h->state != IN_BODY && h->state != IN_CHUNK) {
		if (lines(io))
			return 1;
		/* a message may end with the I/O */
		if (h->state == HEAD_DONE)
			head_end(c, h, io->sent, b);
	} else {
		n = h->left < b->left ? h->left : b->left;
		if (n < b->left && n > b->room)
			n = b->room;
		skip(b, n);
		h->left -= n;
		if (!h->left)
			h->state = h->state == IN_CHUNK ? CHUNK_SIZE : DONE;
	}
	if (h->state == DONE)
		message_end(c, h, b);
	return !b->left;
}

#ifdef BOUNDED
/* A function that is not static is verified once, not in every round. */
__noinline int step_of(CONN_ARG, __u32 sent)
{
	FIND_CONN;
	struct io io = { .c = c, .sent = sent };

	if (!c)
		return 1;
	io.b = get_scratch(sent);
	if (!io.b)
		return 1;
	io.h = &c->half[sent & 1];
	return step(0, &io);
}

static __always_inline bool endless(struct io *io)
{
	for (int i = 0; i < BOUNDED; i++) {
		if (step_of(CONN(io->c), io->sent))
			return false;
	}
	return true;
}
#else
static __always_inline bool endless(struct io *io)
{
	/* most often a whole message */
	return !step(0, io) && bpf_loop(STEPS, step, io, 0) == STEPS;
}
#endif

/* Does the I/O begin like a message? */
static __always_inline bool looks_new(struct scratch *b)
{
	__u64 w = 0;

	if (!b->room)
		return false;
	if (b->left < 8 || b->room < 8)
		return !bpf_probe_read_user(&w, 1, (void *)b->base) && w >= 'A' && w <= 'Z';
	if (bpf_probe_read_user(&w, 8, (void *)b->base))
		return false;
	return (w & LOW(7)) == PROTO || method_of(w) != OTHER;
}

/* Follows one I/O of length bytes. */
static __always_inline void follow(struct io *io)
{
	struct scratch *b = io->b;
	struct conn *c = io->c;
	struct half *h = io->h;

	if (h->state == LOST) {
		if (c->role == ROLE_UNKNOWN && c->misses > MISSES) {
			c->ignored = 1;
			return;
		}
		if (c->role != ROLE_UNKNOWN && !looks_new(b))
			return;
		if (io->sent == (c->role == ROLE_SERVER))
			finish(c, now_of(b));
		reset_half(h, AT_START);
	} else if (h->state >= IN_BODY) {
		/* a body that went unseen (splice) has ended if another message
		 * begins where none is owed but one is asked for */
		bool idle = h->status ? c->pushed != c->popped : c->pushed == c->popped && !c->active;

		if (idle && c->role != ROLE_UNKNOWN && looks_new(b)) {
			if (h->status)
				finish(c, now_of(b));
			reset_half(h, AT_START);
			count(STAT_LOST);
		}
	}
	if (endless(io)) {
		count(STAT_LOST);
		h->state = LOST;
	}
	if (h->state == LOST && c->role == ROLE_UNKNOWN)
		c->misses++;
}

/* Finds the buffers of system call nr, whose second and third arguments are told. */
static __always_inline bool buffers_of(struct scratch *b, long nr, __u64 second, __u64 third)
{
	__u64 head[4];

	switch (nr) {
	case NR_read:
	case NR_write:
	case NR_recvfrom:
	case NR_sendto:
		b->base = second;
		b->room = b->left;
		return true;
	case NR_readv:
	case NR_writev:
	case NR_preadv2:
	case NR_pwritev2:
		b->iov = second;
		b->iovs = third;
		next_buffer(b);
		return true;
	case NR_sendmsg:
	case NR_recvmsg:
		/* msg_name, msg_namelen, msg_iov, msg_iovlen */
		if (bpf_probe_read_user(head, sizeof(head), (void *)second))
			return true;
		b->iov = head[2];
		b->iovs = head[3];
		next_buffer(b);
		return true;
	case NR_sendfile:
	case NR_splice:
		return true; /* a body, or part of one */
	case NR_io_uring_enter:
		count(STAT_IO_URING);
		return false;
	}
	count(STAT_SYSCALL);
	return false;
}

/* When TCP last sent or received something for a socket: it has read the clock
 * then, CLOCK_MONOTONIC, as programs do. 0: this kernel does not keep it, or
 * copying it costs more than reading the clock. */
static __always_inline __u64 tcp_time(struct tcp_sock *tp)
{
#ifdef UNTYPED
	return 0;
#else
	struct tcp_sock___clock *t = (void *)tp;

	return bpf_core_field_exists(t->tcp_clock_cache) ? t->tcp_clock_cache : 0;
#endif
}

/* When the last byte given to a socket was sent; 0: it waits for the peer, or
 * for more. */
static __always_inline __u64 sent_time(struct tcp_sock *tp)
{
#ifdef UNTYPED
	return 0;
#else
	struct tcp_sock___clock *t = (void *)tp;

	return t->snd_nxt == t->write_seq ? tcp_time(tp) : 0;
#endif
}

#ifndef COPIES
static __always_inline bool buffers(struct scratch *b)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct pt_regs *regs;

	if (task->flags & PF_IO_WORKER) {
		count(STAT_IO_URING);
		return false;
	}
	regs = (void *)bpf_task_pt_regs((void *)task);
	return buffers_of(b, SYSCALL_NR(regs), SYSCALL_ARG2(regs), SYSCALL_ARG3(regs));
}
#else
static __always_inline bool buffers(struct scratch *b);
#endif

static __always_inline int on_io(struct sock *sk, int ret, int flags, __u8 sent)
{
	struct io io = {};
	struct tcp_sock *tp;
	struct scratch *b;
	struct conn *c;

	if (ret <= 0 || GET(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	if (!sent && (flags & (MSG_PEEK | MSG_ERRQUEUE)))
		return 0;
	c = conns_of(sk, true);
	if (!c || c->ignored)
		return 0;
	b = get_scratch(sent);
	tp = tcp_of(sk);
	if (!b || !tp)
		return 0;
	b->virgin = 0;
	b->now = sent ? sent_time(tp) : 0;
	b->arrived = 0;
	if (!c->tgid) {
		if (!owner(c)) {
			c->ignored = 1;
			return 0;
		}
		/* the ports are gone by the time the socket closes */
		c->local_port = GET(sk, __sk_common.skc_num);
		c->peer_port = bpf_ntohs(GET(sk, __sk_common.skc_dport));
		peer_of(sk, c->addr);
		span_conn(c, sk);
#ifdef COPIES
		c->at = (__u64)sk;
#endif
	}
	if (!sent) {
		__u32 copied = GET(tp, copied_seq), unread = GET(tp, rcv_nxt) - copied;

		b->end_seq = copied;
		b->arrived = c->ready_ns;
		if (!unread) {
			c->ready_ns = 0;
		} else if (c->ready_ns && (__s32)(copied - c->ready_seq) >= 0) {
			/* what is left came after those, by now */
			c->ready_ns = now_of(b);
			c->ready_seq = copied + unread;
		}
		if (c->role == ROLE_UNKNOWN)
			b->virgin = GET(tp, bytes_received) - unread == (__u64)ret;
	} else if (spanning) {
		b->end_seq = GET(tp, write_seq);
	}
	b->left = ret;
	b->iov = 0;
	b->room = 0;
	io.c = c;
	io.h = &c->half[sent];
	io.b = b;
	io.sent = sent;
	if (!buffers(b)) {
		c->blind = 1;
		io.h->state = LOST;
		return 0;
	}
	follow(&io);
	return 0;
}

/* Starts the clock of what the application will read. upto is TCP's number of the
 * byte after what has arrived; 0: the socket knows it. */
static __always_inline int on_ready(struct sock *sk, __u32 upto)
{
	struct tcp_sock *tp;
	struct conn *c;

	if (GET(sk, sk_protocol) != IPPROTO_TCP || GET(sk, __sk_common.skc_state) == LISTEN)
		return 0;
	c = conns_of(sk, true);
	if (!c || c->ready_ns || c->ignored || c->role == ROLE_CLIENT)
		return 0;
	tp = tcp_of(sk);
	if (!tp)
		return 0;
	c->ready_seq = upto ? upto : GET(tp, rcv_nxt);
	c->ready_ns = tcp_time(tp);
	if (!c->ready_ns)
		c->ready_ns = bpf_ktime_get_ns();
	return 0;
}

struct ending {
	struct conn *c;
	__u64 now;
};

STEP long abandon(__u32 i, struct ending *e)
{
	struct conn *c = e->c;
	__u64 q;

	if (!c || c->pushed == c->popped)
		return 1;
	q = c->queue[c->popped % DEPTH];
	if (spanning)
		take_head(c, c->popped);
	c->request_bytes = c->sizes[c->popped % DEPTH];
	c->popped++;
	c->method = q & 15;
	c->start_ns = q >> 4;
	c->status = 0;
	c->response_bytes = 0;
	record(CONN(c), e->now);
	return 0;
}

static __always_inline void abandon_all(struct conn *c, __u64 now)
{
	struct ending e = { .c = c, .now = now };

#ifdef BOUNDED
	for (int i = 0; i < DEPTH; i++) {
		if (abandon(i, &e))
			break;
	}
#else
	bpf_loop(DEPTH, abandon, &e, 0);
#endif
}

#define SOCK_DEAD 0 /* bit of skc_flags: no process has the socket */

/* Has a process the socket of a connection that is at its end? It may read what had
 * come before a reset, and write an answer that nobody gets, so that what is under way
 * ends when it lets go of it. */
static __always_inline bool held(struct sock *sk)
{
#ifdef UNTYPED
	return false; /* what is kept by an address ends with the connection */
#else
	return !(sk->__sk_common.skc_flags >> SOCK_DEAD & 1);
#endif
}

/* What is under way ends with the connection. */
static __always_inline int conn_state(struct conn *c, int newstate, __u64 now)
{
	struct half *h;

	if (!c || c->ignored || c->role == ROLE_UNKNOWN)
		return 0;
	if (newstate != CLOSE && c->role != ROLE_SERVER)
		return 0;
	if (c->active) {
		h = &c->half[c->role == ROLE_SERVER];
		c->response_bytes = h->state == IN_BODY || h->state == IN_CHUNK ? h->body - h->left : h->body;
		if (c->orphan)
			count(STAT_UNMATCHED);
		finish(c, h->state == UNTIL_CLOSE ? c->end_ns : now);
		reset_half(h, AT_START);
	}
	if (newstate == CLOSE && !c->blind)
		abandon_all(c, now);
	return 0;
}

/* Ends what was left to a process that had a socket at its end. */
static __always_inline int let_go(struct conn *c)
{
	if (!c || !c->closed_ns)
		return 0;
	conn_state(c, CLOSE, c->closed_ns);
	c->closed_ns = 0;
	return 0;
}

static __always_inline int on_state(struct sock *sk, int newstate)
{
	struct conn *c;

	if (begins(newstate))
		conns_forget(sk);
	if (newstate != CLOSE && newstate != LAST_ACK && newstate != FIN_WAIT1 && newstate != SYN_SENT)
		return 0;
	c = conns_of(sk, false);
	if (newstate == SYN_SENT)
		return let_go(c); /* connected anew */
	if (c && newstate == CLOSE && held(sk)) {
		c->closed_ns = bpf_ktime_get_ns();
		return 0;
	}
	if (c && !c->ignored)
		conn_state(c, newstate, bpf_ktime_get_ns());
	if (newstate == CLOSE)
		conns_forget(sk);
	return 0;
}

/* A process has let go of a socket that was at its end before. */
static __always_inline int on_destroy(struct sock *sk)
{
	return let_go(conns_of(sk, false));
}
