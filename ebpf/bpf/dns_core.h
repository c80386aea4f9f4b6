/* SPDX-License-Identifier: Apache-2.0 */
/* Pairs DNS questions with their answers where sockets are read and written.
 *
 * A question is kept by its socket and id until it is answered; then it is told
 * to user space with its duration. Names are what user space folds, and there
 * are too many of them to count here. What has no answer is found by user space,
 * which looks through the questions every second. */
#pragma once

#include "dns.h"
#include "ring.h"
#include "untyped.h"

const struct process *bind_process __attribute__((unused));
const struct dns_lookup *bind_lookup __attribute__((unused));
const struct dns_key *bind_key __attribute__((unused));
const enum dns_stat *bind_stat __attribute__((unused));
const enum dns_side *bind_side __attribute__((unused));

#if defined(__TARGET_ARCH_x86)
struct pt_regs___dns {
	unsigned long r8;
} __attribute__((preserve_access_index));
#define SYSCALL_ARG5(r) (((struct pt_regs___dns *)(r))->r8)
#define NR_recvmmsg 299
#else
#define SYSCALL_ARG5(r) ((r)->regs[4])
#define NR_recvmmsg 243
#endif

/* Set by user space; 0: none. */
const volatile __u16 ports[DNS_PORTS] = {};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct dns_key);
	__type(value, struct dns_lookup);
} questions SEC(".maps");

SOCKET_STORAGE(dns_sockets, struct dns_socket)

/* Questions that a server has read by recvmmsg. Which buffer of the vector was
 * filled is not known, so all are looked at, and old ones recognised. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct dns_key);
	__type(value, __u8);
} seen SEC(".maps");

COUNTERS(DNS_STATS)

struct dns_scratch {
	__u8 data[2 * 1024]; /* a window of the I/O, and room to overrun */
	struct dns_lookup lookup;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dns_scratch);
} scratch SEC(".maps");

/* One call: what is known of the socket, and a cursor over the user's buffers. */
struct dns_io {
	__u64 cookie;
	__u64 base; /* current buffer */
	__u64 room;
	__u64 iov;  /* next one's iovec */
	__u64 vector; /* of sendmmsg and recvmmsg */
	__u64 name; /* the user's sockaddr, 0: none */
	__u32 iovs;
	__u32 vectors;
	__u32 left; /* bytes of the I/O not in the window */
	__u32 have; /* bytes in the window */
	__u32 addr[4];
	__u32 pos;
	__u8 sent;
	__u8 tcp;
	__u8 unconnected;
	__u8 asked; /* a question was sent */
};

static __always_inline struct dns_scratch *get_scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratch, &zero);
}

static __always_inline bool is_port(__u16 p)
{
	return p && (p == ports[0] || p == ports[1] || p == ports[2] || p == ports[3]);
}

/* The compiler may know that at is small where the verifier does not. */
static __always_inline __u32 byte(struct dns_scratch *b, __u32 at)
{
	asm volatile("%0 &= 1023" : "+r"(at));
	return b->data[at];
}

static __always_inline __u64 word(struct dns_scratch *b, __u32 at)
{
	asm volatile("%0 &= 1023" : "+r"(at));
	return *(__u64 *)(b->data + at);
}

#define BE16(b, at) (byte(b, at) << 8 | byte(b, (at) + 1))

/* Length of the name at pos, its last zero included; 0: it is none, or ends
 * after end. */
__noinline __u32 name_length(__u32 pos, __u32 end)
{
	struct dns_scratch *b = get_scratch();
	__u32 at = pos, n;

	if (!b)
		return 0;
	for (int i = 0; i < 128; i++) {
		if (at >= end || at - pos >= 255)
			return 0;
		n = byte(b, at);
		if (!n)
			return at - pos + 1;
		if (n > 63)
			return 0;
		at += n + 1;
	}
	return 0;
}

/* Enough of a question to tell those apart that share an id. */
static __always_inline __u64 digest(struct dns_scratch *b, __u32 pos, __u32 length)
{
	__u64 first = word(b, pos);
	__u64 last = word(b, pos + length - 4) & 0xffffffff; /* type and class */

	if (length < 8)
		first = 0;
	return (first * 0x9e3779b97f4a7c15ULL ^ last) * 0xff51afd7ed558ccdULL ^ length;
}

