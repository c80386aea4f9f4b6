//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 */
/* What TLS libraries are handed and hand out: the programs for kernels with the
 * tracepoints sock_recv_length and sock_send_length. */
#include "tls_core.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tp_btf/sock_recv_length")
int BPF_PROG(received, struct sock *sk, int ret, int flags)
{
	return on_io(sk, ret, flags, false);
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(sent, struct sock *sk, int ret, int flags)
{
	return on_io(sk, ret, flags, true);
}

SEC("tp_btf/sk_data_ready")
int BPF_PROG(ready, struct sock *sk)
{
	return on_ready(sk);
}
