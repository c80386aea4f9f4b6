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

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct conn);
} conns SEC(".maps");

/* carry, then a window of the message, then room to overrun. */
struct scratch {
	__u8 data[4096];
	__u64 now;
	__u32 line; /* found by next_line */
	__u32 lf;
	__u8 sent;
	__u8 virgin; /* the first bytes ever read from this connection */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct http_value);
} zero_value SEC(".maps");

/* Filled by user space: the exported bound that falls into a fine bucket (or
 * all ones), and the slot at which the bucket begins. */
const volatile __u64 edge[128] = {};
const volatile __u8 slot[128] = {};

/* One I/O: a cursor over the user's buffers. */
struct io {
	struct conn *c;
	struct half *h;
	__u64 now;
	__u64 left; /* bytes of the I/O not consumed */
	__u64 base; /* current buffer */
	__u64 room; /* bytes of it not consumed */
	__u64 iov;  /* next buffer's iovec, 0: there is none */
	__u64 arrived;
	__u32 iovs;
	__u8 sent;
};

/* The search for lines in a window. */
struct scan {
	struct conn *c;
	struct half *h;
	__u32 from; /* where to look for the next line feed */
	__u32 end;
	__u32 line; /* start of the current line */
	__u32 stop;
};

static __always_inline struct scratch *get_scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratch, &zero);
}

static __always_inline __u64 load(struct scratch *b, __u32 pos)
{
	return *(__u64 *)(b->data + (pos & 2047));
}

#define W(a, b, c, d, e, f, g, h)                                              \
	((__u64)(a) | (__u64)(b) << 8 | (__u64)(c) << 16 | (__u64)(d) << 24 |  \
	 (__u64)(e) << 32 | (__u64)(f) << 40 | (__u64)(g) << 48 | (__u64)(h) << 56)
#define LOW(n) ((1ULL << (8 * (n))) - 1)
#define PROTO W('H', 'T', 'T', 'P', '/', '1', '.', 0)
#define PROTO2 W('H', 'T', 'T', 'P', '/', '2', '.', 0)

__noinline __u32 size_bucket(__u64 n)
{
	__u32 e;

	if (n <= 64)
		return 0;
	e = (log2_64(n - 1) - 4) / 2;
	return e >= SIZES ? SIZES - 1 : e;
}

__noinline __u32 duration_slot(__u64 ns)
{
	__u64 v = ns ? ns - 1 : 0;
	__u32 e = log2_64(v), f;

	if (e < 14)
		f = 0;
	else if (e >= 34)
		f = FINE - 1;
	else
		f = 1 + (e - 14) * 4 + ((v >> (e - 2)) & 3);
	/* the compiler knows that f is small, the verifier does not */
	asm volatile("%0 &= 127" : "+r"(f));
	return slot[f] + (ns > edge[f]);
}

/* Adds the response under way to the requests map. */
__noinline int record(struct conn *c, __u64 end_ns)
{
	struct http_key key = {};
	struct http_value *v;
	__u32 zero = 0, s;
	__u64 ns;

	if (!c)
		return 0;
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
		record(c, now);
	return 0;
}

#include "http_message.h"

/* Does a header field begin like one that tells a body's length? */
static __always_inline bool tells_length(__u64 w)
{
	w |= 0x2020202020202020ULL;
	return w == W('c', 'o', 'n', 't', 'e', 'n', 't', '-') || w == W('t', 'r', 'a', 'n', 's', 'f', 'e', 'r');
}

/* Finds the next line in [from, end) and leaves its bounds in line and lf of
 * the scratch; of header fields only the empty line and those that tell a
 * length. Returns 0 when there is none; line is then where one has begun. */
