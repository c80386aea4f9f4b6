//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP where TCP's own functions return: for kernels without the tracepoints
 * sock_recv_length and sock_send_length, but with bpf_loop (5.17 to 6.2). */
#include "http_core.h"
#include "hook_fexit.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* what sockets do when data has come, unless a module has put itself there */
SEC("fentry/sock_def_readable")
int BPF_PROG(ready, struct sock *sk)
{
	return on_ready(sk, 0);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(closed, struct sock *sk, int oldstate, int newstate)
{
	return on_state(sk, newstate);
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(destroyed, struct sock *sk)
{
	return on_destroy(sk);
}
