/* SPDX-License-Identifier: Apache-2.0 */
/* http_core.h for programs whose pointers have no types: sockets are read by
 * copying, and their state is kept by their address. */
#pragma once

#include "http.h"

/* Connections by the address of their socket. The one that was used longest ago
 * gives way. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct conn);
} sockets SEC(".maps");

#include "http_core.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct conn);
} zero_conn SEC(".maps");

static __always_inline struct conn *conn_at(__u64 sk)
{
	struct conn *c = bpf_map_lookup_elem(&sockets, &sk);
	__u32 zero = 0;

	if (c)
		return c;
	c = bpf_map_lookup_elem(&zero_conn, &zero);
	if (!c)
		return 0;
	bpf_map_update_elem(&sockets, &sk, c, BPF_NOEXIST);
	c = bpf_map_lookup_elem(&sockets, &sk);
#ifdef COPIES
	if (c)
		c->at = sk;
#endif
	return c;
}

/* Both are read through these, which copy. */
static __always_inline bool is_tcp(struct sock *sk)
{
	return BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP;
}

static __always_inline void describe(struct conn *c, struct sock *sk)
{
	c->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	c->peer_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET6) {
		BPF_CORE_READ_INTO(&c->addr, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr32);
		return;
	}
	c->addr[0] = 0;
	c->addr[1] = 0;
	c->addr[2] = bpf_htonl(0xffff);
	c->addr[3] = BPF_CORE_READ(sk, __sk_common.skc_daddr);
}

/* span_conn, copying. */
static __always_inline void span_conn_at(struct conn *c, struct sock *sk)
{
	struct sock___span *s = (void *)sk;

	if (!spanning)
		return;
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET6) {
		BPF_CORE_READ_INTO(&c->local_addr, s, __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32);
	} else {
		c->local_addr[0] = 0;
		c->local_addr[1] = 0;
		c->local_addr[2] = bpf_htonl(0xffff);
		c->local_addr[3] = BPF_CORE_READ(s, __sk_common.skc_rcv_saddr);
	}
	c->netns = BPF_CORE_READ(s, __sk_common.skc_net.net, ns.inum);
	c->tuple = hash_end(c->local_addr, c->local_port) + hash_end(c->addr, c->peer_port);
}

static __always_inline int on_io_at(__u64 at, int ret, __u32 flags, __u8 sent)
{
	struct tcp_sock *tp = (void *)at;
	struct sock *sk = (void *)at;
	struct io io = {};
	struct scratch *b;
	struct conn *c;

	if (ret <= 0 || !is_tcp(sk))
		return 0;
	if (!sent && (flags & (MSG_PEEK | MSG_ERRQUEUE)))
		return 0;
	c = conn_at(at);
	if (!c || c->ignored)
		return 0;
	b = get_scratch(sent);
	if (!b)
		return 0;
	b->virgin = 0;
	b->now = bpf_ktime_get_ns();
	b->arrived = b->now;
	if (!c->tgid) {
		if (!owner(c)) {
			c->ignored = 1;
			return 0;
		}
		describe(c, sk);
		span_conn_at(c, sk);
	}
	if (!sent) {
		__u32 copied = BPF_CORE_READ(tp, copied_seq), unread = BPF_CORE_READ(tp, rcv_nxt) - copied;

		b->end_seq = copied;
		if (c->ready_ns)
			b->arrived = c->ready_ns;
		if (!unread)
			c->ready_ns = 0;
		if (c->role == ROLE_UNKNOWN)
			b->virgin = BPF_CORE_READ(tp, bytes_received) - unread == (__u64)ret;
	} else if (spanning) {
		struct tcp_sock___span *t = (void *)at;

		b->end_seq = BPF_CORE_READ(t, write_seq);
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

/* Starts the clock of what the application will read. */
static __always_inline int on_ready_at(__u64 at)
{
	struct sock *sk = (void *)at;
	struct conn *c;

	if (!is_tcp(sk) || BPF_CORE_READ(sk, __sk_common.skc_state) == LISTEN)
		return 0;
	c = conn_at(at);
	if (c && !c->ready_ns && !c->ignored)
		c->ready_ns = bpf_ktime_get_ns();
	return 0;
}

static __always_inline int on_state_at(__u64 at, int newstate)
{
	conn_state(bpf_map_lookup_elem(&sockets, &at), newstate);
	/* What is left of a socket that was at this address: one that is read after
	 * its end is kept anew. */
	if (newstate == CLOSE || newstate == SYN_SENT || newstate == SYN_RECV)
		bpf_map_delete_elem(&sockets, &at);
	return 0;
}
