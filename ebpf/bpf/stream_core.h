/* SPDX-License-Identifier: Apache-2.0 */
/* Copies what connections of certain protocols carry to user space, where it is
 * parsed.
 *
 * A connection's protocol is told by the first bytes of an I/O, and believed when
 * the other direction fits; one that is not told soon is ignored. Of an I/O of a
 * database the head and the tail are sent; of HTTP/2 all but the payload of DATA
 * frames that are longer than a window. */
#pragma once

/* The least that may be configured is half a megabyte. */
#define RING_BYTES (4 * 1024 * 1024)
#define RING_STEP (128 * 1024)

#include "stream.h"
#include "stream_classify.h"
#include "ring.h"
#include "untyped.h"

/* keeps the types in the object, for the bindings */
const struct process *bind_process __attribute__((unused));
const struct stream_event *bind_event __attribute__((unused));
const enum stream_stat *bind_stat __attribute__((unused));
const enum stream_kind *bind_kind __attribute__((unused));
const enum stream_flag *bind_flag __attribute__((unused));

/* Set by user space: the kinds to follow, as bits, and how much to copy of a
 * database's I/O. */
const volatile __u32 follow = 0xff;
const volatile __u32 head_bytes = 512;

SOCKET_STORAGE(conns, struct stream_conn)

/* A cursor over the user's buffers of one I/O. It lies in a map, not on the
 * stack, for the verifier then takes its numbers for any. */
struct io {
	__u64 left; /* bytes of the I/O not consumed */
	__u64 base; /* current buffer, 0: its bytes are not in user memory */
	__u64 room;
	__u64 iov; /* next buffer's iovec, 0: there is none */
	__u32 iovs;
	__u32 want; /* fill and skip: bytes still to go */
	__u32 at;   /* fill: where the next byte goes */
	__u32 seq;  /* of the next byte */
	__u32 pos;  /* walk: where the next frame begins in the window */
	__u32 end;
	__u32 useful; /* walk: bytes of the window before a payload that runs out of it */
	__u8 failed;
	__u8 sent;
};

struct scratch {
	struct stream_event e;
	__u8 data[3 * WINDOW];
	struct look look;
	struct io io;
	struct io start; /* where the I/O begins */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

COUNTERS(STREAM_STATS)

static __always_inline struct scratch *get_scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratch, &zero);
}

__noinline int next_buffer(void)
{
	struct scratch *s = get_scratch();
	__u64 v[2];

	if (!s || !s->io.iov || !s->io.iovs || bpf_probe_read_user(v, sizeof(v), (void *)s->io.iov))
		return 0;
	s->io.iov += sizeof(v);
	s->io.iovs--;
	s->io.base = v[0];
	s->io.room = v[1];
	return 1;
}

static __always_inline void advance(struct io *io, __u64 n)
{
	io->base += n;
	io->room -= n;
	io->left -= n;
	io->seq += n;
	io->want -= n;
}

/* Rounds of a loop are functions that are not static: each is verified once. */
__noinline int fill_step(void)
{
	struct scratch *s = get_scratch();
	__u64 n, at;

	if (!s || !s->io.want)
		return 1;
	if (!s->io.room) {
		if (next_buffer())
			return 0;
		s->io.failed = 1;
		return 1;
	}
	n = s->io.want;
	at = s->io.at;
	if (n > s->io.room)
		n = s->io.room;
	if (n > WINDOW)
		n = WINDOW;
	asm volatile("%0 &= 8191" : "+r"(n));
	asm volatile("%0 &= 4095" : "+r"(at));
	if (bpf_probe_read_user(s->data + at, n, (void *)s->io.base)) {
		s->io.failed = 1;
		return 1;
	}
	s->io.at += n;
	advance(&s->io, n);
	return 0;
}

/* Copies the next n bytes to place at of the scratch's data. 0: they could not be
 * read. */
__noinline int fill(__u32 at, __u32 n)
{
	struct scratch *s = get_scratch();

	if (!s)
		return 0;
	s->io.at = at;
	s->io.want = n;
	for (int i = 0; i < BUFFERS; i++) {
		if (fill_step())
			break;
	}
	return !s->io.failed && !s->io.want;
}