__noinline int next_line(__u32 line, __u32 from, __u32 end, int fields)
{
	struct scratch *b = get_scratch();
	__u32 pos = from, lf;
	__u64 x, m;

	if (!b)
		return 0;
	for (int i = 0; i < 2 * WINDOW / 8; i++) {
		if (pos >= end)
			break;
		x = load(b, pos) ^ 0x0a0a0a0a0a0a0a0aULL;
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
		if (!fields || lf - line <= 1 || tells_length(load(b, line))) {
			b->line = line;
			b->lf = lf;
			return 1;
		}
		line = pos = lf + 1;
	}
	b->line = line;
	b->lf = pos < end ? pos : end;
	return 0;
}

/* Looks at the next line of a window that matters. */
static long scan_line(__u32 i, struct scan *s)
{
	struct scratch *b = get_scratch();
	struct half *h = s->h;

	if (!b || !h)
		return 1;
	if (!next_line(s->line, s->from, s->end, h->state == IN_HEAD && !h->skip)) {
		s->line = b->line;
		s->from = b->lf;
		/* not at the end: so many short lines that one search is not enough */
		return b->lf >= s->end;
	}
	s->line = s->from = b->lf + 1;
	s->stop = on_line(s->c, h, b->line, b->lf);
	return s->stop != 0;
}

static __always_inline void advance(struct io *io, __u64 n)
{
	io->left -= n;
	io->base += n;
	io->room = io->room > n ? io->room - n : 0;
}

/* Skips n bytes that may span buffers; the cursor is then mended by step. */
static __always_inline void skip(struct io *io, __u64 n)
{
	if (n >= io->left) {
		io->left = 0;
		return;
	}
	if (n > io->room)
		n = io->room;
	advance(io, n);
}

/* Parses the next window of lines. */
static __always_inline int lines(struct io *io)
{
	struct half *h = io->h;
	struct conn *c = io->c;
	struct scratch *b = get_scratch();
	struct scan s = { .c = c, .h = h };
	__u64 n = io->left < io->room ? io->left : io->room;
	__u32 rest;

	if (!h || !c || !b)
		return 1;
	if (n > WINDOW)
		n = WINDOW;
	if (n > 64 && h->state == CHUNK_SIZE)
		n = 64;
	__builtin_memcpy(b->data, h->carry, CARRY);
	asm volatile("%0 &= 2047" : "+r"(n));
	if (bpf_probe_read_user(b->data + CARRY, n, (void *)io->base)) {
		count(STAT_UNREADABLE);
		h->state = LOST;
		return 1;
	}
	if (h->state == AT_START && !h->carried) {
		h->first_ns = io->arrived;
		if (!(c->role == ROLE_UNKNOWN))
			goto go;
		/* cheap refusal of what is not HTTP */
		__u8 ch = b->data[CARRY];
		if ((ch == 0x16 || ch == 0x17) && b->data[CARRY + 1] == 3)
			c->ignored = 1; /* TLS */
		if ((ch < 'A' || ch > 'Z') && ch != '\r' && ch != '\n') {
			h->state = LOST;
			return 1;
		}
	}
go:
	s.from = CARRY;
	s.end = CARRY + n;
	s.line = CARRY - h->carried;
	bpf_loop(WINDOW, scan_line, &s, 0);
	if (s.stop) {
		n = s.line > CARRY ? s.line - CARRY : 0;
		h->carried = 0;
		h->skip = 0;
		advance(io, n);
		return h->state == LOST || c->ignored;
	}
	rest = s.end - s.line;
	h->carried = 0;
	if (!h->skip && rest > CARRY) {
		if (h->state == AT_START) {
			if (!start_line(c, h, s.line, 0)) {
				h->state = LOST;
				return 1;
			}
			h->state = IN_HEAD;
		}
		h->skip = 1;
	} else if (!h->skip) {
		h->carried = rest;
		__builtin_memcpy(h->carry, b->data + ((s.end - CARRY) & 2047), CARRY);
	}
	advance(io, n);
	return 0;
}

/* Moves the cursor to the next buffer. */
static __noinline int next_buffer(struct io *io)
{
	__u64 v[2];

	if (!io->iov || !io->iovs || bpf_probe_read_user(v, sizeof(v), (void *)io->iov))
		return 0;
	io->iov += sizeof(v);
	io->iovs--;
	io->base = v[0];
	io->room = v[1];
	return 1;
}