static __always_inline int ask(struct dns_io *io, struct dns_key *key, __u32 pos, __u32 length)
{
	struct dns_scratch *b = get_scratch();
	struct dns_lookup *l;
	long err;
	__u8 one = 1;

	if (!b)
		return 0;
	if (bpf_map_lookup_elem(&questions, key)) {
		io->asked = 1;
		return 0; /* sent again */
	}
	if (!io->sent && io->vector && bpf_map_update_elem(&seen, key, &one, BPF_NOEXIST))
		return 0;
	l = &b->lookup;
	l->tgid = bpf_get_current_pid_tgid() >> 32;
	l->process_start = process_start();
	l->start_ns = bpf_ktime_get_ns();
	l->duration_ns = 0;
	l->addr[0] = io->addr[0];
	l->addr[1] = io->addr[1];
	l->addr[2] = io->addr[2];
	l->addr[3] = io->addr[3];
	bpf_get_current_comm(l->comm, sizeof(l->comm));
	l->type = BE16(b, pos + length);
	l->name_length = length;
	l->side = key->side;
	l->code = 0;
	/* a word at a time, beyond the name's end */
	for (int i = 0; i < DNS_NAME / 8; i++)
		*(__u64 *)(l->name + i * 8) = word(b, pos + i * 8);
	err = bpf_map_update_elem(&questions, key, l, BPF_NOEXIST);
	if (err) {
		count(DNS_STAT_FULL);
		return 0;
	}
	io->asked = 1;
	announce(l->process_start, l->tgid);
	return 0;
}

static __always_inline int answer(struct dns_io *io, struct dns_key *key, __u8 code)
{
	struct dns_scratch *b = get_scratch();
	struct dns_lookup *l;
	__u64 now;
	__u32 n;

	if (!b)
		return 0;
	l = bpf_map_lookup_elem(&questions, key);
	if (!l) {
		if (!io->tcp && !io->vector)
			count(DNS_STAT_UNMATCHED);
		return 0;
	}
	now = bpf_ktime_get_ns();
	/* what is deleted may be used again at once */
	b->lookup = *l;
	if (bpf_map_delete_elem(&questions, key))
		return 0; /* user space has given it up just now */
	l = &b->lookup;
	l->duration_ns = now > l->start_ns ? now - l->start_ns : 0;
	l->code = code;
	n = l->name_length;
	if (n > DNS_NAME)
		n = DNS_NAME;
	if (emit(l, __builtin_offsetof(struct dns_lookup, name) + n))
		count(DNS_STAT_DROPPED);
	return 0;
}

/* Looks at the message that begins at pos of the window and has n bytes there. */
__noinline int message(struct dns_io *io, __u32 pos, __u32 n)
{
	struct dns_scratch *b = get_scratch();
	struct dns_key key = {};
	__u32 length = 0, flags;

	if (!b || !io || n < DNS_HEAD || pos > 1023 || n > 1023)
		return 0;
	flags = BE16(b, pos + 2);
	if (flags >> 11 & 15)
		return 0; /* a notification, an update */
	key.cookie = io->cookie;
	key.id = BE16(b, pos);
	if (BE16(b, pos + 4) == 1)
		length = name_length(pos + DNS_HEAD, pos + n);
	if (length > 255 || length + 4 + DNS_HEAD > n)
		length = 0;
	if (!(flags & 0x8000)) {
		key.side = io->sent ? DNS_CLIENT : DNS_SERVER;
		if (!length)
			return 0;
		if (key.side == DNS_SERVER)
			key.question = digest(b, pos + DNS_HEAD, length + 4);
		return ask(io, &key, pos + DNS_HEAD, length);
	}
	key.side = io->sent ? DNS_SERVER : DNS_CLIENT;
	if (key.side == DNS_SERVER && length)
		key.question = digest(b, pos + DNS_HEAD, length + 4);
	return answer(io, &key, flags & 15);
}

