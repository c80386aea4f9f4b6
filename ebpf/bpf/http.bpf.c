//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 */
/* Counts HTTP/1.x requests where TCP sockets are read and written: the programs
 * for kernels with the tracepoints sock_recv_length and sock_send_length. */
#include "http_core.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tp_btf/sock_recv_length")
int BPF_PROG(received, struct sock *sk, int ret, int flags)
{
	return on_io(sk, ret, flags, 0);
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(sent, struct sock *sk, int ret, int flags)
{
	return on_io(sk, ret, flags, 1);
}

SEC("tp_btf/sk_data_ready")
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