__noinline int skip_step(void)
{
	struct scratch *s = get_scratch();
	__u64 n;

	if (!s || !s->io.want)
		return 1;
	if (!s->io.room) {
		if (next_buffer())
			return 0;
		s->io.failed = 1;
		return 1;
	}
	n = s->io.want;
	if (n > s->io.room)
		n = s->io.room;
	advance(&s->io, n);
	return 0;
}

__noinline int skip(__u32 n)
{
	struct scratch *s = get_scratch();

	if (!s || !n)
		return 0;
	s->io.want = n;
	for (int i = 0; i < BUFFERS; i++) {
		if (skip_step())
			break;
	}
	return 0;
}

/* Sends the scratch's event with what lies in its data. */
__noinline int submit(struct stream_conn *c, __u32 seq, __u32 length, __u32 head, __u32 tail)
{
	struct scratch *s = get_scratch();
	__u64 n = sizeof(struct stream_event) + head + tail, flags;

	if (!s || !c)
		return 0;
	s->e.seq = seq;
	s->e.length = length;
	s->e.head = head;
	s->e.tail = tail;
	c->told = 1;
	flags = wake(n);
	asm volatile("%0 &= 8191" : "+r"(n));
	if (bpf_ringbuf_output(&events, s, n, flags))
		count(STREAM_RING);
	return 0;
}

__noinline int walk_step(struct half *h)
{
	struct scratch *s = get_scratch();
	__u64 pos;
	__u32 len;
	__u8 type;

	if (!s || !h || s->io.pos >= s->io.end)
		return 1;
	pos = s->io.pos;
	asm volatile("%0 &= 4095" : "+r"(pos));
	if (s->io.pos + 9 > s->io.end) {
		h->cut = (s->io.end - s->io.pos) & 15;
		for (int j = 0; j < 9; j++)
			h->kept[j] = s->data[pos + j];
		return 1;
	}
	len = be32(s->data + pos) >> 8;
	type = s->data[pos + 3];
	if (type > 0x10) {
		h->blind = 1;
		return 1;
	}
	if (!type)
		s->io.useful = s->io.pos + 10; /* with the length of a padding */
	s->io.pos += 9 + len;
	if (s->io.pos < s->io.end)
		return 0;
	h->skip = s->io.pos - s->io.end;
	h->data = !type;
	return 1;
}

/* Follows the frames of a window of n bytes. */
__noinline int walk(struct half *h, __u32 n)
{
	struct scratch *s = get_scratch();
	__u32 cut, len;

	if (!s || !h)
		return 0;
	if (h->skip >= n) {
		h->skip -= n;
		return 0;
	}
	s->io.end = n;
	s->io.pos = h->skip;
	h->skip = 0;
	h->data = 0;
	if (h->cut) { /* the beginning of a frame's header was in the I/O before */
		cut = h->cut & 15;
		for (__u32 i = 0; i < 9; i++)
			if (i >= cut && i - cut < n)
				h->kept[i] = s->data[(i - cut) & 15];
		if (cut + n < 9) {
			h->cut = cut + n;
			return 0;
		}
		h->cut = 0;
		len = be32(h->kept) >> 8;
		if (!h->kept[3])
			s->io.useful = 10 - cut;
		s->io.pos = 9 - cut + len;
		if (s->io.pos >= n) {
			h->skip = s->io.pos - n;
			h->data = !h->kept[3];
		}
	}
	for (int i = 0; i < WINDOW / 9 + 1; i++) {
		if (walk_step(h))
			break;
	}
	return 0;
}

/* Skips what is left of a long DATA frame, and says how much that is. */
__noinline int skip_data(struct half *h)
{
	struct scratch *s = get_scratch();
	__u32 n;

	if (!s || !h || h->blind || !h->data || h->skip <= 256)
		return 0;
	n = h->skip < s->io.left ? h->skip : s->io.left;
	h->skip -= n;
	skip(n);
	return n;
}