/* One step over an I/O; returns 1 when nothing is left of it. */
static long step(__u32 i, struct io *io)
{
	struct half *h = io->h;
	struct conn *c = io->c;
	__u64 n;

	if (!h || !c || c->ignored)
		return 1;
	/* a message may end with the I/O */
	if (h->state == HEAD_DONE) {
		head_end(c, h, io->now);
		return 0;
	}
	if (h->state == DONE) {
		message_end(c, h, io->now);
		return 0;
	}
	if (!io->left)
		return 1;
	if (h->state == UNTIL_CLOSE) {
		h->body += io->left;
		c->response_bytes = h->body;
		c->end_ns = io->now;
		return 1;
	}
	if (h->state == LOST)
		return 1;
	if (!io->room) {
		if ((h->state == IN_BODY || h->state == IN_CHUNK) && h->left >= io->left)
			goto body;
		if (next_buffer(io))
			return 0;
		count(STAT_UNREADABLE);
		h->state = LOST;
		return 1;
	}
body:
	if (h->state == IN_BODY || h->state == IN_CHUNK) {
		n = h->left < io->left ? h->left : io->left;
		if (n < io->left && n > io->room)
			n = io->room;
		skip(io, n);
		h->left -= n;
		if (h->left)
			return 0;
		if (h->state == IN_CHUNK)
			h->state = CHUNK_SIZE;
		else
			h->state = DONE;
		return 0;
	}
	return lines(io) != 0;
}

/* Does the I/O begin like a message? */
static __always_inline bool looks_new(struct io *io)
{
	__u64 w = 0;

	if (!io->room)
		return false;
	if (io->left < 8 || io->room < 8)
		return !bpf_probe_read_user(&w, 1, (void *)io->base) && w >= 'A' && w <= 'Z';
	if (bpf_probe_read_user(&w, 8, (void *)io->base))
		return false;
	return (w & LOW(7)) == PROTO || method_of(w) != OTHER;
}

/* Follows one I/O of length bytes. */
static __always_inline void follow(struct io *io)
{
	struct conn *c = io->c;
	struct half *h = io->h;

	if (h->state == LOST) {
		if (c->role == ROLE_UNKNOWN && c->misses > MISSES) {
			c->ignored = 1;
			return;
		}
		if (c->role != ROLE_UNKNOWN && !looks_new(io))
			return;
		if (io->sent == (c->role == ROLE_SERVER))
			finish(c, io->now);
		reset_half(h, AT_START);
	} else if (h->state >= IN_BODY) {
		/* a body that went unseen (splice) has ended if another message
		 * begins where none is owed but one is asked for */
		bool idle = h->status ? c->pushed != c->popped : c->pushed == c->popped && !c->active;

		if (idle && c->role != ROLE_UNKNOWN && looks_new(io)) {
			if (h->status)
				finish(c, io->now);
			reset_half(h, AT_START);
			count(STAT_LOST);
		}
	}
	if (bpf_loop(STEPS, step, io, 0) == STEPS) {
		count(STAT_LOST);
		h->state = LOST;
	}
	if (h->state == LOST && c->role == ROLE_UNKNOWN)
		c->misses++;
}

