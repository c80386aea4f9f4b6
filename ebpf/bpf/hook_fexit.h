/* SPDX-License-Identifier: Apache-2.0 */
/* Calls on_io where TCP's own functions return, and UDP's with HOOK_UDP defined:
 * for kernels without the tracepoints sock_recv_length and sock_send_length. */
#pragma once

#include "kernel.h"

/* Set by user space: the arguments of functions that receive, 6 before 5.19, then 5,
 * and 4 without the address of the sender. */
const volatile __u32 receive_arguments = 5;

static __always_inline int on_receive(__u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];

	if (receive_arguments == 6)
		return on_io(sk, (int)ctx[6], (int)ctx[4], 0);
	if (receive_arguments == 4)
		return on_io(sk, (int)ctx[4], (int)ctx[3], 0);
	return on_io(sk, (int)ctx[5], (int)ctx[3], 0);
}

SEC("fexit/tcp_recvmsg")
int received(__u64 *ctx)
{
	return on_receive(ctx);
}

SEC("fexit/tcp_sendmsg")
int BPF_PROG(sent, struct sock *sk, void *msg, unsigned long size, int ret)
{
	return on_io(sk, ret, 0, 1);
}

#ifdef HOOK_UDP
SEC("fexit/udp_recvmsg")
int received_udp(__u64 *ctx)
{
	return on_receive(ctx);
}

SEC("fexit/udpv6_recvmsg")
int received_udp6(__u64 *ctx)
{
	return on_receive(ctx);
}

SEC("fexit/udp_sendmsg")
int BPF_PROG(sent_udp, struct sock *sk, void *msg, unsigned long size, int ret)
{
	/* called by udpv6_sendmsg, which is seen itself */
	if (sk->__sk_common.skc_family == AF_INET6)
		return 0;
	return on_io(sk, ret, 0, 1);
}

SEC("fexit/udpv6_sendmsg")
int BPF_PROG(sent_udp6, struct sock *sk, void *msg, unsigned long size, int ret)
{
	return on_io(sk, ret, 0, 1);
}
#else
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
#endif