/* Takes one more buffer into the window. */
__noinline int gather(struct dns_io *io)
{
	struct dns_scratch *b = get_scratch();
	__u64 v[2];
	__u32 n, at;

	if (!b || !io || !io->left || io->have >= DNS_WINDOW)
		return 1;
	if (!io->room) {
		if (!io->iov || !io->iovs || bpf_probe_read_user(v, sizeof(v), (void *)io->iov))
			return 1;
		io->iov += sizeof(v);
		io->iovs--;
		io->base = v[0];
		io->room = v[1];
		return 0;
	}
	n = io->left;
	if (n > io->room)
		n = io->room;
	at = io->have;
	if (n > DNS_WINDOW - at)
		n = DNS_WINDOW - at;
	asm volatile("%0 &= 1023" : "+r"(n));
	asm volatile("%0 &= 1023" : "+r"(at));
	if (bpf_probe_read_user(b->data + at, n, (void *)io->base)) {
		count(DNS_STAT_UNREADABLE);
		return 1;
	}
	io->have = at + n;
	io->left -= n;
	io->base += n;
	io->room -= n;
	return 0;
}

static __always_inline void gather_all(struct dns_io *io)
{
	for (int i = 0; i < 8; i++) {
		if (gather(io))
			break;
	}
}

/* Whom an unconnected socket asks, from the sockaddr that the caller gave. */
__noinline int destination(struct dns_io *io)
{
	__u8 a[24] = {};

	if (!io || !io->name || bpf_probe_read_user(a, 16, (void *)io->name))
		return 0;
	if (!is_port((__u16)a[2] << 8 | a[3]))
		return 0;
	if (*(__u16 *)a == AF_INET) {
		io->addr[0] = 0;
		io->addr[1] = 0;
		io->addr[2] = bpf_htonl(0xffff);
		io->addr[3] = *(__u32 *)(a + 4);
		return 1;
	}
	if (*(__u16 *)a != AF_INET6 || bpf_probe_read_user(a, 24, (void *)io->name))
		return 0;
	io->addr[0] = *(__u32 *)(a + 8);
	io->addr[1] = *(__u32 *)(a + 12);
	io->addr[2] = *(__u32 *)(a + 16);
	io->addr[3] = *(__u32 *)(a + 20);
	return 1;
}

/* Points the cursor at what a struct user_msghdr describes. */
static __always_inline int header(struct dns_io *io, __u64 at)
{
	__u64 h[4]; /* name, its length, iovec, how many */

	if (bpf_probe_read_user(h, sizeof(h), (void *)at))
		return 1;
	io->name = h[0];
	io->base = 0;
	io->room = 0;
	io->iov = h[2];
	io->iovs = h[3];
	return 0;
}

/* Looks at the messages of sendmmsg or recvmmsg. */
__noinline int each(struct dns_io *io, __u32 i)
{
	if (!io || i >= io->vectors || header(io, io->vector + i * 64ULL))
		return 1;
	if (io->unconnected && io->sent && !destination(io))
		return 0;
	io->have = 0;
	io->left = DNS_WINDOW;
	gather_all(io);
	message(io, 0, io->have);
	return 0;
}

/* Follows messages over TCP: each comes after its length, two bytes. */
__noinline int frame(struct dns_io *io, struct dns_socket *s)
{
	struct dns_scratch *b = get_scratch();
	__u32 d, pos, rest, n;

	if (!b || !io || !s || !io->left)
		return 1;
	d = io->sent & 1;
	pos = io->pos;
	if (!s->left[d]) {
		if (pos >= io->have)
			goto lost;
		if (s->halved[d]) {
			s->left[d] = (__u16)s->high[d] << 8 | byte(b, pos);
			s->halved[d] = 0;
			n = 1;
		} else if (io->left == 1) {
			s->high[d] = byte(b, pos);
			s->halved[d] = 1;
			return 1;
		} else {
			s->left[d] = BE16(b, pos);
			n = 2;
		}
		s->fresh[d] = 1;
		io->pos = pos + n;
		io->left -= n;
		if (s->left[d] < DNS_HEAD)
			goto lost;
		return 0;
	}
	n = s->left[d];
	if (n > io->left)
		n = io->left;
	if (s->fresh[d]) {
		s->fresh[d] = 0;
		rest = pos < io->have ? io->have - pos : 0;
		if (rest > n)
			rest = n;
		if (rest < DNS_HEAD)
			count(DNS_STAT_FRAMING);
		else
			message(io, pos, rest);
	}
	s->left[d] -= n;
	io->left -= n;
	io->pos = pos + n;
	return 0;
lost:
	count(DNS_STAT_FRAMING);
	s->ignored = 1;
	return 1;
}