/* Sends the next window of an HTTP/2 connection; returns 1 when nothing is left. */
__noinline int window(struct stream_conn *c)
{
	struct scratch *s = get_scratch();
	struct half *h;
	__u32 n, k, seq, head;

	if (!s || !c || !s->io.left)
		return 1;
	h = &c->half[s->io.sent & 1];
	seq = s->io.seq;
	if (!s->io.base || s->io.failed) { /* sendfile, splice, unreadable */
		n = s->io.left;
		s->io.left = 0;
		if (h->skip >= n && !h->blind)
			h->skip -= n;
		else
			h->blind = 1;
		submit(c, seq, n, 0, 0);
		return 1;
	}
	n = skip_data(h);
	if (n) {
		submit(c, seq, n, 0, 0);
		return 0;
	}
	n = s->io.left < WINDOW ? s->io.left : WINDOW;
	if (!fill(0, n)) {
		count(STREAM_UNREADABLE);
		h->blind = 1;
		submit(c, seq, s->io.left + (s->io.seq - seq), 0, 0);
		s->io.left = 0;
		return 1;
	}
	if (h->blind) {
		submit(c, seq, n + s->io.left, n, 0);
		s->io.left = 0;
		return 1;
	}
	s->io.useful = n;
	walk(h, n);
	head = n;
	if (!h->blind && h->data && h->skip && s->io.useful < n)
		head = s->io.useful;
	k = skip_data(h);
	submit(c, seq, n + k, head, 0);
	return 0;
}

/* Finds where frames begin in a direction of HTTP/2, if it is not known. */
static __always_inline void find_frames(struct half *h, struct look *l)
{
	if (h->begun && !h->blind)
		return;
	h->skip = 0;
	h->data = 0;
	h->cut = 0;
	h->blind = 0;
	if (l->n >= 8 && is_preface(l->b))
		h->skip = 24;
	else if (l->n < 9 || !is_frame(l->b))
		h->blind = 1;
}

/* Has the connection turned to TLS, as PostgreSQL's and MySQL's may? */
static __always_inline bool turned_to_tls(struct stream_conn *c, struct scratch *s, __u32 n)
{
	if (c->early >= EARLY || (c->kind != KIND_POSTGRESQL && c->kind != KIND_MYSQL))
		return false;
	c->early++;
	return n >= 5 && s->data[0] == 0x16 && s->data[1] == 3 && s->data[2] <= 4;
}

/* Do messages follow each other in the n bytes at the beginning of an I/O of a
 * PostgreSQL client, all of them short? -1: no message begins there. */
__noinline int several_postgres(__u32 n, __u32 length)
{
	struct scratch *s = get_scratch();
	__u32 pos = 0, len;
	__u64 at;

	if (!s)
		return 0;
	for (int i = 0; i < 64 && pos + 5 <= n; i++) {
		at = pos;
		asm volatile("%0 &= 4095" : "+r"(at));
		len = be32(s->data + at + 1);
		if (!is_postgres_frontend(s->data[at]) || len < 4)
			return -1;
		if (len >= WINDOW)
			return 0; /* its length leads over it */
		pos += 1 + len;
	}
	return pos < length;
}

/* Does a second command begin in the n bytes at the beginning of an I/O of a
 * Redis client? */
__noinline int several_redis(__u32 n)
{
	struct scratch *s = get_scratch();

	if (!s)
		return 0;
	for (int i = 0; i < 512 - 3; i++) {
		if (i + 3 > n)
			break;
		if (s->data[i] == '\r' && s->data[i + 1] == '\n' && s->data[i + 2] == '*')
			return 1;
	}
	return 0;
}

/* Says whether more than the head of an I/O is worth copying, by the n bytes of
 * it that lie in the data: requests that came together, and what answers them. */
static __always_inline bool is_deep(struct stream_conn *c, __u32 n, __u32 length, __u8 sent)
{
	int v = -1;

	if (c->kind != KIND_POSTGRESQL && c->kind != KIND_REDIS)
		return false;
	if (c->asker == sent) {
		if (n == length)
			v = 0;
		else if (c->kind == KIND_POSTGRESQL)
			v = several_postgres(n, length);
		else
			v = several_redis(n);
		if (v >= 0)
			c->deep = v;
	}
	return c->deep && n < length;
}

