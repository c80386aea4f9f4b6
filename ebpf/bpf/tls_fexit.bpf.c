//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 */
/* What TLS libraries are handed and hand out; their sockets where TCP's own
 * functions return. */
#include "tls_core.h"
#include "hook_fexit.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* what sockets do when data has come, unless a module has put itself there */
SEC("fentry/sock_def_readable")
int BPF_PROG(ready, struct sock *sk)
{
	return on_ready(sk);
}
