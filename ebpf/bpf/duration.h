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
#ifdef NO_VARIABLES
struct duration_bounds {
	__u64 edge[128];
	__u8 slot[128];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct duration_bounds);
} bounds SEC(".maps");
#else
const volatile __u64 edge[128] = {};
const volatile __u8 slot[128] = {};
#endif

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
#ifdef NO_VARIABLES
	__u32 zero = 0;
	struct duration_bounds *b = bpf_map_lookup_elem(&bounds, &zero);

	return b ? b->slot[f] + (ns > b->edge[f]) : 0;
#else
	return slot[f] + (ns > edge[f]);
#endif
}