/* Sends windows of an I/O until little is left, or it was too much. */
__noinline int send_windows(struct stream_conn *c)
{
	struct scratch *s = get_scratch();
	__u32 seq;

	if (!s || !c)
		return 0;
	for (int i = 0; i < DEEP && s->io.left > WINDOW; i++) {
		seq = s->io.seq;
		if (!fill(0, WINDOW))
			return 0;
		submit(c, seq, WINDOW, WINDOW, 0);
	}
	return 1;
}

/* Sends the head and the tail of a database's I/O. */
__noinline int send_database(struct stream_conn *c)
{
	struct scratch *s = get_scratch();
	__u32 seq, length, n, t = 0;

	if (!s || !c)
		return 0;
	seq = s->io.seq;
	length = s->io.left;
	n = head_bytes;
	if (n > WINDOW)
		n = WINDOW;
	if (n > length)
		n = length;
	s->start = s->io;
	if (!s->io.base || !fill(0, n)) {
		if (s->io.base)
			count(STREAM_UNREADABLE);
		submit(c, seq, length, 0, 0);
		return 0;
	}
	if (turned_to_tls(c, s, n)) {
		s->e.flags |= FLAG_CLOSED;
		submit(c, seq, 0, 0, 0);
		c->ignored = 1;
		return 0;
	}
	if (is_deep(c, n, length, s->io.sent)) {
		s->io = s->start;
		send_windows(c);
		seq = s->io.seq;
		length = s->io.left;
		n = length < WINDOW ? length : WINDOW;
		if (s->io.failed || !fill(0, n)) {
			count(STREAM_UNREADABLE);
			submit(c, seq, length, 0, 0);
			return 0;
		}
	}
	if (s->io.left) {
		t = s->io.left < TAIL ? s->io.left : TAIL;
		skip(s->io.left - t);
		if (s->io.failed || !fill(n, t))
			t = 0;
	}
	submit(c, seq, length, n, t);
	return 0;
}

/* Where the buffers of the system call are; false: that is not known. */
static __always_inline bool buffers(struct io *io, bool followed)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct pt_regs *regs;
	__u64 head[4];
	long nr;

	if (task->flags & PF_IO_WORKER) {
		if (followed)
			count(STREAM_IO_URING);
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
		next_buffer();
		return true;
	case NR_sendmsg:
	case NR_recvmsg:
		/* msg_name, msg_namelen, msg_iov, msg_iovlen */
		if (bpf_probe_read_user(head, sizeof(head), (void *)SYSCALL_ARG2(regs)))
			return true;
		io->iov = head[2];
		io->iovs = head[3];
		next_buffer();
		return true;
	case NR_sendfile:
	case NR_splice:
		return true;
	case NR_io_uring_enter:
		if (followed)
			count(STREAM_IO_URING);
		return false;
	}
	if (followed)
		count(STREAM_SYSCALL);
	return false;
}

/* Reads the first bytes into the look, after those that were kept. */
__noinline int look_at(struct half *h, int kind)
{
	struct scratch *s = get_scratch();
	__u32 n, got;
	__u64 cut;

	if (!s || !h)
		return 0;
	cut = h->cut;
	if (cut > KEPT || kind == KIND_HTTP2)
		cut = 0;
	s->look.length = s->io.left + cut;
	s->look.n = 0;
	n = s->io.left < LOOK - KEPT ? s->io.left : LOOK - KEPT;
	if (!s->io.base)
		return 0;
	s->start = s->io;
	got = fill(0, n);
	s->io = s->start;
	if (!got)
		return 0;
	for (int i = 0; i < KEPT; i++)
		s->look.b[i] = h->kept[i];
	asm volatile("%0 &= 15" : "+r"(cut));
	if (cut > KEPT)
		return 0;
	__builtin_memcpy(s->look.b + cut, s->data, LOOK - KEPT);
	s->look.n = n + cut;
	return 0;
}

/* Keeps an I/O too short to tell anything by, for the next look. */
static __always_inline void keep(struct half *h, struct look *l)
{
	h->cut = 0;
	if (l->n != l->length || l->n > 8)
		return;
	h->cut = l->n;
	for (int i = 0; i < KEPT; i++)
		h->kept[i] = l->b[i];
}

