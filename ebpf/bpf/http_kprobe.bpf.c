//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP where TCP's own functions begin and return, by kprobes. */
#define UNTYPED
#include "http_core.h"
#include "hook_kprobe.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* what sockets do when data has come, unless a module has put itself there */
SEC("kprobe/sock_def_readable")
int ready(struct pt_regs___call *ctx)
{
	return on_ready((void *)CALL_ARG1(ctx), 0);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(closed, struct sock *sk, int oldstate, int newstate)
{
	return on_state(sk, newstate);
}
