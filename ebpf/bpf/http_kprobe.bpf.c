//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP where TCP's own functions begin and return, by kprobes: for kernels
 * without the tracepoints sock_recv_length and sock_send_length that have no
 * fexit, as those for arm64 before 6.4. Pointers have no types there: sockets are
 * read by copying, and their state is kept by their address. */
#include "http_core.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
#if defined(__TARGET_ARCH_x86)
struct pt_regs___call {
	unsigned long di;
	unsigned long cx;
	unsigned long r8;
	unsigned long ax;
};
#define CALL_ARG1(r) ((r)->di)
#define CALL_ARG4(r) ((r)->cx)
#define CALL_ARG5(r) ((r)->r8)
#define CALL_RESULT(r) ((r)->ax)
#else
struct pt_regs___call {
	__u64 regs[31];
};
#define CALL_ARG1(r) ((r)->regs[0])
#define CALL_ARG4(r) ((r)->regs[3])
#define CALL_ARG5(r) ((r)->regs[4])
#define CALL_RESULT(r) ((r)->regs[0])
#endif
#pragma clang attribute pop

/* Set by user space: the arguments of tcp_recvmsg, which was 6 before 5.19. */
const volatile __u32 receive_arguments = 5;

/* Connections by the address of their socket. The one that was used longest ago
 * gives way. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct conn);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct conn);
} zero_conn SEC(".maps");

/* A call under way. */
struct call {
	__u64 sk;
	__u32 flags;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* thread, and the direction in the highest bit */
	__type(value, struct call);
} calls SEC(".maps");

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
	return bpf_map_lookup_elem(&sockets, &sk);
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

static __always_inline int enter(__u64 sk, __u32 flags, __u64 sent)
{
	struct call call = { .sk = sk, .flags = flags };
	__u64 id = bpf_get_current_pid_tgid() | sent << 63;

	bpf_map_update_elem(&calls, &id, &call, BPF_ANY);
	return 0;
}

static __always_inline int leave(int ret, __u64 sent)
{
	__u64 id = bpf_get_current_pid_tgid() | sent << 63, sk;
	struct call *call = bpf_map_lookup_elem(&calls, &id);
	__u32 flags;

	if (!call)
		return 0;
	sk = call->sk;
	flags = call->flags;
	bpf_map_delete_elem(&calls, &id);
	return on_io_at(sk, ret, flags, sent);
}

SEC("kprobe/tcp_recvmsg")
int receiving(struct pt_regs___call *ctx)
{
	__u64 fourth = CALL_ARG4(ctx), fifth = CALL_ARG5(ctx);

	/* else the compiler computes an address of the context, which is refused */
	asm volatile("" : "+r"(fourth), "+r"(fifth));
	return enter(CALL_ARG1(ctx), receive_arguments == 6 ? fifth : fourth, 0);
}

SEC("kretprobe/tcp_recvmsg")
int received(struct pt_regs___call *ctx)
{
	return leave(CALL_RESULT(ctx), 0);
}

SEC("kprobe/tcp_sendmsg")
int sending(struct pt_regs___call *ctx)
{
	return enter(CALL_ARG1(ctx), 0, 1);
}

SEC("kretprobe/tcp_sendmsg")
int sent(struct pt_regs___call *ctx)
{
	return leave(CALL_RESULT(ctx), 1);
}

/* sendfile, until 6.5 */
SEC("kprobe/tcp_sendpage")
int sending_page(struct pt_regs___call *ctx)
{
	return enter(CALL_ARG1(ctx), 0, 1);
}

SEC("kretprobe/tcp_sendpage")
int sent_page(struct pt_regs___call *ctx)
{
	return leave(CALL_RESULT(ctx), 1);
}

/* what sockets do when data has come, unless a module has put itself there */
SEC("kprobe/sock_def_readable")
int ready(struct pt_regs___call *ctx)
{
	__u64 at = CALL_ARG1(ctx);
	struct sock *sk = (void *)at;
	struct conn *c;

	if (!is_tcp(sk) || BPF_CORE_READ(sk, __sk_common.skc_state) == LISTEN)
		return 0;
	c = conn_at(at);
	if (c && !c->ready_ns && !c->ignored)
		c->ready_ns = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(closed, struct sock *sk, int oldstate, int newstate)
{
	__u64 at = (__u64)sk;

	conn_state(bpf_map_lookup_elem(&sockets, &at), newstate);
	if (newstate == CLOSE)
		bpf_map_delete_elem(&sockets, &at);
	return 0;
}