/* Sends what was kept of I/Os before the one by which the protocol was told. */
static __always_inline void send_kept(struct stream_conn *c, struct half *h, struct scratch *s)
{
	__u32 n = h->cut;

	h->cut = 0;
	if (!n || n > KEPT)
		return;
	for (int i = 0; i < KEPT; i++)
		s->data[i] = h->kept[i];
	if (c->kind == KIND_HTTP2) {
		if (h->skip > n)
			h->skip -= n;
		else
			h->blind = 1;
	}
	submit(c, s->io.seq - n, n, n, 0);
}

/* It is not what it was taken for. */
static __always_inline void refute(struct stream_conn *c, struct scratch *s)
{
	count(STREAM_REFUTED);
	s->e.flags |= FLAG_CLOSED;
	if (c->told)
		submit(c, 0, 0, 0, 0);
	c->told = 0;
	c->kind = KIND_UNKNOWN;
	c->half[0].cut = c->half[1].cut = 0;
	c->half[0].begun = c->half[1].begun = 0;
}

/* Tells the protocol, or whether the other direction fits it. Returns whether the
 * I/O is to be sent. */
__noinline int judge(struct stream_conn *c)
{
	struct scratch *s = get_scratch();
	struct look *l;
	struct half *h;
	int kind, v;
	__u8 cut;

	if (!c || !s)
		return 0;
	l = &s->look;
	h = &c->half[s->io.sent & 1];
	look_at(h, c->kind);
	if (c->kind && !c->sure && c->asker != s->io.sent) {
		v = confirm(l, c->kind, c->correlation);
		if (v == YES) {
			c->sure = 1;
			if (c->kind != KIND_HTTP2)
				h->cut = 0;
		} else if (v == WAIT && c->tries < TRIES) {
			c->tries++;
			if (c->kind != KIND_HTTP2)
				keep(h, l);
		} else {
			refute(c, s);
		}
	}
	if (c->kind) {
		if (c->kind == KIND_HTTP2)
			find_frames(h, l);
		return 1;
	}
	kind = classify(l);
	if (kind == KIND_HTTP1 || (kind && !(follow >> (kind & 7) & 1)) || c->tries++ >= TRIES) {
		c->ignored = 1;
		return 0;
	}
	if (!kind) {
		keep(h, l);
		return 0;
	}
	c->kind = kind;
	c->asker = s->io.sent;
	c->sure = kind == KIND_HTTP2 && is_preface(l->b);
	c->correlation = be32(l->b + 8);
	if (kind == KIND_HTTP2) {
		cut = h->cut;
		h->begun = 0;
		find_frames(h, l);
		h->cut = cut;
	}
	announce(c->process_start, c->tgid);
	return 1;
}

/* Fills the header of the events of one I/O. */
static __always_inline void describe(struct sock *sk, struct stream_conn *c, struct stream_event *e, __u8 flags)
{
	e->conn = c->cookie;
	e->process_start = c->process_start;
	e->tgid = c->tgid;
	e->netns = netns_of(sk);
	e->kind = c->kind;
	e->flags = flags;
	e->local_port = GET(sk, __sk_common.skc_num);
	e->peer_port = bpf_ntohs(GET(sk, __sk_common.skc_dport));
	local_of(sk, e->local);
	peer_of(sk, e->peer);
}

/* Notes whose connection it is; false: it is left alone. */
static __always_inline bool owner(struct stream_conn *c)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;

	if (c->tgid == tgid)
		return true;
	if (tgid == self_tgid || (task->flags & PF_KTHREAD && !(task->flags & PF_IO_WORKER)))
		return false;
	c->tgid = tgid;
	c->process_start = process_start();
	if (c->kind)
		announce(c->process_start, tgid);
	return true;
}

/* What user space calls the connection. */
static __always_inline __u64 new_number(struct sock *sk)
{
#ifdef UNTYPED
	return bpf_ktime_get_ns() << 8 | (bpf_get_smp_processor_id() & 255);
#else
	return bpf_get_socket_cookie(sk);
#endif
}

