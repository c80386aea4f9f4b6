//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP where TCP's own functions begin and return, by kprobes: for kernels
 * without the tracepoints sock_recv_length and sock_send_length that have no
 * fexit, as those for arm64 before 6.4. Pointers have no types there: sockets are
 * read by copying, and their state is kept by their address. */
#include "http_copy.h"

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
	return on_ready_at(CALL_ARG1(ctx));
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(closed, struct sock *sk, int oldstate, int newstate)
{
	return on_state_at((__u64)sk, newstate);
}