static __always_inline bool buffers(struct io *io)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct pt_regs *regs;
	__u64 head[4];
	long nr;

	if (task->flags & PF_IO_WORKER) {
		count(STAT_IO_URING);
		return false;
	}
	regs = (void *)bpf_task_pt_regs((void *)task);
	nr = SYSCALL_NR(regs);
	switch (nr) {
	case NR_read:
	case NR_write:
	case NR_recvfrom:
	case NR_sendto:
		io->base = SYSCALL_ARG2(regs);
		io->room = io->left;
		return true;
	case NR_readv:
	case NR_writev:
	case NR_preadv2:
	case NR_pwritev2:
		io->iov = SYSCALL_ARG2(regs);
		io->iovs = SYSCALL_ARG3(regs);
		next_buffer(io);
		return true;
	case NR_sendmsg:
	case NR_recvmsg:
		/* msg_name, msg_namelen, msg_iov, msg_iovlen */
		if (bpf_probe_read_user(head, sizeof(head), (void *)SYSCALL_ARG2(regs)))
			return true;
		io->iov = head[2];
		io->iovs = head[3];
		next_buffer(io);
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

static __always_inline int on_io(struct sock *sk, int ret, int flags, __u8 sent)
{
	struct io io = {};
	struct tcp_sock *tp;
	struct scratch *b;
	struct conn *c;

	if (ret <= 0 || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (!sent && (flags & (MSG_PEEK | MSG_ERRQUEUE)))
		return 0;
	c = bpf_sk_storage_get(&conns, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!c || c->ignored)
		return 0;
	b = get_scratch();
	if (!b)
		return 0;
	b->virgin = 0;
	io.now = bpf_ktime_get_ns();
	io.arrived = io.now;
	if (!c->tgid) {
		if (!owner(c)) {
			c->ignored = 1;
			return 0;
		}
		/* the ports are gone by the time the socket closes */
		c->local_port = sk->__sk_common.skc_num;
		c->peer_port = bpf_ntohs(sk->__sk_common.skc_dport);
		peer_address(sk, c->addr);
	}
	if (!sent) {
		__u32 unread;

		tp = bpf_skc_to_tcp_sock(sk);
		if (!tp)
			return 0;
		unread = tp->rcv_nxt - tp->copied_seq;
		if (c->ready_ns)
			io.arrived = c->ready_ns;
		if (!unread)
			c->ready_ns = 0;
		if (c->role == ROLE_UNKNOWN)
			b->virgin = tp->bytes_received - unread == (__u64)ret;
	}
	io.c = c;
	io.h = &c->half[sent];
	io.left = ret;
	b->now = io.now;
	io.sent = sent;
	b->sent = sent;
	if (!buffers(&io)) {
		c->blind = 1;
		io.h->state = LOST;
		return 0;
	}
	follow(&io);
	return 0;
}

/* Starts the clock of what the application will read. */
static __always_inline int on_ready(struct sock *sk)
{
	struct conn *c;

	if (sk->sk_protocol != IPPROTO_TCP || sk->__sk_common.skc_state == LISTEN)
		return 0;
	c = bpf_sk_storage_get(&conns, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (c && !c->ready_ns && !c->ignored)
		c->ready_ns = bpf_ktime_get_ns();
	return 0;
}

static long abandon(__u32 i, struct conn **p)
{
	struct conn *c = *p;
	__u64 q;

	if (!c || c->pushed == c->popped)
		return 1;
	q = c->queue[c->popped % DEPTH];
	c->request_bytes = c->sizes[c->popped % DEPTH];
	c->popped++;
	c->method = q & 15;
	c->start_ns = q >> 4;
	c->status = 0;
	c->response_bytes = 0;
	record(c, bpf_ktime_get_ns());
	return 0;
}

/* What is under way ends with the connection. */
static __always_inline int on_state(struct sock *sk, int newstate)
{
	struct conn *c;
	struct half *h;

	if (newstate != CLOSE && newstate != LAST_ACK && newstate != FIN_WAIT1)
		return 0;
	c = bpf_sk_storage_get(&conns, sk, 0, 0);
	if (!c || c->ignored || c->role == ROLE_UNKNOWN)
		return 0;
	if (newstate != CLOSE && c->role != ROLE_SERVER)
		return 0;
	if (c->active) {
		h = &c->half[c->role == ROLE_SERVER];
		c->response_bytes = h->state == IN_BODY || h->state == IN_CHUNK ? h->body - h->left : h->body;
		if (c->orphan)
			count(STAT_UNMATCHED);
		finish(c, h->state == UNTIL_CLOSE ? c->end_ns : bpf_ktime_get_ns());
		reset_half(h, AT_START);
	}
	if (newstate == CLOSE && !c->blind)
		bpf_loop(DEPTH, abandon, &c, 0);
	return 0;
}
