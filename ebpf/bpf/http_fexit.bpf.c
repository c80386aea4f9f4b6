//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP where TCP's own functions return: for kernels without the tracepoints
 * sock_recv_length and sock_send_length, but with bpf_loop (5.17 to 6.2). */
#include "http_core.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Set by user space: the arguments of tcp_recvmsg, 6 before 5.19, then 5, and 4
 * without the address of the sender. */
const volatile __u32 receive_arguments = 5;

SEC("fexit/tcp_recvmsg")
int received(__u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];

	if (receive_arguments == 6)
		return on_io(sk, (int)ctx[6], (int)ctx[4], 0);
	if (receive_arguments == 4)
		return on_io(sk, (int)ctx[4], (int)ctx[3], 0);
	return on_io(sk, (int)ctx[5], (int)ctx[3], 0);
}

SEC("fexit/tcp_sendmsg")
int BPF_PROG(sent, struct sock *sk, void *msg, unsigned long size, int ret)
{
	return on_io(sk, ret, 0, 1);
}

/* sendfile, until 6.5 */
SEC("fexit/tcp_sendpage")
int BPF_PROG(sent_page, struct sock *sk, void *page, int offset, unsigned long size, int flags, int ret)
{
	return on_io(sk, ret, 0, 1);
}

SEC("fexit/tcp_splice_read")
int BPF_PROG(received_splice, struct socket *sock, void *pos, void *pipe, unsigned long len, unsigned int flags, long ret)
{
	return on_io(sock->sk, ret, 0, 0);
}

/* what sockets do when data has come, unless a module has put itself there */
SEC("fentry/sock_def_readable")
int BPF_PROG(ready, struct sock *sk)
{
	return on_ready(sk);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(closed, struct sock *sk, int oldstate, int newstate)
{
	return on_state(sk, newstate);
}
