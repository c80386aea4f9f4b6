/* SPDX-License-Identifier: Apache-2.0 */
/* A ring buffer whose reader is woken when a quarter of it is full; it looks
 * into it every so often by itself. A wake-up costs more than all else about an
 * event. */
#pragma once

#include "kernel.h"

#ifndef RING_BYTES
#define RING_BYTES (256 * 1024)
#endif

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RING_BYTES);
} events SEC(".maps");

/* Returns 0, or an error when there is no room. */
static __always_inline long emit(void *event, __u64 size)
{
	__u64 waiting = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);

	return bpf_ringbuf_output(&events, event, size,
				  waiting > RING_BYTES / 4 ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
}
