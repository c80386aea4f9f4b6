/* SPDX-License-Identifier: Apache-2.0 */
/* Calls on_io where TCP's own functions return, and UDP's with HOOK_UDP defined,
 * by kprobes: for kernels without the tracepoints sock_recv_length and
 * sock_send_length that have no fexit, as those for arm64 before 6.4. */
#pragma once

#include "untyped.h"

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

/* Set by user space: the arguments of functions that receive, 6 before 5.19, then 5,
 * and 4 without the address of the sender. */
const volatile __u32 receive_arguments = 5;

/* A call under way. */
struct hooked {
	__u64 sk;
	__u32 flags;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* thread, and the direction in the highest bit */
	__type(value, struct hooked);
} hooked SEC(".maps");

static __always_inline int hook_enter(struct pt_regs___call *ctx, __u64 sends)
{
	__u64 fourth = CALL_ARG4(ctx), fifth = CALL_ARG5(ctx);
	__u64 id = bpf_get_current_pid_tgid() | sends << 63;
	struct hooked call = { .sk = CALL_ARG1(ctx) };

	/* else the compiler computes an address of the context, which is refused */
	asm volatile("" : "+r"(fourth), "+r"(fifth));
	if (!sends)
		call.flags = receive_arguments == 6 ? fifth : fourth;
	bpf_map_update_elem(&hooked, &id, &call, BPF_ANY);
	return 0;
}

/* One that was called by another of them is seen, and the other is not. */
static __always_inline int hook_leave(struct pt_regs___call *ctx, __u64 sends)
{
	__u64 id = bpf_get_current_pid_tgid() | sends << 63, sk;
	struct hooked *call = bpf_map_lookup_elem(&hooked, &id);
	__u32 flags;

	if (!call)
		return 0;
	sk = call->sk;
	flags = call->flags;
	bpf_map_delete_elem(&hooked, &id);
	return on_io((void *)sk, (int)CALL_RESULT(ctx), flags, sends);
}

#define HOOK(function, name, sends)               \
	SEC("kprobe/" #function)                  \
	int name##_begins(struct pt_regs___call *ctx) \
	{                                         \
		return hook_enter(ctx, sends);    \
	}                                         \
	SEC("kretprobe/" #function)               \
	int name(struct pt_regs___call *ctx)      \
	{                                         \
		return hook_leave(ctx, sends);    \
	}

HOOK(tcp_recvmsg, received, 0)
HOOK(tcp_sendmsg, sent, 1)
#ifdef HOOK_UDP
HOOK(udp_recvmsg, received_udp, 0)
HOOK(udpv6_recvmsg, received_udp6, 0)
HOOK(udp_sendmsg, sent_udp, 1)
HOOK(udpv6_sendmsg, sent_udp6, 1)
#else
HOOK(tcp_sendpage, sent_page, 1) /* sendfile, until 6.5 */
#endif
