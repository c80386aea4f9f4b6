/* SPDX-License-Identifier: Apache-2.0 */
/* Histograms of durations: log2-linear buckets, four to an octave and twenty
 * octaves from 2^MIN_EXP ns on, split where an exported bound falls. */
#pragma once

#include "kernel.h"

#ifndef MIN_EXP
#define MIN_EXP 14
#endif
#define FINE 82
#define SLOTS 112

/* Filled by user space: the exported bound that falls into a fine bucket (or
 * all ones), and the slot at which the bucket begins. */
const volatile __u64 edge[128] = {};
const volatile __u8 slot[128] = {};

/* Always below SLOTS; callers must tell the verifier. */
static __always_inline __u32 duration_slot(__u64 ns)
{
	__u64 v = ns ? ns - 1 : 0;
	__u32 e = log2_64(v), f;

	if (e < MIN_EXP)
		f = 0;
	else if (e >= MIN_EXP + 20)
		f = FINE - 1;
	else
		f = 1 + (e - MIN_EXP) * 4 + ((v >> (e - 2)) & 3);
	/* the compiler knows that f is small, the verifier does not */
	asm volatile("%0 &= 127" : "+r"(f));
	return slot[f] + (ns > edge[f]);
}
