//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 */
/* http_kprobe.bpf.c for kernels without bpf_loop (before 5.17). An I/O is followed for
 * fewer steps. */
#define BOUNDED 512
#include "http_kprobe.bpf.c"