static __always_inline int on_io(struct sock *sk, int ret, int flags, __u8 sent)
{
	struct stream_conn *c;
	struct tcp_sock *tp;
	struct scratch *s;
	struct half *h;
	__u32 unread, copied;

	if (ret <= 0 || GET(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	if (!sent && (flags & (MSG_PEEK | MSG_ERRQUEUE)))
		return 0;
	c = conns_of(sk, true);
	if (!c || c->ignored)
		return 0;
	s = get_scratch();
	tp = tcp_of(sk);
	if (!s || !tp)
		return 0;
	if (!owner(c)) {
		c->ignored = 1;
		return 0;
	}
	if (!c->cookie)
		c->cookie = new_number(sk);
	s->e.at_ns = bpf_ktime_get_ns();
	s->e.ready_ns = s->e.at_ns;
	s->io.left = ret;
	s->io.base = 0;
	s->io.room = 0;
	s->io.iov = 0;
	s->io.failed = 0;
	s->io.sent = sent;
	s->e.acked = GET(tp, snd_una);
	if (sent) {
		s->io.seq = GET(tp, write_seq) - ret;
		s->look.virgin = GET(tp, bytes_sent) <= (__u64)ret;
	} else {
		copied = GET(tp, copied_seq);
		unread = GET(tp, rcv_nxt) - copied;
		s->io.seq = copied - ret;
		/* the peer's end counts for one, if it was read with the last data */
		if (!unread && GET(sk, __sk_common.skc_flags) >> SOCK_DONE & 1)
			s->io.seq--;
		s->look.virgin = GET(tp, bytes_received) - unread == (__u64)ret;
		if (c->ready_ns)
			s->e.ready_ns = c->ready_ns;
		if (!unread) {
			c->ready_ns = 0;
		} else if ((int)(copied - c->ready_seq) >= 0) {
			/* what is left came later, by now */
			c->ready_ns = s->e.at_ns;
			c->ready_seq = copied + unread;
		}
	}
	h = &c->half[sent];
	if (!buffers(&s->io, c->kind)) {
		h->blind = 1;
		h->cut = 0;
		return 0;
	}
	describe(sk, c, &s->e, sent ? FLAG_SENT : 0);
	if (!c->sure || (c->kind == KIND_HTTP2 && (!h->begun || h->blind))) {
		if (!judge(c))
			return 0;
		s->e.flags = sent ? FLAG_SENT : 0;
		s->e.kind = c->kind;
	}
	if (!h->begun) {
		h->begun = 1;
		if (c->asker == sent)
			send_kept(c, h, s);
	}
	if (c->kind != KIND_HTTP2)
		return send_database(c);
	for (int i = 0; i < WINDOWS; i++) {
		if (window(c))
			break;
	}
	if (s->io.left)
		h->blind = 1;
	return 0;
}

/* Starts the clock of what the application will read. */
static __always_inline int on_ready(struct sock *sk)
{
	struct tcp_sock *tp;
	struct stream_conn *c;

	if (GET(sk, sk_protocol) != IPPROTO_TCP || GET(sk, __sk_common.skc_state) == LISTEN)
		return 0;
	c = conns_of(sk, false);
	if (c && !c->ready_ns && !c->ignored) {
		tp = tcp_of(sk);
		c->ready_ns = bpf_ktime_get_ns();
		c->ready_seq = tp ? GET(tp, rcv_nxt) : 0;
	}
	return 0;
}

/* Tells of the end of a connection that is followed. It may come in the middle
 * of an I/O of this CPU, whose scratch it must leave alone. */
static __always_inline int on_state(struct sock *sk, int newstate)
{
	struct stream_event e = {};
	struct stream_conn *c;
	struct tcp_sock *tp;

	if (begins(newstate))
		conns_forget(sk);
	if (newstate != CLOSE || GET(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	c = conns_of(sk, false);
	if (!c || c->ignored || !c->told) {
		conns_forget(sk);
		return 0;
	}
	e.conn = c->cookie;
	e.tgid = c->tgid;
	e.process_start = c->process_start;
	e.kind = c->kind;
	e.flags = FLAG_CLOSED;
	tp = tcp_of(sk);
	if (tp && GET(tp, rcv_nxt) - GET(tp, copied_seq) > 1) /* the end counts for one */
		e.flags |= FLAG_UNREAD;
	e.at_ns = bpf_ktime_get_ns();
	c->told = 0;
	conns_forget(sk);
	if (emit(&e, sizeof(e)))
		count(STREAM_RING);
	return 0;
}
