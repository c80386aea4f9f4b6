/* SPDX-License-Identifier: Apache-2.0 */
/* A ring buffer, and when its reader is woken.
 *
 * A wake-up is an interrupt, which costs more than all else about an event. So the
 * reader is woken once for each RING_STEP bytes that are written, however far behind
 * it is; it looks into the ring every so often by itself, too. One that sleeps had
 * read everything: when it is woken, little more than a step waits for it, or two if
 * the ring was full at the one before. */
#pragma once

#include "kernel.h"

/* Those who include it may say otherwise. */
#ifndef RING
#define RING events
#endif
#ifndef RING_BYTES
#define RING_BYTES (256 * 1024)
#endif
#ifndef RING_STEP
#define RING_STEP (RING_BYTES / 4)
#endif
_Static_assert(RING_STEP <= RING_BYTES / 4, "the reader would come too late");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RING_BYTES);
} RING SEC(".maps");

/* The steps that the reader was woken for. */
__u64 woken = 0;

/* How the reader is told of size bytes to come, 0: they lie in the ring. Who finds
 * that nobody has woken it for a step does. So none is lost when several write at
 * once, each of them short of the step; more than one may wake it then. */
static __always_inline __u64 wake(__u64 size)
{
	__u64 step = (bpf_ringbuf_query(&RING, BPF_RB_PROD_POS) + size) / RING_STEP;

	if (step <= woken)
		return BPF_RB_NO_WAKEUP;
	woken = step;
	return BPF_RB_FORCE_WAKEUP;
}

/* Returns 0, or an error when there is no room. */
static __always_inline long emit(void *event, __u64 size)
{
	return bpf_ringbuf_output(&RING, event, size, wake(size));
}