/* Finds the user's buffers by the registers of the call. */
static __always_inline bool buffers(struct dns_io *io)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct pt_regs *regs;

	if (task->flags & PF_IO_WORKER) {
		count(DNS_STAT_IO_URING);
		return false;
	}
	regs = (void *)bpf_task_pt_regs((void *)task);
	switch (SYSCALL_NR(regs)) {
	case NR_sendto:
		io->name = SYSCALL_ARG5(regs);
		/* fallthrough */
	case NR_read:
	case NR_write:
	case NR_recvfrom:
		io->base = SYSCALL_ARG2(regs);
		io->room = io->left;
		return true;
	case NR_readv:
	case NR_writev:
	case NR_preadv2:
	case NR_pwritev2:
		io->iov = SYSCALL_ARG2(regs);
		io->iovs = SYSCALL_ARG3(regs);
		return true;
	case NR_sendmsg:
	case NR_recvmsg:
		if (!header(io, SYSCALL_ARG2(regs)))
			return true;
		count(DNS_STAT_UNREADABLE);
		return false;
	case NR_sendmmsg:
	case NR_recvmmsg:
		io->vector = SYSCALL_ARG2(regs);
		io->vectors = SYSCALL_ARG3(regs);
		return true;
	case NR_io_uring_enter:
		count(DNS_STAT_IO_URING);
		return false;
	}
	count(DNS_STAT_SYSCALL);
	return false;
}

static __always_inline int on_udp(struct sock *sk, struct dns_io *io)
{
	if (!buffers(io))
		return 0;
	if (io->vector) {
		for (__u32 i = 0; i < DNS_VECTOR; i++) {
			if (each(io, i))
				break;
		}
	} else {
		if (io->unconnected && io->sent && !destination(io))
			return 0;
		gather_all(io);
		message(io, 0, io->have);
	}
	if (io->asked && io->sent && io->unconnected)
		dns_sockets_of(sk, true);
	return 0;
}

static __always_inline int on_tcp(struct sock *sk, struct dns_io *io)
{
	__u32 length = io->left;
	struct dns_socket *s;

	s = dns_sockets_of(sk, true);
	if (!s || s->ignored)
		return 0;
	if (!buffers(io) || io->vector) {
		s->ignored = 1;
		return 0;
	}
	io->tcp = 1;
	gather_all(io);
	io->left = length;
	for (int i = 0; i < 64; i++) {
		if (frame(io, s))
			break;
	}
	return 0;
}

static __always_inline int on_io(struct sock *sk, int ret, int flags, __u8 sent)
{
	__u16 family = GET(sk, __sk_common.skc_family);
	__u16 protocol = GET(sk, sk_protocol);
	struct dns_io io = {};
	__u16 port;

	if (ret <= 0 || (protocol != IPPROTO_UDP && protocol != IPPROTO_TCP))
		return 0;
	if (family != AF_INET && family != AF_INET6)
		return 0;
	port = bpf_ntohs(GET(sk, __sk_common.skc_dport));
	if (!is_port(port) && !is_port(GET(sk, __sk_common.skc_num))) {
		if (port || protocol == IPPROTO_TCP)
			return 0;
		/* unconnected: whom it asks is told by each call */
		if (!sent && !dns_sockets_of(sk, false))
			return 0;
		io.unconnected = 1;
	}
	if (!sent && (flags & (MSG_PEEK | MSG_ERRQUEUE)))
		return 0;
	if (bpf_get_current_pid_tgid() >> 32 == self_tgid)
		return 0;
	io.sent = sent;
	io.left = ret;
	io.cookie = number_of(sk);
	if (port)
		peer_of(sk, io.addr);
	if (protocol == IPPROTO_TCP)
		return on_tcp(sk, &io);
	return on_udp(sk, &io);
}
