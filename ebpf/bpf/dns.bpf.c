//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 */
/* DNS where sockets are read and written: the programs for kernels with the
 * tracepoints sock_recv_length and sock_send_length. */
#include "dns_core.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tp_btf/sock_recv_length")
int BPF_PROG(dns_received, struct sock *sk, int ret, int flags)
{
	return on_io(sk, ret, flags, 0);
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(dns_sent, struct sock *sk, int ret, int flags)
{
	return on_io(sk, ret, flags, 1);
}
