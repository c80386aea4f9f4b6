//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 */
/* DNS where the functions of TCP and UDP begin and return, by kprobes. */
#define UNTYPED
#include "dns_core.h"
#define HOOK_UDP
#include "hook_kprobe.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Another socket will be at its address. */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(closed, struct sock *sk, int oldstate, int newstate)
{
	if (newstate == CLOSE || begins(newstate))
		dns_sockets_forget(sk);
	return 0;
}
